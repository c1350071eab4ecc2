"""The ResNet-50: layers, model, and its weights in other programs' formats.

Imports TensorFlow.
"""

import os

# Whoever has set it wants to see TensorFlow's lines.
IS_QUIET = "TF_CPP_MIN_LOG_LEVEL" not in os.environ

# TensorFlow reads these when it is imported.

# Without it, a dozen lines about CPU instructions precede the program's own. Where
# several workers train together, a lost one makes TensorFlow write more of them before
# the program's one-line error.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if "TF_CONFIG" in os.environ else "2")

# Threads of its own for launching a GPU's kernels, so that the threads that read and
# copy batches do not delay them.
os.environ.setdefault("TF_GPU_THREAD_MODE", "gpu_private")
