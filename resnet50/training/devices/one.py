"""A single GPU, or the CPU.

Every method passes its arguments through, so the graph of a step is that of a program
for one device only.
"""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from resnet50.network.tracing import traced


class OneDevice:
    """Implements ``protocol.Devices`` for one device."""

    count = 1

    def scope(self) -> contextlib.AbstractContextManager:
        """No scope is needed."""
        return contextlib.nullcontext()

    def to_device(self, *arrays: np.ndarray | None) -> tuple[tf.Tensor | None, ...]:
        """Copies the arrays to TensorFlow's default device."""
        return tuple(None if array is None else tf.constant(array) for array in arrays)

    def compile(self, function: Callable, jit_compile: bool) -> Callable:
        """Makes the function a tf.function."""
        return traced(function, jit_compile=jit_compile)

    def share(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss itself."""
        return loss

    def sum(self, tensors: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """The tensors themselves."""
        return tensors

    def sum_counts(self, counts: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """The counts themselves."""
        return counts

    def average(self, variables: Sequence[tf.Variable]) -> None:
        """Does nothing: there is one copy."""


ONE_DEVICE = OneDevice()
