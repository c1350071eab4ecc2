"""Several hosts that train together, under MultiWorkerMirroredStrategy.

``training.devices.meeting`` finds out who they are and whether they are alive. This
module does what they do together between steps, and ends a host that would wait for a
lost one.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from resnet50.errors import UserError
from resnet50.handoff.progress import Position
from resnet50.handoff.reader import BatchReader
from resnet50.network.tracing import traced
from resnet50.training.devices.meeting import Cluster, LostHostError, first_lost
from resnet50.training.devices.mirrored import MirroredDevices

_POLL_SECONDS = 1.0

# How long a host may take to end by itself after another one is lost. TensorFlow's
# heartbeats take about ten seconds to notice. If they do not, or if TensorFlow waits
# inside a sum for ever, the process is ended.
_GRACE_SECONDS = 30.0


class HostDevices(MirroredDevices):
    """The devices of all hosts.

    Every host must call the same methods in the same order, or all wait for ever.
    """

    def __init__(self):
        """Connects the hosts that TF_CONFIG names; waits until all are there."""
        super().__init__(tf.distribute.MultiWorkerMirroredStrategy())
        self._add = traced(self._add_everywhere)

    def _add_everywhere(self, number: tf.Tensor) -> tf.Tensor:
        # The sum needs the replica's device; the identity sets it.
        results = self.strategy.run(
            lambda number: self.sum([tf.identity(number)])[0], (number,)
        )
        return self.strategy.experimental_local_results(results)[0]

    def any(self, flag: bool) -> bool:
        """Whether a flag is set on any host; waits until all hosts have called it."""
        with tf.device("CPU:0"):
            number = tf.constant(float(flag))
        return float(self._add(number)) > 0

    def copy_from_chief(self, variables, position: Position | None) -> Position:
        """Copies the chief's variables, bitwise, and position to all hosts."""
        numbers = [tf.constant(number, tf.int64) for number in position or (0, 0)]

        @traced
        def run_all():
            local = self.strategy.experimental_local_results
            return [local(result)[0] for result in self.strategy.run(run_one)]

        def run_one():
            values = [tf.identity(value) for value in (*numbers, *variables)]
            if self.index() > 0:
                # Adding -0.0 changes no number; adding 0.0 would change -0.0.
                values = [-tf.zeros_like(v) for v in values]
            # One by one, as one sum takes tensors of one type.
            epoch, batch_index, *values = [self.sum([v])[0] for v in values]
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            return epoch, batch_index

        return Position(*map(int, run_all()))


class JointReader:
    """Replaces the BatchReader in the loop; ends on all hosts before the same step."""

    def __init__(self, reader: BatchReader, devices: HostDevices):
        """Takes this host's reader, whose end stops all hosts."""
        self._reader = reader
        self._devices = devices
        self._is_finished = False

    def __getattr__(self, name: str):
        """Everything else, such as the counted seconds, comes from the reader."""
        return getattr(self._reader, name)

    def __iter__(self) -> "JointReader":
        return self

    def __next__(self) -> Any:
        if self._is_finished:
            raise StopIteration
        batch, error = None, None
        try:
            batch = next(self._reader, None)
        except UserError as problem:
            error = problem
        # Also called at the end: the chief has saved its last checkpoint before that.
        self._is_finished = self._devices.any(batch is None)
        if error is not None:
            raise error
        if self._is_finished or batch is None:
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
    """Ends this process if another host is lost and TensorFlow does not notice."""

    def __init__(self, folder: Path, cluster: Cluster):
        self._folder, self._cluster = folder, cluster
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception) -> None:
        self._is_over.set()
        self._thread.join()

    def _poll(self) -> None:
        is_lost = False
        while not self._is_over.wait(_POLL_SECONDS):
            was_lost = is_lost
            is_lost = first_lost(self._folder, self._cluster) is not None
            # Twice, as a host that makes its lock file again locks it a moment later.
            if not (was_lost and is_lost):
                continue
            line = _lost_line(self._folder, self._cluster)
            if not self._is_over.wait(_GRACE_SECONDS):
                print(line, file=sys.stderr, flush=True)
                # Nothing else ends a thread inside TensorFlow's sum.
                os._exit(1)


@contextlib.contextmanager
def lost_hosts_reported(folder: Path, cluster: Cluster) -> Iterator[None]:
    """Ends the block with one line when another host is lost.

    The hosts hold their roles in the folder.

    Raises:
        LostHostError: Another host is lost, and TensorFlow has noticed. If it has not,
            the process is ended with the same line.
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
        # A connection may break a moment before the lost host's lock is free.
        deadline = time.monotonic() + 2
        while first_lost(folder, cluster) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if first_lost(folder, cluster) is None and isinstance(
            error, tf.errors.InternalError
        ):
            raise  # An error of this host.
        raise LostHostError(_lost_line(folder, cluster)) from None
