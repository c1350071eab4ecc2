"""The devices that train together, each on its part of every batch.

One device needs none of this: ``OneReplica`` hands everything through, and the graph of
a step is that of a program without replicas. ``Replicas`` runs the step under a
strategy of tf.distribute. There, one rule holds for all variables, weights, statistics
and counters alike: their copies are equal at all times. Each replica assigns to its own
copy, without TensorFlow's aggregations, and what depends on its part of the batch goes
through a sum over all replicas first. So a checkpoint takes any one copy, knows nothing
of how many there were, and is as exact as that of one device.

The strategies' ON_READ variables, made for moving statistics, would break that rule:
their copies differ between two checkpoints, and the mean of them that is saved is not
what an undisturbed training goes on with.
"""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from resnet50.config.settings import ConfigError


class OneReplica:
    """A single device, and what several devices share in one way or another.

    Attributes:
        count: How many devices there are.
    """

    count = 1

    def scope(self) -> contextlib.AbstractContextManager:
        """In which variables have to be created."""
        return contextlib.nullcontext()

    def to_device(self, *arrays: np.ndarray | None) -> tuple[tf.Tensor | None, ...]:
        """Puts a batch's arrays where ``compile``d functions take them; keeps None."""
        return tuple(None if array is None else tf.constant(array) for array in arrays)

    def compile(self, function: Callable, jit_compile: bool) -> Callable:
        """A tf.function that runs a function on all replicas.

        Args:
            function: Takes images, labels, shifts or None, and the step's numbers. Each
                replica gets its part of the first three. May use the methods below.
            jit_compile: Whether XLA compiles it.

        Returns:
            Takes whole batches; returns what ``function`` returned on the first replica
            here.
        """
        return tf.function(function, jit_compile=jit_compile)

    def can_use_xla(self, notify: Callable[[str], None]) -> bool:
        """Whether ``compile`` takes jit_compile; says so if not."""
        return True

    def share(self, loss: tf.Tensor) -> tf.Tensor:
        """What a mean over this replica's part counts in that over the batch."""
        return loss

    def sum(self, tensors: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """The sums of tensors, all of one type, over all replicas."""
        return tensors

    def sum_counts(self, counts: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """The sums of scalars that count images of the batch, integers."""
        return counts

    def average(self, variables: Sequence[tf.Variable]) -> None:
        """Gives float variables whose copies differ their mean."""
        return None


class Replicas(OneReplica):
    """Several devices of one machine, or of several."""

    def __init__(self, strategy: tf.distribute.Strategy):
        """Takes a strategy of tf.distribute; its replicas are the devices."""
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync

    def scope(self) -> contextlib.AbstractContextManager:
        """The strategy's."""
        return self.strategy.scope()

    def to_device(self, *arrays: np.ndarray | None) -> tuple[tf.Tensor | None, ...]:
        """Puts them in the memory of the host."""
        # On the first GPU a batch would be in its memory whole, and half of it be
        # copied on from there.
        with tf.device("CPU:0"):
            return super().to_device(*arrays)

    def compile(self, function: Callable, jit_compile: bool) -> Callable:
        """Runs the function on all replicas at once; jit_compile must be false."""
        assert not jit_compile, "XLA does not compile sums over replicas"

        def run_one(images, labels, shifts, numbers):
            parts = [self._part(tensor) for tensor in (images, labels, shifts)]
            return function(*parts, numbers)

        # The only tf.function: one inside it with a sum over replicas is an error.
        @tf.function
        def run_all(*arguments):
            results = self.strategy.run(run_one, arguments)
            return self.strategy.experimental_local_results(results)[0]

        return run_all

    def _part(self, tensor: tf.Tensor | None) -> tf.Tensor | None:
        """This replica's part of a batch, the same number of images for each."""
        if tensor is None:
            return None
        with tf.device("CPU:0"):
            return tf.split(tensor, self.count)[self.index()]

    def index(self) -> int:
        """Of the replica whose function is being traced, among all."""
        return int(tf.get_static_value(context().replica_id_in_sync_group))

    def can_use_xla(self, notify: Callable[[str], None]) -> bool:
        """Whether ``compile`` takes jit_compile: no."""
        notify(
            f"[train] xla = true: off, as XLA does not compile the sums over "
            f"{self.count} replicas"
        )
        return False

    def share(self, loss: tf.Tensor) -> tf.Tensor:
        """The count-th part."""
        return loss / self.count

    def sum(self, tensors: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """The sums, on each replica the same."""
        return context().all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))

    def sum_counts(self, counts: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """The sums, int64."""
        # As float32 they are exact up to 2^24, and no sum of integers has to work on
        # each kind of device.
        [sums] = self.sum([tf.stack([tf.cast(count, tf.float32) for count in counts])])
        return tf.unstack(tf.cast(sums, tf.int64))

    def average(self, variables: Sequence[tf.Variable]) -> None:
        """Assigns the mean on each replica."""
        if not variables:
            return
        # As one tensor: there are 106 small ones in a ResNet-50.
        values = tf.concat([tf.reshape(v, [-1]) for v in variables], 0)
        [means] = self.sum([values / self.count])
        sizes = [v.shape.num_elements() for v in variables]
        for variable, mean in zip(variables, tf.split(means, sizes)):
            variable.assign(tf.reshape(mean, variable.shape))


ONE_REPLICA = OneReplica()


def context() -> tf.distribute.ReplicaContext:
    """Of the replica whose function is being traced."""
    return tf.distribute.get_replica_context()


def create_replicas(num_gpus: int) -> OneReplica:
    """The replicas of one machine: its first visible GPUs, or its CPU.

    Args:
        num_gpus: Of the visible ones; 0 and 1 need no strategy.
    """
    if num_gpus < 2:
        return ONE_REPLICA
    gpus = [f"GPU:{index}" for index in range(num_gpus)]
    return Replicas(tf.distribute.MirroredStrategy(gpus))


def check_batch_size(batch_size: int, replicas: OneReplica) -> None:
    """Raises ConfigError unless a batch can be divided into equal parts."""
    if batch_size % replicas.count:
        raise ConfigError(
            f"[train] batch_size = {batch_size} (must be divisible by "
            f"{replicas.count}, the number of devices that share a batch)"
        )
