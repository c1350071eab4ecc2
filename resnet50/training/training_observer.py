"""What a training reports: its speed, its status, and lines for its user."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from resnet50.handoff.progress import Position
from resnet50.handoff.reader import BatchReader
from resnet50.observer import Observer
from resnet50.reports.speed import Speed

if TYPE_CHECKING:  # It needs TensorFlow.
    from resnet50.training.devices.hosts import JointReader


class TrainingStatus(NamedTuple):
    """How a training is going."""

    position: Position  # of the next batch
    means: dict[str, float]  # of the epoch so far; see ``Totals.means``
    speed: Speed  # since the start of the epoch or of this process
    num_ready: int | None  # ready batches in the buffer; None if it cannot be read


class TrainingObserver(Observer):
    """Receives the news of a training, and words what only its program knows."""

    def advise(self, speed: Speed) -> str:
        """Says in one sentence what limits a speed."""
        return ""

    def describe(self, position: Position) -> str:
        """Describes the batch of a position, for a message about a lost loss."""
        return ""

    def preprocessor_command(self, epochs: range) -> str:
        """The command that starts the preprocessor for some epochs."""
        return ""


class Mark(NamedTuple):
    """All counts at some time; the seconds have an arbitrary origin."""

    counts: Speed
    waits: tuple[float, ...]  # for each worker; see ``JointReader``


class Clock:
    """Counts images and seconds; the difference of two marks is a stretch of time.

    The host runs ahead of the device, so a mark is exact only right after the host has
    read a result. A wait for a batch counts as waiting even while the device still
    computes, which takes at most one step.

    Attributes:
        num_images: Number of trained images; the loop increases it.
    """

    def __init__(
        self, reader: "BatchReader | JointReader", workers: Sequence[str] = ()
    ):
        """Starts to count.

        Args:
            reader: Counts the seconds.
            workers: The names of several hosts, whose waits a JointReader counts.
        """
        self._reader = reader
        self._workers = workers
        self._saving_seconds = 0.0
        self.num_images = 0
        self.restart()

    def mark(self) -> Mark:
        """All counts now."""
        waits = getattr(self._reader, "waits", ()) if self._workers else ()
        return Mark(self._count(), tuple(waits))

    def _count(self) -> Speed:
        return Speed(
            num_images=self.num_images,
            seconds=time.monotonic(),
            waiting=self._reader.waited_seconds,
            saving=self._saving_seconds,
            reading=self._reader.reading_seconds,
            absent=self._reader.absent_seconds,
            unattended=self._reader.unattended_seconds,
        )

    def since(self, mark: Mark) -> Speed:
        """The counts since a mark."""
        now = self.mark()
        # The last one is a text.
        pairs = zip(now.counts[:-1], mark.counts[:-1])
        num_images, *seconds = (a - b for a, b in pairs)
        waits = [a - b for a, b in zip(now.waits, mark.waits)]
        slowest = self._workers[waits.index(max(waits))] if any(waits) else ""
        return Speed._make([int(num_images), *seconds, slowest])

    def restart(self) -> None:
        """Starts an epoch, or this process's part of one."""
        self._restarted = self.mark()

    def speed(self) -> Speed:
        """The counts since the last restart."""
        return self.since(self._restarted)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Counts the block's time as saving, even if it fails."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._saving_seconds += time.monotonic() - started
