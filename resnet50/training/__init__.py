"""The training process: the network, its optimizer, loop, checkpoints, evaluation.

Imports TensorFlow.
"""

import resnet50.network  # noqa: F401, which makes TensorFlow quiet.
