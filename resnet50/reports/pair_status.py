"""Where a running pair of programs stands, read from the files that they share.

Only reads, so that it may look at any moment. The one thing that the programs could
notice is the look at their locks, which they expect (see ``handoff.locks``).
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from resnet50.config.settings import Config
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import read_manifest
from resnet50.handoff.progress import (
    ProgressError,
    read_progress,
    to_position,
)
from resnet50.preprocessing.unreadable import UnreadableLog
from resnet50.reports.curves import number
from resnet50.reports.tables import METRICS_FILE, read_table

_LOOK_SECONDS = 0.05


def steps_per_second(read_step: Callable[[], int | None], seconds: float) -> float:
    """Watches a counter; how many steps a second it makes.

    Measured from the first change to the last one, so that a slow training's few steps
    give its speed too: whole steps over the time between them.

    Args:
        read_step: The counter; None where it cannot be read just now.
        seconds: How long to watch.

    Returns:
        0 if fewer than two changes are seen.
    """
    changes: list[tuple[float, int]] = []
    last = read_step()
    started = time.monotonic()
    while (now := time.monotonic()) - started < seconds:
        step = read_step()
        if step is not None and step != last:
            changes.append((now, step))
            last = step
        time.sleep(_LOOK_SECONDS)
    if len(changes) < 2:
        return 0.0
    (first_time, first), (last_time, last) = changes[0], changes[-1]
    return (last - first) / (last_time - first_time)


def folder_bytes(folder: Path) -> int:
    """All files below a folder; one that goes away meanwhile does not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(parent) / name).stat().st_size
    return total


def find_trained_run(saved_models_folder: Path) -> Path | None:
    """The folder of the run that a living trainer holds; None if there is none."""
    if saved_models_folder.is_dir():
        for folder in sorted(saved_models_folder.iterdir()):
            if folder.is_dir() and locks.is_alive(folder, locks.TRAINER):
                return folder
    return None


class Pair(NamedTuple):
    """The two folders, and what they are to hold in the end."""

    config: Config
    buffer: BatchBuffer
    run_folder: Path | None  # None: no run is known
    epoch_end: int

    @property
    def batches_per_epoch(self) -> int | None:
        """As the buffer's manifest has it; None if no preprocessor has been there."""
        manifest = read_manifest(self.buffer.folder) or {}
        try:
            return manifest["num_images"] // manifest["batch_size"] or None
        except (KeyError, TypeError, ZeroDivisionError):
            return None

    def read_step(self) -> int:
        """The step of the next batch that the trainer needs.

        Raises:
            ProgressError: Nobody knows.
        """
        batches = self.batches_per_epoch
        if batches is None:
            raise ProgressError(
                f"{self.buffer.folder}: no batches have been made here yet "
                "(runtime_preprocessing.py makes them)"
            )
        # An end far away: another --epoch_end than ours is no error here.
        return read_progress(self.buffer.folder, batches, 10**18)

    def _step_or_none(self) -> int | None:
        with contextlib.suppress(ProgressError):
            return self.read_step()
        return None

    def lines(self, watch_seconds: float) -> list[str]:
        """All there is to say, a line each."""
        lines = [self._program(role) for role in (locks.TRAINER, locks.PREPROCESSOR)]
        try:
            step = self.read_step()
        except ProgressError as error:
            lines.append(f"position    unknown: {error}")
        else:
            lines += self._progress(step, watch_seconds)
        if self.buffer.folder.is_dir():
            lines += self._buffer_lines()
        if self.run_folder is not None:
            lines += self._run_lines(self.run_folder)
        return lines

    def _program(self, role: str) -> str:
        folder = self.buffer.folder
        if locks.is_alive(folder, role):
            return f"{role}.py runs, process {locks.owner(folder, role)}"
        return f"{role}.py does not run"

    def _progress(self, step: int, watch_seconds: float) -> list[str]:
        """Position, fill, speed and time left."""
        batches, folder = self.batches_per_epoch, self.buffer.folder
        end = self.epoch_end * batches
        position = to_position(step, batches)
        ahead = sum(ready >= position for ready in self.buffer.ready())
        wanted = min(self.config.train.buffer_size, max(end - step, 0))
        lines = [
            f"position    {position} of {batches:,}; {step / end:.1%} of "
            f"{self.epoch_end} epochs",
            f"buffer      {ahead} of {wanted} batches ready",
        ]
        if step >= end:
            return [
                *lines,
                f"time left   none, all {self.epoch_end} epochs are trained",
            ]
        if not locks.is_alive(folder, locks.TRAINER):
            return [*lines, "time left   unknown, nothing is being trained"]
        speed = steps_per_second(self._step_or_none, watch_seconds)
        batch_size = read_manifest(folder)["batch_size"]
        source = f"in the last {watch_seconds:g} s"
        if speed <= 0:  # One that makes a step in some seconds, or one that waits.
            last = self.last_row()
            speed = (number(last, "images_per_second") if last else 0) / batch_size
            source = f"in the last epoch; no two steps {source}"
        if not speed > 0:
            return [*lines, f"speed       no two steps in {watch_seconds:g} s"]
        return [
            *lines,
            f"speed       {speed * batch_size:.1f} images/s, {speed:.2f} batches/s "
            f"({source})",
            f"time left   {duration((end - step) / speed)} at this speed",
        ]

    def last_row(self) -> dict[str, str] | None:
        """The newest row of the run's metrics.csv."""
        folder = self.run_folder
        rows = read_table(folder / METRICS_FILE) if folder else []
        return rows[-1] if rows else None

    def _buffer_lines(self) -> list[str]:
        folder = self.buffer.folder
        return [
            f"disk        {_disk(folder)}",
            f"bad images  {len(UnreadableLog(folder))} so far, named in "
            f"{UnreadableLog(folder).path}",
        ]

    def _run_lines(self, folder: Path) -> list[str]:
        lines = [f"disk        {_disk(folder)}"]
        if row := self.last_row():
            top1, top5 = number(row, "top1"), number(row, "top5")
            lines.append(
                f"last epoch  {row.get('epoch')}: loss {number(row, 'loss'):.3f}, "
                f"top-1 {top1:.1%}, top-5 {top5:.1%}, "
                f"{number(row, 'images_per_second'):.1f} images/s, "
                f"waiting {number(row, 'waiting'):.1%}"
            )
        return lines


def _disk(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return f"{folder}: {folder_bytes(folder) / 1e9:.2f} GB, {free / 1e9:.1f} GB free"


def duration(seconds: float) -> str:
    """Days, hours and minutes; of less than a minute the seconds."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes:02d} min"
