"""A single GPU, or the CPU.

Every method hands its arguments through, so the graph of a step is that of a program
that knows nothing about several devices.
"""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


class OneDevice:
    """Implements ``protocol.Devices`` for one device."""

    count = 1

    def scope(self) -> contextlib.AbstractContextManager:
        """No scope is needed."""
        return contextlib.nullcontext()

    def to_device(self, *arrays: np.ndarray) -> tuple[tf.Tensor, ...]:
        """Copies the arrays to TensorFlow's default device."""
        return tuple(map(tf.constant, arrays))

    def compile(self, function: Callable, jit_compile: bool) -> Callable:
        """Makes the function a tf.function."""
        return tf.function(function, jit_compile=jit_compile)

    def can_use_xla(self, notify: Callable[[str], None]) -> bool:
        """Always; whether the device can is checked in ``selection``."""
        return True

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
        """Nothing to do: there is one copy."""


ONE_DEVICE = OneDevice()
