"""ResNet-50 on one GPU, fed by a second process over a disk buffer of batches.

Three rooms are in a batch's way: ``handoff`` is what the two processes share,
``preprocessing`` makes the batches, ``training`` uses them. ``checks`` and ``reports``
are what a person sees, ``commands`` the programs. Only ``training``, and those commands
that need it, import TensorFlow.
"""
