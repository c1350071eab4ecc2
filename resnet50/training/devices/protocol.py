"""What a training step needs from the devices that it runs on.

Three classes have the methods of ``Devices``:

    OneDevice                   here: a single GPU, or the CPU
    mirrored.MirroredDevices    several GPUs of one host
    hosts.HostDevices           the devices of several hosts

With several devices, each one is a replica: it trains on its part of every batch.
"""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        """Turns a batch into tensors for compiled functions; keeps None and tensors.

        Labels may become int64.
        """

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

    def __init__(self, has_gpu: bool = False, name: str | None = None):
        """Takes TensorFlow's name of the device; None for the one that it prefers."""
        self.has_gpu = has_gpu
        self._name = name
        self._copiers = ThreadPoolExecutor(thread_name_prefix="copier")

    def scope(self) -> contextlib.AbstractContextManager:
        """No scope is needed."""
        return contextlib.nullcontext()

    def to_device(self, *arrays: np.ndarray | None) -> tuple[tf.Tensor, ...]:
        """Copies the arrays to the device, all at once.

        TensorFlow starts a copy to a GPU when all steps that it has received have
        ended. If the copies came one after another, a batch would wait for several
        steps, and the GPU for the batch.
        """
        is_new = [isinstance(array, np.ndarray) for array in arrays]
        copies = self._copiers.map(self._copy, itertools.compress(arrays, is_new))
        return tuple(next(copies) if new else a for a, new in zip(arrays, is_new))

    def _copy(self, array: np.ndarray) -> tf.Tensor:
        if array.dtype == np.int32:
            # TensorFlow keeps a GPU's int32 tensors in the host's memory. Each step
            # would copy them, and wait like any copy.
            array = array.astype(np.int64)
        host = to_host(array)
        # An op, as other threads can run while it copies to a GPU.
        with tf.device(self._name):
            return tf.identity(host)

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


def to_host(array: np.ndarray) -> tf.Tensor:
    """A tensor in the host's memory; shares the array's memory if that is aligned."""
    with tf.device("CPU:0"):  # tf.constant copies it twice.
        return tf.raw_ops.Identity(input=array)


ONE_DEVICE = OneDevice()
