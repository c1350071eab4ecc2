"""Several GPUs of one host, under a strategy of tf.distribute.

One rule holds for all variables (weights, statistics, counters): their copies on the
replicas are always equal. Each replica assigns to its own copy, without TensorFlow's
aggregations, and everything that depends on its part of the batch is first summed over
all replicas. So a checkpoint saves any one copy, does not depend on the number of
replicas, and is as exact as the checkpoint of one device.

The strategies' ON_READ variables, made for moving statistics, would break this rule.
Their copies differ between two checkpoints, and a checkpoint saves their mean, which is
not what an undisturbed training continues with.
"""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from resnet50.network.tracing import traced
from resnet50.training.devices.protocol import to_host
from resnet50.training.vectors import join, split_like


class MirroredDevices:
    """Implements ``protocol.Devices`` with a synchronous strategy."""

    def __init__(self, strategy: tf.distribute.Strategy):
        """Takes the strategy; its replicas are the devices."""
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync
        self.has_gpu = "GPU" in strategy.extended.worker_devices[0]

    def scope(self) -> contextlib.AbstractContextManager:
        """The strategy's scope."""
        return self.strategy.scope()

    def to_device(self, *arrays: np.ndarray | None) -> tuple[tf.Tensor, ...]:
        """Puts the arrays into the host's memory; each GPU copies its part from there.

        By default, the first GPU would get the whole batch.
        """
        return tuple(to_host(a) if isinstance(a, np.ndarray) else a for a in arrays)

    def compile(self, function: Callable, jit_compile: bool) -> Callable:
        """Runs the function on all replicas at once; jit_compile must be false."""
        assert not jit_compile, "XLA does not compile sums over replicas"

        def run_one(images, labels, shifts, numbers):
            parts = [self._part(tensor) for tensor in (images, labels, shifts)]
            return function(*parts, numbers)

        # The only tf.function: a sum over replicas fails inside a nested one.
        @traced
        def run_all(*arguments):
            results = self.strategy.run(run_one, arguments)
            return self.strategy.experimental_local_results(results)[0]

        return run_all

    def _part(self, tensor: tf.Tensor | None) -> tf.Tensor | None:
        """This replica's part of a batch; all parts have the same size."""
        if tensor is None:
            return None
        with tf.device("CPU:0"):
            return tf.split(tensor, self.count)[self.index()]

    def index(self) -> int:
        """The index, among all replicas, of the one whose function is being traced."""
        return int(tf.get_static_value(_context().replica_id_in_sync_group))

    def share(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss divided by the number of replicas."""
        return loss / self.count

    def sum(self, tensors: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """The sums, the same on each replica."""
        # As one vector: a sum over GPUs takes some time however short it is.
        operation = tf.distribute.ReduceOp.SUM
        [sums] = _context().all_reduce(operation, [join(tensors)])
        return split_like(sums, tensors)

    def sum_counts(self, counts: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """The sums, int64."""
        # float32 is exact up to 2^24, and every kind of device can sum it.
        [sums] = self.sum([tf.stack([tf.cast(count, tf.float32) for count in counts])])
        return tf.unstack(tf.cast(sums, tf.int64))

    def average(self, variables: Sequence[tf.Variable]) -> None:
        """Assigns the mean on each replica."""
        if not variables:
            return
        [means] = self.sum([join(variables) / self.count])
        for variable, mean in zip(variables, split_like(means, variables)):
            variable.assign(mean)


def _context() -> tf.distribute.ReplicaContext:
    return tf.distribute.get_replica_context()
