"""What `python -m resnet50 doctor` looks at, without TensorFlow.

Most ``check_*`` functions judge facts that they are given, so that the tests can make
up any machine. Three find facts themselves: ``check_buffer_room`` and
``check_progress`` look into the buffer folder, ``check_gpu`` asks for the card and its
driver.
"""
