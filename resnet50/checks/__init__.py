"""The checks of `python -m resnet50 doctor`, without TensorFlow.

The ``check_*`` functions judge facts that they are given, so that a test can invent any
machine. Only ``check_buffer_room`` and ``check_progress`` read the buffer folder.
"""
