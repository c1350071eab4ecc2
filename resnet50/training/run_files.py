"""Writes what a training leaves on disk: progress, tables and checkpoints.

A full or missing disk does not end the training. The user hears once that a file cannot
be written, and once that it can again.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from resnet50.handoff.cluster import ALONE, Cluster
from resnet50.handoff.locks import Role
from resnet50.handoff.progress import Position, write_progress
from resnet50.handoff.waiting import write_waiting
from resnet50.reports.starts import STARTS_FILE, StartsError, record_start
from resnet50.reports.tables import (
    EVALUATION_FILE,
    METRICS_FILE,
    EarlyStop,
    TableError,
    early_stop,
    record_epoch,
)
from resnet50.signals import stop_signals_handled
from resnet50.training import checkpoint
from resnet50.training.checkpoint_folders import prune
from resnet50.training.training_observer import Clock
from resnet50.training.update.step import Training

# How soon a checkpoint that could not be saved is tried again.
_RETRY_SECONDS = 30.0
_END_RETRY_SECONDS = 3.0


class Run(NamedTuple):
    """A run: what is trained, where it is saved, and who trains it."""

    folder: Path
    description: dict  # see ``description.describe``
    batches_per_epoch: int
    checkpoint_minutes: float = 0.0  # between checkpoints inside an epoch; 0: none
    keep_checkpoints: int = 0  # see ``checkpoint_folders.prune``
    patience: int = 0  # epochs; see ``tables.early_stop``
    profile_steps: int = 0  # report the speed after so many steps; 0: never
    cluster: Cluster = ALONE  # each host trains all steps
    role: Role | None = None  # the trainer's lock in the folder
    start: dict | None = None  # for starts.jsonl, without the position; None: no line


class RunFiles:
    """The files of a run; only a host whose cluster says so writes any.

    Attributes:
        saved: The position of the newest checkpoint, or the start of this process.
        early_stop: Why the training ends after this epoch; None if it does not.
    """

    def __init__(
        self,
        training: Training,
        buffer_folder: Path,
        run: Run,
        clock: Clock,
        notify: Callable[[str], None],
    ):
        """Starts the time until the first checkpoint."""
        self._training = training
        self._buffer_folder = buffer_folder
        self._run = run
        self._clock = clock
        self._notify = notify
        self._failing: set[str] = set()
        self._unwritten_start: dict | None = None
        self._unwritten_rows: list[dict] = []  # of metrics.csv, oldest first
        self._seconds = 60 * run.checkpoint_minutes or float("inf")
        self._save_at = time.monotonic() + self._seconds
        self.saved: Position | None = None
        self.early_stop: EarlyStop | None = None

    @contextlib.contextmanager
    def _errors_reported(self, what: str) -> Iterator[None]:
        """Suppresses and reports the block's errors; ``what`` names what it does."""
        try:
            yield
        except (OSError, checkpoint.SaveError, TableError, StartsError) as error:
            if what not in self._failing:
                self._failing.add(what)
                self._notify(f"{what} failed, trying again later: {error}")
        else:
            if what in self._failing:
                self._failing.remove(what)
                self._notify(f"{what} works again")

    def begin(self, start: Position) -> None:
        """Adds a line to starts.jsonl unless the training has stopped early.

        The position counts as saved.
        """
        self.saved, run = start, self._run
        self.write_waiting("")
        if start.batch_index == 0:
            self.find_early_stop()
        if run.start is not None and run.cluster.writes_files and not self.early_stop:
            place = {"epoch": start.epoch, "batch": start.batch_index}
            self._unwritten_start = {**place, **run.start}
            self._write_start()

    def find_early_stop(self) -> None:
        """Reads evaluation.csv between two epochs."""
        run = self._run
        if run.patience and run.cluster.writes_files:
            with self._errors_reported(f"reading {EVALUATION_FILE}"):
                self.early_stop = early_stop(run.folder / EVALUATION_FILE, run.patience)

    def _write_start(self) -> None:
        if self._unwritten_start is None:
            return
        with self._errors_reported(f"writing {STARTS_FILE}"):
            self._restore_folder()
            record_start(self._run.folder / STARTS_FILE, self._unwritten_start)
            self._unwritten_start = None

    def write_progress(self, position: Position) -> None:
        """Writes which batch the training needs next."""
        if not self._run.cluster.writes_files:
            return
        # If the folder is gone, the reader says so and later writes the file again.
        with (
            self._errors_reported("writing the progress"),
            contextlib.suppress(FileNotFoundError),
        ):
            write_progress(self._buffer_folder, position)

    def write_waiting(self, text: str) -> None:
        """Writes which host a training with local folders waits for; "": none."""
        if self._run.cluster.has_local_folders:
            with (
                self._errors_reported("writing who is waited for"),
                contextlib.suppress(FileNotFoundError),
            ):
                write_waiting(self._buffer_folder, text)

    def record(self, row: dict) -> None:
        """Writes an epoch's row to metrics.csv, before the epoch's checkpoint.

        A training killed between the two repeats the epoch's end and replaces the row.
        In the other order, the row would be missing.
        """
        if self._run.cluster.writes_files:
            self._unwritten_rows.append(row)
            self._write_rows()

    def _write_rows(self) -> None:
        """Writes the rows that could not be written, too; without one does nothing."""
        if not self._unwritten_rows:
            return
        with self._errors_reported(f"writing {METRICS_FILE}"):
            self._restore_folder()
            while self._unwritten_rows:
                record_epoch(self._run.folder / METRICS_FILE, self._unwritten_rows[0])
                del self._unwritten_rows[0]

    def is_save_due(self) -> bool:
        """Whether it is time for a checkpoint inside an epoch."""
        return time.monotonic() > self._save_at

    def save(self, position: Position) -> bool:
        """Saves a checkpoint; returns False, after a line, if that fails now."""
        run = self._run
        if not run.cluster.writes_files:
            self._note_saved(position)
            return True
        self._save_at = time.monotonic() + _RETRY_SECONDS
        self._write_start()
        self._write_rows()
        with self._clock.saving(), self._errors_reported("saving a checkpoint"):
            self._restore_folder()
            checkpoint.save(self._training, run.folder, position, run.description)
            self._note_saved(position)
        # Apart from saving: an old one that stays is no reason to save again.
        with self._clock.saving(), self._errors_reported("deleting old checkpoints"):
            prune(run.folder, run.keep_checkpoints)
        return self.saved == position

    def _note_saved(self, position: Position) -> None:
        self.saved = position
        self._save_at = time.monotonic() + self._seconds

    def save_at_end(self, position: Position) -> None:
        """Saves the last checkpoint; tries until it works or Ctrl-C comes."""
        if self.save(position):
            return
        self._notify(
            f"{self._run.folder}: free some room, or mount its disk; what was trained "
            f"since {self.saved} is lost otherwise (trying again every "
            f"{_END_RETRY_SECONDS:g} s; Ctrl-C gives up)"
        )
        # Even the first Ctrl-C of this training, which otherwise only requests a stop.
        ctrl_c = [signal.SIGINT]
        with stop_signals_handled(signal.default_int_handler, ctrl_c):
            time.sleep(_END_RETRY_SECONDS)
            while not self.save(position):
                time.sleep(_END_RETRY_SECONDS)

    def _restore_folder(self) -> None:
        """Makes the run's folder and its lock again if they were deleted."""
        role = self._run.role
        if role is None or role.is_held():
            return
        missing = role.path if role.folder.is_dir() else role.folder
        if role.take_again(make_folder=True):
            self._notify(f"{missing}: was deleted; created again")
