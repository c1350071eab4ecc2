"""What the preprocessor believes of the trainer: its position, and whether it lives."""

import time
from collections.abc import Callable

from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import (
    FILE_NAME,
    ProgressError,
    read_progress,
    to_position,
)

# How often a sleeping preprocessor looks whether the trainer has come or gone.
_LOOK_SECONDS = 1.0


class ProgressFollower:
    """Decides which position of the trainer to believe.

    A position that was written while this process watched is believed. One that was
    there before is not, if it is the end: the file of a finished training would end a
    new one before it began. Nor, without a living trainer, if it is before epoch_start.
    """

    def __init__(
        self,
        buffer: BatchBuffer,
        *,
        batches_per_epoch: int,
        start_step: int,
        end_step: int,
        notify: Callable[[str], None],
    ):
        """Starts at start_step, until the file says otherwise."""
        self._buffer = buffer
        self._batches_per_epoch = batches_per_epoch
        self._start_step = start_step
        self._end_step = end_step
        self._notify = notify
        self._trained = start_step
        self._complaint = ""
        self._first_seen = self._signature()
        self._trainer = locks.Observer(buffer.folder, locks.TRAINER)
        self.trainer_is_alive = False

    def _signature(self):
        try:
            stat = (self._buffer.folder / FILE_NAME).stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def _doubt(self, step: int) -> str:
        """Why a step is not believed; "" if it is."""
        if self._signature() != self._first_seen:
            return ""
        position = to_position(step, self._batches_per_epoch)
        path = self._buffer.folder / FILE_NAME
        start = to_position(self._start_step, self._batches_per_epoch)
        if step == self._end_step:
            return f"{path}: says that the training has finished; starting at {start}"
        if step < self._start_step and not self.trainer_is_alive:
            return f"{path}: says {position}, before --epoch_start; starting at {start}"
        return ""

    def trained_step(self) -> int:
        """The step of the next batch that the trainer needs, as far as known.

        Says once what is wrong with the file, and then keeps the last known step.
        """
        # Asked first: a trainer that ends between the two questions has written before.
        was_alive = self.trainer_is_alive
        self.trainer_is_alive = self._trainer.is_alive()
        try:
            step = read_progress(
                self._buffer.folder, self._batches_per_epoch, self._end_step
            )
            complaint = self._doubt(step)
        except ProgressError as error:
            step, complaint = self._trained, str(error)
            if self.trainer_is_alive and self._signature() is None:
                complaint = ""  # It will write the file, or has to write it again.
        if not complaint:
            self._trained = step
        elif complaint != self._complaint:
            self._notify(complaint)
        self._complaint = complaint
        if was_alive and not self.trainer_is_alive and self._trained < self._end_step:
            position = to_position(self._trained, self._batches_per_epoch)
            self._notify(f"train.py has gone; it was at {position}")
        return self._trained

    def sleep(self, seconds: float) -> None:
        """Sleeps, but no longer than until the trainer comes or goes.

        Nor than until its file is deleted, perhaps with the whole folder.
        """
        deadline = time.monotonic() + seconds
        was_there = self._signature() is not None
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
            if self._trainer.is_alive() != self.trainer_is_alive:
                return
            if was_there and self._signature() is None:
                return
