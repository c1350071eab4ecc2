"""The training process: the network, its optimizer, loop, checkpoints, evaluation.

The only room that imports TensorFlow.
"""

import os

# TensorFlow reads it while it is being imported, so this is the last moment: without it
# a dozen lines about CPU instructions come before the program's first own.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
