"""Measures what the trainer spends its time on; see ``resnet50.reports.speed``."""

import contextlib
import time
from collections.abc import Iterator

from resnet50.handoff.reader import BatchReader
from resnet50.reports.speed import Speed


class Clock:
    """Counts from its creation on; a stretch of time lies between two marks.

    The host runs ahead of the device, so a mark is as true as the last look at a
    result of the device is recent. A wait in which the device still computes counts as
    waiting too, at most one step each time.

    Attributes:
        num_images: Trained so far; the loop counts them up.
    """

    def __init__(self, reader: BatchReader):
        """Starts to count."""
        self._reader = reader
        self._saving_seconds = 0.0
        self.num_images = 0
        self.restart()

    def mark(self) -> Speed:
        """All counts as they are now, the seconds since some moment of no meaning."""
        return Speed(
            num_images=self.num_images,
            seconds=time.monotonic(),
            waiting=self._reader.waited_seconds,
            saving=self._saving_seconds,
            reading=self._reader.reading_seconds,
            absent=self._reader.absent_seconds,
            unattended=self._reader.unattended_seconds,
        )

    def since(self, mark: Speed) -> Speed:
        """What has been done since a mark."""
        return Speed(*(now - then for now, then in zip(self.mark(), mark)))

    def restart(self) -> None:
        """Starts an epoch, or this session's part of one."""
        self._restarted = self.mark()

    def speed(self) -> Speed:
        """Since the last restart."""
        return self.since(self._restarted)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Counts the block as saving, whether it fails or not."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._saving_seconds += time.monotonic() - started
