"""ResNet-50 on one GPU, fed by a second process through a disk buffer of batches.

A batch passes through ``preprocessing``, which makes it from ``dataset`` with
``pixels``, ``handoff``, which the two processes share, and ``training``, which trains
the ``network``. ``config``, ``checks``, ``reports`` and ``demo`` serve the user, and
``commands`` are the programs. Only ``network``, ``training`` and the commands that need
them import TensorFlow.
"""

import importlib.util
import sys

# Before any module imports it. There is no other way to lock the folders.
if importlib.util.find_spec("fcntl") is None:
    sys.exit(
        "resnet50: this Python has no fcntl, and cannot lock files (on Windows, use "
        "WSL2: see docs/container.md)"
    )
