"""The status of a running pair of programs, read from the files that they share.

    python -m resnet50 status

Prints which of the two programs runs, the trainer's position and speed, how full the
buffer is, the time left, the disk use and the images that could not be read. Only
reads, so it can run at any time, whether the programs run or not. The run is the one
that is being trained in saved_models_folder of config.txt, or --run_folder.

    python -m resnet50 status --check

instead judges whether both programs run and make progress, for a health check; the exit
status is 1 if not. --check=train, or --check=runtime_preprocessing, judges one of them.

    python -m resnet50 status --follow

shows the pair again every second, with both speeds, which program limits, the curve of
the loss and the newest messages, until all epochs are trained or Ctrl-C. If stdout is
no terminal, it prints a line every --seconds instead.
"""

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from resnet50 import command_line
from resnet50.checks.health import require_healthy
from resnet50.config.settings import ConfigError
from resnet50.handoff import locks
from resnet50.handoff.progress import ProgressError, to_position
from resnet50.preprocessing.buffer_folder import UnreadableLog
from resnet50.reports.curves import number
from resnet50.reports.live.pair_files import PairFiles, duration, find_trained_run
from resnet50.reports.live.pair_view import follow
from resnet50.reports.live.pair_watch import PairWatch

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


class PairStatus(PairFiles):
    """Words the status of the programs that share a buffer."""

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
        if waiting_for := self.waiting_for():
            lines.append(f"waiting     {waiting_for}, since the epoch's start")
        if folder.is_dir():
            log = UnreadableLog(folder)
            bad = f"bad images  {len(log)} so far, named in {log.path}"
            lines += [disk_line(folder), bad]
        if self.run_folder is not None:
            lines += [disk_line(self.run_folder), *self._last_epoch()]
        return lines

    def _progress(self, step: int, watch_seconds: float) -> list[str]:
        """Position, fill, speed and time left."""
        batches, end = self.batches_per_epoch, self.end_step
        position = to_position(step, batches)
        ahead, _ = self.steps_ready(step)
        wanted = self.num_wanted(step)
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
        speed = steps_per_second(self.step_or_none, watch_seconds)
        batch_size = self.batch_size
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
        return [{}, *self.metrics()][-1]

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
        help="how long to watch the trainer for its speed, default: 5; with --follow "
        "and without a terminal, how often to print a line, default: 30",
    )
    parser.add_argument(
        "--follow", action="store_true", help="show the pair again every second"
    )
    parser.add_argument(
        "--check",
        nargs="?",
        const="both",
        choices=["both", locks.TRAINER, locks.PREPROCESSOR],
        help="only judge whether both programs, or one, run and make progress",
    )
    return parser


def main() -> None:
    """Prints the status, follows the pair, or judges it."""
    args = build_parser().parse_args()
    seconds = args.seconds
    if seconds is None:
        seconds = 30.0 if args.follow else 5.0
    if not 0 < seconds <= 3600:
        raise ConfigError(f"--seconds = {seconds:g} (must be above 0, to 3600)")
    config = command_line.load_config(args)
    if args.check:
        both = (locks.TRAINER, locks.PREPROCESSOR)
        for role in both if args.check == "both" else (args.check,):
            print(require_healthy(config.train.buffer_folder, role))
        return
    epoch_end = config.train.epochs if args.epoch_end is None else args.epoch_end
    if epoch_end < 1:
        raise ConfigError(f"--epoch_end = {epoch_end} (must be at least 1)")
    if args.run_folder is None:
        run_folder = find_trained_run(config.train.saved_models_folder)
    else:
        run_folder = command_line.run_folder(args, config)
        if not run_folder.is_dir():
            raise ConfigError(f"{run_folder}: there is no such run (see --run_folder)")
    if args.follow:
        given = None if args.run_folder is None else run_folder
        follow(PairWatch(config, given, epoch_end), Console(), seconds)
        return
    status = PairStatus(config.train, run_folder, epoch_end)
    print(*status.lines(seconds), sep="\n")
