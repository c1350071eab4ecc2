"""Several machines that train together, each a worker: MultiWorkerMirroredStrategy.

``training.devices.meeting`` says who they are and whether they are alive. Here is what
they do together between steps, and what ends a worker that would wait for a lost one.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from resnet50.errors import UserError
from resnet50.handoff.progress import Position
from resnet50.handoff.reader import Batch, BatchReader
from resnet50.training.devices.meeting import Cluster, LostWorkerError, first_lost
from resnet50.training.devices.replicas import Replicas

_LOOK_SECONDS = 1.0

# How long a worker may take to end by itself once another one is gone. TensorFlow, by
# its heartbeats, takes about ten seconds to notice; where it does not, or waits inside
# a sum for ever, the process is ended.
_GRACE_SECONDS = 30.0


class Workers(Replicas):
    """The devices of all machines, and what is agreed on between two steps.

    Every worker must call the same methods in the same order, or all wait for ever.
    """

    def __init__(self, cluster: Cluster):
        """Connects the workers; waits until all are there.

        Args:
            cluster: As in TF_CONFIG, which the strategy reads itself.
        """
        super().__init__(tf.distribute.MultiWorkerMirroredStrategy())
        self.cluster = cluster
        self._add = tf.function(self._add_everywhere)

    def _add_everywhere(self, number: tf.Tensor) -> tf.Tensor:
        # The identity gives the sum the replica's device, which it needs.
        results = self.strategy.run(
            lambda number: self.sum([tf.identity(number)])[0], (number,)
        )
        return self.strategy.experimental_local_results(results)[0]

    def any(self, flag: bool) -> bool:
        """Whether a flag is set on any worker; waits until all have asked."""
        with tf.device("CPU:0"):
            number = tf.constant(float(flag))
        return float(self._add(number)) > 0

    def copy_from_chief(self, variables, position: Position | None) -> Position:
        """Gives all workers the chief's values, bitwise.

        Args:
            variables: Assigned, on all workers but the chief.
            position: The chief's; of the others not looked at.

        Returns:
            The chief's position.
        """
        numbers = [tf.constant(number, tf.int64) for number in position or (0, 0)]

        @tf.function
        def run_all():
            results = self.strategy.run(run_one)
            return [
                self.strategy.experimental_local_results(result)[0]
                for result in results
            ]

        def run_one():
            values = [tf.identity(value) for value in (*numbers, *variables)]
            if self.index() > 0:
                # -0.0 changes no number that it is added to; 0.0 would change -0.0.
                values = [-tf.zeros_like(v) for v in values]
            # One by one, as a sum of several takes a single type.
            epoch, batch_index, *values = [self.sum([v])[0] for v in values]
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            return epoch, batch_index

        return Position(*map(int, run_all()))


class JointReader:
    """A reader that ends for all workers before the same step.

    It stands in for a BatchReader in the loop.
    """

    def __init__(self, reader: BatchReader, workers: Workers):
        """Takes a reader, whose ``should_stop`` stops all workers."""
        self._reader = reader
        self._workers = workers
        self._is_finished = False

    def __getattr__(self, name: str):
        """All else, such as what it counts, is the reader's."""
        return getattr(self._reader, name)

    def __iter__(self) -> "JointReader":
        return self

    def __next__(self) -> Batch:
        if self._is_finished:
            raise StopIteration
        batch, error = None, None
        try:
            batch = next(self._reader, None)
        except UserError as problem:
            error = problem
        # Asked at the end as well: before that the chief has saved its last checkpoint.
        self._is_finished = self._workers.any(batch is None)
        if error is not None:
            raise error
        if self._is_finished:
            raise StopIteration
        return batch


def _lost_line(folder: Path, cluster: Cluster) -> str:
    index = first_lost(folder, cluster)
    who = "another worker"
    if index is not None:
        who = f"worker {index}, {cluster.addresses[index]},"
    return (
        f"{who} is lost; its own terminal may say why (start all workers again, or "
        "another number of them, with --resume)"
    )


class _Watch:
    """Ends this process when another worker has gone and this one cannot go on."""

    def __init__(self, folder: Path, cluster: Cluster):
        self._folder, self._cluster = folder, cluster
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(_LOOK_SECONDS):
            if first_lost(self._folder, self._cluster) is None:
                continue
            line = _lost_line(self._folder, self._cluster)
            if not self._is_over.wait(_GRACE_SECONDS):
                print(line, file=sys.stderr, flush=True)
                # A thread inside TensorFlow's sum can be ended in no other way.
                os._exit(1)


@contextlib.contextmanager
def lost_worker_told(folder: Path, cluster: Cluster) -> Iterator[None]:
    """Ends the block with one line when another worker is lost.

    Args:
        folder: The buffer folder, where the workers hold their roles.
        cluster: Of which this is a worker.

    Raises:
        LostWorkerError: Another worker is lost, and TensorFlow has noticed. If it has
            not, the process is ended with that line.
    """
    if cluster.is_alone:
        yield
        return
    try:
        with _Watch(folder, cluster):
            yield
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
    ) as error:
        # A connection breaks a moment before the lock is seen to be free.
        deadline = time.monotonic() + 2
        while first_lost(folder, cluster) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if first_lost(folder, cluster) is None and isinstance(
            error, tf.errors.InternalError
        ):
            raise  # Of this machine, then.
        raise LostWorkerError(_lost_line(folder, cluster)) from None
