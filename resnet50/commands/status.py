"""The status of a running pair of programs, read from the files that they share.

    python -m resnet50 status

Prints which of the two programs runs, the trainer's position and speed, how full the
buffer is, the time left, the disk use and the images that could not be read. Only
reads, so it can run at any time, whether the programs run or not. The run is the one
that is being trained in saved_models_folder of config.txt, or --run_folder.
"""

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from resnet50 import command_line
from resnet50.config.settings import ConfigError, TrainConfig
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import read_manifest
from resnet50.handoff.progress import ProgressError, read_progress, to_position
from resnet50.preprocessing.buffer_folder import UnreadableLog
from resnet50.reports.curves import number
from resnet50.reports.tables import METRICS_FILE, read_table

_POLL_SECONDS = 0.05


def steps_per_second(read_step: Callable[[], int | None], seconds: float) -> float:
    """The speed of a counter between its first and its last change.

    Polls for some seconds; returns 0 after fewer than two changes. The counter is None
    while it cannot be read.
    """
    changes: list[tuple[float, int]] = []
    last = read_step()
    started = time.monotonic()
    while (now := time.monotonic()) - started < seconds:
        step = read_step()
        if step is not None and step != last:
            changes.append((now, step))
            last = step
        time.sleep(_POLL_SECONDS)
    if len(changes) < 2:
        return 0.0
    (first_time, first), (last_time, last) = changes[0], changes[-1]
    return (last - first) / (last_time - first_time)


