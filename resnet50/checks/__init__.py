"""What `python -m resnet50 doctor` looks at, without TensorFlow.

Finding the facts and judging them are apart: each ``check_*`` is a function of facts
alone, so that the tests can make up any machine.
"""
