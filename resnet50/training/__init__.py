"""The training process: the network, its optimizer, loop, checkpoints, evaluation.

The only room that imports TensorFlow.
"""

import os

# TensorFlow reads it while it is being imported, so this is the last moment: without it
# a dozen lines about CPU instructions come before the program's first own.
# With several workers a lost one makes it write more of them, before our one line.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if "TF_CONFIG" in os.environ else "2")
