"""What a training step needs from the devices that it runs on.

Three classes have the methods of ``Devices``:

    OneDevice                   here: a single GPU, or the CPU
    mirrored.MirroredDevices    several GPUs of one host
    hosts.HostDevices           the devices of several hosts

With several devices, each one is a replica: it trains on its part of every batch.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from resnet50.network.tracing import traced


class Devices(Protocol):
    """The devices that share each batch.

    Attributes:
        count: Their number.
        has_gpu: Whether they are GPUs.

    Only a function that ``compile`` has received may call the last four methods.
    """

    count: int
    has_gpu: bool

    def scope(self) -> contextlib.AbstractContextManager:
        """The context in which all variables must be created."""

    def to_device(self, *arrays: np.ndarray | None) -> tuple[tf.Tensor, ...]:
        """Turns a batch into tensors for compiled functions; keeps None and tensors."""

    def compile(self, function: Callable, jit_compile: bool) -> Callable:
        """Returns a tf.function that runs a function on all replicas.

        Args:
            function: Takes images, labels, shifts or None, and the step's numbers. Each
                replica gets its part of the first three.
            jit_compile: Whether XLA compiles it; impossible with several devices.

        Returns:
            Takes whole batches; returns the result of this host's first replica.
        """

    def share(self, loss: tf.Tensor) -> tf.Tensor:
        """Scales the mean over this replica's part; the sum is the batch's mean."""

    def sum(self, tensors: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """Sums tensors of one type over all replicas."""

    def sum_counts(self, counts: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """Sums integer scalars that count images over all replicas."""

    def average(self, variables: Sequence[tf.Variable]) -> None:
        """Replaces float variables whose copies differ by the mean of the copies."""


class OneDevice:
    """A single GPU, or the CPU: the graph of a step is that of a plain program."""

    count = 1

    def __init__(self, has_gpu: bool = False):
        self.has_gpu = has_gpu

    def scope(self) -> contextlib.AbstractContextManager:
        """No scope is needed."""
        return contextlib.nullcontext()

    def to_device(self, *arrays: np.ndarray | None) -> tuple[tf.Tensor, ...]:
        """Copies the arrays to TensorFlow's default device."""
        return tuple(None if array is None else _copy(array) for array in arrays)

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


def _copy(array: np.ndarray | tf.Tensor) -> tf.Tensor:
    if isinstance(array, tf.Tensor):
        return array
    with tf.device("CPU:0"):
        # Shares the array's memory if it is aligned; tf.constant copies it twice.
        host = tf.raw_ops.Identity(input=array)
    # An op, as other threads can run while it copies to a GPU.
    return tf.identity(host)


ONE_DEVICE = OneDevice()
