"""ResNet-50 on one GPU, fed by a second process over a disk buffer of batches.

Three rooms: ``handoff`` is what the two processes share, ``preprocessing`` makes the
batches, ``training`` uses them. Only ``training`` imports TensorFlow.
"""
