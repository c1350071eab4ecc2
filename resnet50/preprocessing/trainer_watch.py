"""What the preprocessor knows of the trainer: position, and whether it is alive."""

import time
from pathlib import Path

from resnet50.handoff import locks
from resnet50.handoff.progress import FILE_NAME, ProgressError, StepRange, read_progress
from resnet50.observer import Observer

# How often a sleeping preprocessor polls whether the trainer has started or ended.
_POLL_SECONDS = 1.0

# A running trainer that takes no batch for so long may be stopped or hang. The first
# step of a network that XLA compiles takes a minute or two.
_STALLED_SECONDS = 300.0

# A longer time between two polls counts as this: this process may have been stopped.
_MAX_GAP_SECONDS = 30.0


class ProgressFollower:
    """Decides which position of the trainer to accept.

    A position that was written while this process watched is accepted. An older one is
    not if it is the end: the file of a finished training would end a new one before it
    starts. Nor is it accepted, without a running trainer, if it is before epoch_start.
    """

    def __init__(self, folder: Path, steps: StepRange, observer: Observer):
        """Starts at the first step, until the file in the folder gives another."""
        self.steps = steps
        self.trainer_is_alive = False  # at the last poll
        self._path = folder / FILE_NAME
        self._observer = observer
        self._trained = steps.start
        self._complaint = ""
        self._first_seen = self._signature()
        self._trainer = locks.LivenessPoll(folder, locks.TRAINER)
        self._stalled_at: int | None = None  # the step of a trainer that may be stalled
        self._stalled_seconds = self._polled_at = 0.0

    def _signature(self) -> tuple[int, int] | None:
        """Changes whenever the file does; None if there is none."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _accept_position(self) -> str:
        """Accepts the position in the file, or returns what is wrong with it.

        Returns "" also if a running trainer has not written the file yet.
        """
        # Compared before the file is read: if the file is replaced in between, the
        # position that was read may still be the old one.
        is_new = self._signature() != self._first_seen
        steps, path = self.steps, self._path
        try:
            step = read_progress(path.parent, steps.batches_per_epoch, steps.end)
        except ProgressError as error:
            is_starting = self.trainer_is_alive and self._signature() is None
            return "" if is_starting else str(error)
        start = steps.position(steps.start)
        if not is_new and step == steps.end:
            return f"{path}: says that the training has finished; starting at {start}"
        if not is_new and step < steps.start and not self.trainer_is_alive:
            position = steps.position(step)
            return f"{path}: says {position}, before --epoch_start; starting at {start}"
        self._trained = step
        return ""

    def trained_step(self) -> int:
        """Polls the step of the next batch that the trainer needs.

        If the file is wrong, says so once and returns the last known step.
        """
        was_alive = self.trainer_is_alive
        # Polled before the file is read: a trainer writes its last position, then ends.
        self.trainer_is_alive = self._trainer.is_alive()
        complaint = self._accept_position()
        if complaint not in ("", self._complaint):
            self._observer.notify(complaint)
        self._complaint = complaint
        if was_alive and not self.trainer_is_alive and self._trained < self.steps.end:
            position = self.steps.position(self._trained)
            self._observer.notify(f"train.py has gone; it was at {position}")
        return self._trained

    def check_trainer(self, *, is_batch_ready: bool) -> None:
        """Reports once that the trainer, though it runs, takes no batch.

        Args:
            is_batch_ready: Whether the trainer's next batch is in the buffer.
        """
        now = time.monotonic()
        seconds = min(now - self._polled_at, _MAX_GAP_SECONDS)
        self._polled_at = now
        step = self._trained if self.trainer_is_alive and is_batch_ready else None
        if step is None or step != self._stalled_at:
            self._stalled_at, self._stalled_seconds = step, 0.0
            return
        self._stalled_seconds += seconds
        if self._stalled_seconds - seconds < _STALLED_SECONDS <= self._stalled_seconds:
            folder = self._path.parent
            self._observer.notify(
                f"train.py runs, process {locks.owner(folder, locks.TRAINER)}, but has "
                f"stayed at {self.steps.position(self._trained)} for "
                f"{_STALLED_SECONDS:g} s (see its terminal; if Ctrl-Z stopped it, fg "
                "continues it)"
            )

    def sleep(self, seconds: float) -> None:
        """Sleeps; ends early if the trainer starts, ends or goes back to earlier steps.

        Also if its file is deleted.
        """
        deadline = time.monotonic() + seconds
        last = self._step_in_file()
        was_there = self._signature() is not None
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
            before, last = last, self._step_in_file()
            is_deleted = was_there and self._signature() is None
            if is_deleted or self._trainer.is_alive() != self.trainer_is_alive:
                return
            if before is not None and last is not None and last < before:
                return

    def _step_in_file(self) -> int | None:
        """The position in the file, accepted or not; None if it is wrong."""
        steps = self.steps
        try:
            return read_progress(self._path.parent, steps.batches_per_epoch, steps.end)
        except ProgressError:
            return None
