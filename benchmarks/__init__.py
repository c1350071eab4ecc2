"""Measurements; run in the repository as `python3 -m benchmarks.NAME`.

Every process computes with one thread: numpy, torch and the rest read these variables
when they are first imported, so they are set here, before any of them. TensorFlow does
not look at them, and takes all cores.
"""

import os

for _variable in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
):
    os.environ[_variable] = "1"
