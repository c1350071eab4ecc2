"""Bounds on the difference between two correct floating-point computations.

The order of a sum, a fused multiply-add and the last bit of a library's function differ
from processor to processor.
"""

import numpy as np
import tensorflow as tf

# The largest relative error of one rounding to nearest.
UNIT_ROUNDOFF = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def sum_bound(num_terms: int, magnitudes):
    """Returns the largest error of a float32 sum of products, in any order.

    Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1: with n
    terms and the unit roundoff u, n u / (1 - n u) times the sum of the magnitudes.

    Args:
        num_terms: n.
        magnitudes: The sum of the products' absolute values.
    """
    rounding = num_terms * UNIT_ROUNDOFF["float32"]
    assert rounding < 0.1, rounding
    return rounding / (1 - rounding) * magnitudes


def difference(value, expected) -> float:
    """The 2-norm of the difference, divided by that of the expected value."""
    value, expected = np.asarray(value, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(value - expected) / np.linalg.norm(expected))


def joined(arrays) -> np.ndarray:
    """All values of some arrays or variables, float64, one after the other."""
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])


def make_smooth(monkeypatch) -> None:
    """Makes a test's networks smooth: at kinks, rounding makes gradients jump."""
    monkeypatch.setattr(tf.nn, "relu", tf.nn.softplus)
    monkeypatch.setattr(tf.nn, "max_pool2d", tf.nn.avg_pool2d)