def disk_line(folder: Path) -> str:
    """The size of a folder, and the free space on its disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # Deleted meanwhile.
                total += (Path(parent) / name).stat().st_size
    free = shutil.disk_usage(folder).free
    return f"disk        {folder}: {total / 1e9:.2f} GB, {free / 1e9:.1f} GB free"


def find_trained_run(saved_models_folder: Path) -> Path | None:
    """The folder of the run that is being trained; None if there is none."""
    if saved_models_folder.is_dir():
        for folder in sorted(saved_models_folder.iterdir()):
            if folder.is_dir() and locks.is_alive(folder, locks.TRAINER):
                return folder
    return None


class PairStatus:
    """Reads the status of the programs that share a buffer."""

    def __init__(self, train: TrainConfig, run_folder: Path | None, epoch_end: int):
        """Reads the buffer's manifest; without a run's folder, the run is unknown."""
        self.buffer = BatchBuffer(train.buffer_folder)
        # Read once: the buffer may be emptied while the trainer is watched.
        self._manifest = read_manifest(train.buffer_folder) or {}
        self.buffer_size, self.epoch_end = train.buffer_size, epoch_end
        self.run_folder = run_folder

    @property
    def batches_per_epoch(self) -> int:
        """From the buffer's manifest.

        Raises:
            ProgressError: That does not say.
        """
        with contextlib.suppress(KeyError, TypeError, ZeroDivisionError):
            batches = self._manifest["num_images"] // self._manifest["batch_size"]
            if batches:
                return batches
        raise ProgressError(
            f"{self.buffer.folder}: no batches have been made here yet "
            "(runtime_preprocessing.py makes them)"
        )

    def read_step(self) -> int:
        """The step of the next batch that the trainer needs.

        Raises:
            ProgressError: It is unknown.
        """
        batches = self.batches_per_epoch
        # The trainer may have another --epoch_end, so any end is allowed.
        return read_progress(self.buffer.folder, batches, 10**18)

    def _step_or_none(self) -> int | None:
        with contextlib.suppress(ProgressError):
            return self.read_step()
        return None

    def lines(self, watch_seconds: float) -> list[str]:
        """The whole status; watches the trainer for some seconds for its speed."""
        folder = self.buffer.folder
        lines = [
            f"{role}.py runs, process {locks.owner(folder, role)}"
            if locks.is_alive(folder, role)
            else f"{role}.py does not run"
            for role in (locks.TRAINER, locks.PREPROCESSOR)
        ]
        try:
            lines += self._progress(self.read_step(), watch_seconds)
        except ProgressError as error:
            lines.append(f"position    unknown: {error}")
        if folder.is_dir():
            log = UnreadableLog(folder)
            bad = f"bad images  {len(log)} so far, named in {log.path}"
            lines += [disk_line(folder), bad]
        if self.run_folder is not None:
            lines += [disk_line(self.run_folder), *self._last_epoch()]
        return lines

    def _progress(self, step: int, watch_seconds: float) -> list[str]:
        """Position, fill, speed and time left."""
        batches = self.batches_per_epoch
        end = self.epoch_end * batches
        position = to_position(step, batches)
        ahead = sum(ready >= position for ready in self.buffer.ready())
        wanted = min(self.buffer_size, max(end - step, 0))
        return [
            f"position    {position} of {batches:,}; {step / end:.1%} of "
            f"{self.epoch_end} epochs",
            f"buffer      {ahead} of {wanted} batches ready",
            *self._time_left(end - step, watch_seconds),
        ]

    def _time_left(self, num_steps: int, watch_seconds: float) -> list[str]:
        """Speed, and the time that a number of steps takes."""
        if num_steps <= 0:
            return [f"time left   none, all {self.epoch_end} epochs are trained"]
        if not locks.is_alive(self.buffer.folder, locks.TRAINER):
            return ["time left   unknown, nothing is being trained"]
        speed = steps_per_second(self._step_or_none, watch_seconds)
        batch_size = self._manifest["batch_size"]
        source = f"in the last {watch_seconds:g} s"
        if speed <= 0:  # The trainer waits, or a step takes seconds.
            speed = number(self._last_row(), "images_per_second") / batch_size
            source = f"in the last epoch; no two steps {source}"
        if not speed > 0:
            return [f"speed       no two steps in {watch_seconds:g} s"]
        return [
            f"speed       {speed * batch_size:.1f} images/s, {speed:.2f} batches/s "
            f"({source})",
            f"time left   {duration(num_steps / speed)} at this speed",
        ]

    def _last_row(self) -> dict[str, str]:
        """The newest row of the run's metrics.csv; empty if there is none."""
        rows = read_table(self.run_folder / METRICS_FILE) if self.run_folder else []
        return rows[-1] if rows else {}

    def _last_epoch(self) -> list[str]:
        row = self._last_row()
        if not row:
            return []
        columns = "loss", "top1", "top5", "images_per_second", "waiting"
        loss, top1, top5, speed, waiting = (number(row, c) for c in columns)
        return [
            f"last epoch  {row.get('epoch')}: loss {loss:.3f}, top-1 {top1:.1%}, "
            f"top-5 {top5:.1%}, {speed:.1f} images/s, waiting {waiting:.1%}"
        ]


def duration(seconds: float) -> str:
    """Days, hours and minutes; seconds if it is less than a minute."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes:02d} min"


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("--run_folder", help="default: the run being trained")
    parser.add_argument(
        "--epoch_end", type=int, help="default: epochs in [train] of config.txt"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="how long to watch the trainer for its speed; default: 5",
    )
    return parser


def main() -> None:
    """Watches the trainer for some seconds, and prints the status."""
    args = build_parser().parse_args()
    if not 0 < args.seconds <= 3600:
        raise ConfigError(f"--seconds = {args.seconds:g} (must be above 0, to 3600)")
    config = command_line.load_config(args)
    epoch_end = config.train.epochs if args.epoch_end is None else args.epoch_end
    if epoch_end < 1:
        raise ConfigError(f"--epoch_end = {epoch_end} (must be at least 1)")
    if args.run_folder is None:
        run_folder = find_trained_run(config.train.saved_models_folder)
    else:
        run_folder = command_line.run_folder(args, config)
        if not run_folder.is_dir():
            raise ConfigError(f"{run_folder}: there is no such run (see --run_folder)")
    status = PairStatus(config.train, run_folder, epoch_end)
    print(*status.lines(args.seconds), sep="\n")
