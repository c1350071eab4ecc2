"""What a training step needs from the devices that it runs on, and a single one.

Three classes have these methods:

    one.Devices                 a single GPU, or the CPU
    mirrored.MirroredDevices    several GPUs of one host
    hosts.HostDevices           the devices of several hosts

With several devices, each one is a replica: it trains on its part of every batch.
"""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from resnet50.network.tracing import traced


class Devices:
    """The devices that share each batch; ``count`` is their number.

    Only a function that ``compile`` has received may call the last four methods.

    This class is for one device. It passes tensors through, so the graph of a step is
    that of a program without replicas. Its subclasses override all methods.
    """

    count = 1

    def scope(self) -> contextlib.AbstractContextManager:
        """The context in which all variables must be created."""
        return contextlib.nullcontext()

    def to_device(self, *arrays: np.ndarray | None) -> tuple[tf.Tensor | None, ...]:
        """Turns a batch into tensors for compiled functions; keeps None."""
        return tuple(None if array is None else tf.constant(array) for array in arrays)

    def compile(self, function: Callable, jit_compile: bool) -> Callable:
        """Returns a tf.function that runs a function on all replicas.

        Both take images, labels, shifts or None, and the step's numbers. Each replica
        gets its part of the first three. The result is that of this host's first
        replica. jit_compile lets XLA compile it; impossible with several devices.
        """
        return traced(function, jit_compile=jit_compile)

    def share(self, loss: tf.Tensor) -> tf.Tensor:
        """Scales the mean over this replica's part; the sum is the batch's mean."""
        return loss

    def sum(self, tensors: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """Sums tensors of one type over all replicas."""
        return tensors

    def sum_counts(self, counts: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """Sums integer scalars that count images over all replicas."""
        return counts

    def average(self, variables: Sequence[tf.Variable]) -> None:
        """Replaces float variables whose copies differ by the mean of the copies."""


ONE_DEVICE = Devices()
