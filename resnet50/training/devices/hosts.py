"""Several hosts that train together, under MultiWorkerMirroredStrategy.

``training.devices.meeting`` compares their settings, and notices when one is lost. This
module does what they do together between steps, and ends a host that would wait for a
lost one.
"""

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from resnet50.errors import UserError
from resnet50.handoff.cluster import Cluster
from resnet50.handoff.progress import Position
from resnet50.handoff.reader import BatchReader
from resnet50.network.tracing import traced
from resnet50.training.devices.meeting import LostHostError, Meeting
from resnet50.training.devices.mirrored import MirroredDevices

_POLL_SECONDS = 0.2

# How much later than TensorFlow the meeting may notice that a host is lost.
_NOTICE_SECONDS = 2.0

# How long a host may take to end by itself after another one is lost. TensorFlow's
# heartbeats take about ten seconds to notice. If they do not, or if TensorFlow waits
# inside a sum for ever, the process is ended.
_GRACE_SECONDS = 30.0

# In TensorFlow's error.
_SILENT_HOST = re.compile(r"stopped sending heartbeats\):\s*/job:worker\S*/task:(\d+)")


def communication_options(
    gpus: Sequence[tf.config.PhysicalDevice],
) -> tf.distribute.experimental.CommunicationOptions:
    """How the hosts sum: GPUs by NCCL.

    By itself TensorFlow does not choose NCCL between hosts, but a ring over gRPC, which
    is many times slower.
    """
    kinds = tf.distribute.experimental.CommunicationImplementation
    return tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.NCCL if gpus else kinds.AUTO
    )


class HostDevices(MirroredDevices):
    """The devices of all hosts.

    Every host must call the same methods in the same order, or all wait for ever.
    """

    def __init__(self, cluster: Cluster):
        """Connects the hosts that TF_CONFIG names; waits until all are there."""
        options = communication_options(tf.config.get_visible_devices("GPU"))
        super().__init__(
            tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        )
        self._cluster = cluster
        self._num_local = self.count // len(cluster.addresses)
        self._sum_vector = traced(self._sum_everywhere)

    def _part(self, tensor: tf.Tensor | None) -> tf.Tensor | None:
        """With local folders a host's tensor has only its own replicas' parts."""
        if tensor is None or not self._cluster.has_local_folders:
            return super()._part(tensor)
        with tf.device("CPU:0"):
            return tf.split(tensor, self._num_local)[self.index() % self._num_local]

    def _sum_everywhere(self, vector: tf.Tensor) -> tf.Tensor:
        def run_one(vector):
            # The sum needs the replica's device; the identity sets it.
            values = tf.identity(vector)
            if self.index() % self._num_local:  # A host counts once.
                values = tf.zeros_like(values)
            return self.sum([values])[0]

        results = self.strategy.run(run_one, (vector,))
        return self.strategy.experimental_local_results(results)[0]

    def sum_over_hosts(self, numbers: Sequence[float]) -> np.ndarray:
        """The sums, float32; waits until all hosts have called it."""
        with tf.device("CPU:0"):
            vector = tf.constant(numbers, tf.float32)
        return self._sum_vector(vector).numpy()

    def any(self, flag: bool) -> bool:
        """Whether a flag is set on any host; waits until all hosts have called it."""
        return self.sum_over_hosts([flag])[0] > 0

    def gather(self, position: Position | None) -> list[Position | None]:
        """The positions of all hosts, in their order."""
        num_hosts = len(self._cluster.addresses)
        numbers = np.zeros((num_hosts, 3))
        if position is not None:
            numbers[self._cluster.index] = (1, *position)
        # float32 is exact up to 2^24, more epochs and batches than a training has.
        found = (
            self.sum_over_hosts(numbers.ravel().tolist())
            .reshape(num_hosts, 3)
            .astype(int)
        )
        return [Position(*map(int, p)) if is_there else None for is_there, *p in found]

    def copy_from(self, host: int, variables: Sequence[tf.Variable]) -> None:
        """Copies a host's variables, bitwise, to all hosts."""

        @traced
        def run_all():
            self.strategy.run(run_one)

        def run_one():
            values = [tf.identity(value) for value in variables]
            if self.index() != host * self._num_local:
                # Adding -0.0 changes no number; adding 0.0 would change -0.0.
                values = [-tf.zeros_like(v) for v in values]
            # One by one, as one sum takes tensors of one type.
            for variable, value in zip(variables, values, strict=True):
                variable.assign(self.sum([value])[0])

        run_all()


