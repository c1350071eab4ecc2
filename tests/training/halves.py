"""Half-precision types where ONEDNN_MAX_CPU_ISA hides the processor from oneDNN."""

import functools
import os

import pytest
import tensorflow as tf


def skip_where_hidden(precision: str) -> None:
    """Skips a test whose precision the variable makes impossible."""
    if _is_hidden(precision):
        pytest.skip(f"ONEDNN_MAX_CPU_ISA hides the processor's {precision} from oneDNN")


@functools.cache
def _is_hidden(precision: str) -> bool:
    """Whether oneDNN lacks the convolution that TensorFlow leaves to it.

    TensorFlow inspects the processor itself. Where it finds instructions for a type, it
    leaves that type's ops to oneDNN, which lacks them below the variable's limit.
    Without the variable both see the same processor, and a failure is a real one.
    """
    if not {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"} & os.environ.keys():
        return False
    x, kernel = tf.zeros([1, 8, 8, 8], precision), tf.zeros([3, 3, 8, 8], precision)
    try:
        tf.nn.conv2d(x, kernel, 1, "SAME")
    except tf.errors.AbortedError as error:
        return "could not create a primitive descriptor" in error.message
    return False
