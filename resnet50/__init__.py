"""ResNet-50 on one GPU, fed by a second process through a disk buffer of batches.

A batch passes through ``preprocessing``, which makes it from ``dataset`` with
``pixels``, ``handoff``, which the two processes share, and ``training``, which trains
the ``network``. ``config``, ``checks``, ``reports`` and ``demo`` serve the user, and
``commands`` are the programs. Only ``network``, ``training`` and the commands that need
them import TensorFlow.
"""