class JointReader:
    """Replaces the BatchReader in the loop; ends on all hosts before the same step.

    Before each step the hosts exchange who has reached the end, whether the chief wants
    to save, and how long each has waited for its batch.

    Attributes:
        is_save_due: Whether all hosts save a checkpoint after this step.
        waits: For each batch, the longest wait of any host is added to that host's
            seconds; by its index.
    """

    def __init__(
        self,
        reader: BatchReader,
        devices: HostDevices,
        meeting: Meeting,
        is_save_due: Callable[[], bool],
    ):
        """Takes this host's reader, whose end stops all hosts.

        On the chief, ``is_save_due`` says whether it is time to save.
        """
        self._reader = reader
        self._devices = devices
        self._meeting = meeting
        self._cluster = cluster = meeting.cluster
        self._wants_to_save = is_save_due
        self._is_finished = False
        self.is_save_due = False
        self.waits = np.zeros(len(cluster.addresses))

    @property
    def waited_seconds(self) -> float:
        """The longest waits, of any host, for all batches together."""
        return float(self.waits.sum())

    def __getattr__(self, name: str):
        """Everything else, such as the counted seconds, comes from the reader."""
        return getattr(self._reader, name)

    def __iter__(self) -> "JointReader":
        return self

    def __next__(self) -> Any:
        if self._is_finished:
            raise StopIteration
        batch, error = None, None
        started = time.monotonic()
        try:
            batch = next(self._reader, None)
        except UserError as problem:
            error = problem
        # Also called at the end, so that no host leaves while another still trains.
        self._exchange(is_end=batch is None, waited=time.monotonic() - started)
        if error is not None:
            raise error
        if self._is_finished or batch is None:
            raise StopIteration
        return batch

    def _exchange(self, *, is_end: bool, waited: float) -> None:
        own = [0.0] * len(self._cluster.addresses)
        own[self._cluster.index] = waited
        wants_to_save = self._cluster.is_chief and self._wants_to_save()
        ends, saves, *waits = self._devices.sum_over_hosts(
            [is_end, wants_to_save, *own]
        )
        self._is_finished, self.is_save_due = ends > 0, saves > 0
        if self._is_finished:
            self._meeting.say_bye()  # The others may take long to save.
        slowest = int(np.argmax(waits))
        self.waits[slowest] += waits[slowest]


def _lost_line(meeting: Meeting, seconds: float = 0.0, error: str = "") -> str:
    index = meeting.first_lost(seconds)
    # A host that hangs keeps its connections; only TensorFlow misses its heartbeats.
    if index is None and (found := _SILENT_HOST.search(error)):
        index = int(found[1])
    who = "another worker" if index is None else f"{meeting.cluster.name(index)},"
    return (
        f"{who} is lost; its own terminal may say why (start all workers again, or "
        "another number of them, with --resume)"
    )


class _Watch:
    """Ends this process if another host is lost and TensorFlow does not notice."""

    def __init__(self, meeting: Meeting):
        self._meeting = meeting
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while self._meeting.first_lost(_POLL_SECONDS) is None:
            if self._is_over.is_set():
                return
        if not self._is_over.wait(_GRACE_SECONDS):
            print(_lost_line(self._meeting), file=sys.stderr, flush=True)
            # Nothing else ends a thread inside TensorFlow's sum.
            os._exit(1)


@contextlib.contextmanager
def lost_hosts_reported(meeting: Meeting | None) -> Iterator[None]:
    """Ends the block with one line when another host is lost.

    Then ends the meeting; None means that there is no other host.

    Raises:
        LostHostError: Another host is lost, and TensorFlow has noticed. If it has not,
            the process is ended with the same line.
    """
    if meeting is None:
        yield
        return
    try:
        with _Watch(meeting):
            yield
        meeting.say_bye()
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
    ) as error:
        # TensorFlow may notice a moment before the meeting does.
        line = _lost_line(meeting, _NOTICE_SECONDS, str(error))
        if meeting.first_lost() is None and isinstance(error, tf.errors.InternalError):
            raise  # An error of this host.
        raise LostHostError(line) from None
    finally:
        meeting.close()
