"""Keeps the buffer of ready batches filled ahead of train.py.

    python3 runtime_preprocessing.py --epoch_start=0 --epoch_end=30 --batch_size=64

Ends by itself when the trainer has finished the last epoch. Can be stopped, killed and
restarted at any moment.
"""

import argparse
import functools
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager

from resnet50 import command_line, message_log
from resnet50.config.settings import RuntimePreprocessingConfig
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.cluster import ALONE, VARIABLE, parse_cluster
from resnet50.handoff.lost_folder import PreprocessorFiles
from resnet50.handoff.manifest import adopt_buffer
from resnet50.handoff.progress import Position, StepRange
from resnet50.handoff.shared_folder import SharedBuffer
from resnet50.observer import Observer
from resnet50.preprocessing.batches import Assignments, BatchSettings
from resnet50.preprocessing.buffer_folder import fitting_buffer_size
from resnet50.preprocessing.dask.transfer import NetworkBuffer
from resnet50.preprocessing.process_pool import WorkerPool, worker_pool
from resnet50.preprocessing.refill import Refill, RefillSettings, Status
from resnet50.preprocessing.trainer_watch import ProgressFollower
from resnet50.signals import raise_if_stopped
from resnet50.terminal import StatusBar, keep_messages, say


class BufferBar(Observer):
    """Prints lines above a bar that shows how full the buffer is, speed and trainer."""

    # Measures the speed over this many seconds before the last batch that was made.
    _SPEED_SECONDS = 20

    def __init__(self, bar: StatusBar):
        self._bar = bar
        self._made = deque([(time.monotonic(), 0)])

    def notify(self, line: str) -> None:
        """Prints a line."""
        say(line)

    def show(self, status: Status) -> None:
        """Draws the bar if the last drawing is old enough; called at each poll."""
        raise_if_stopped()
        now = time.monotonic()
        if status.num_made > self._made[-1][1]:
            self._made.append((now, status.num_made))
        earliest = self._made[-1][0] - self._SPEED_SECONDS
        while len(self._made) > 2 and self._made[0][0] < earliest:
            self._made.popleft()
        if not self._bar.is_due():
            return
        (first, made_first), (last, made_last) = self._made[0], self._made[-1]
        speed = (made_last - made_first) / max(last - first, 1e-9)
        parts = [f"{speed:.2f} batches/s", f"trainer at {status.trained}"]
        if not status.trainer_is_alive:
            parts[1:] = "trainer (not running)", f"at {status.trained}"
        if status.num_unreadable:
            parts.append(f"{status.num_unreadable} unreadable")
        self._bar.show("buffer", status.num_ready, status.window_size, parts)


def _pool_opener(
    section: RuntimePreprocessingConfig,
    buffer: BatchBuffer,
    dataset: Dataset,
    observer: Observer,
) -> Callable[[], AbstractContextManager[WorkerPool]]:
    """Returns a function that opens a pool of local workers, or of a cluster's."""
    if not isinstance(buffer, SharedBuffer | NetworkBuffer):
        return functools.partial(worker_pool, section.num_workers)
    # Imported only here, because local workers do not need it.
    from resnet50.preprocessing.dask.pool import DaskPool

    sample = dataset.sample()
    return functools.partial(DaskPool, section.scheduler, buffer, sample, observer)


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__, "batch_size", "num_workers")
    command_line.add_epoch_flags(parser)
    return parser


def main() -> None:
    """Reads the settings, takes the buffer, and refills it until all is trained."""
    args = build_parser().parse_args()
    config = command_line.load_config(args)
    epochs = command_line.epoch_range(args, config)

    cluster = ALONE
    if config.train.local_folders:
        cluster = parse_cluster(os.environ.get(VARIABLE), has_local_folders=True)
    rows = cluster.rows(config.train.batch_size)
    # The folder is needed first: it caches the listing of the images.
    buffer = BatchBuffer(config.train.buffer_folder, rows)
    command_line.make_folder(buffer.folder, "[train] buffer_folder")
    dataset = open_training_set(config.dataset, buffer.folder, say)
    settings = BatchSettings.from_config(config, rows)
    batches_per_epoch = dataset.batches_per_epoch(settings.batch_size)
    say(
        f"{dataset.summary}, {batches_per_epoch:,} batches of {settings.batch_size} "
        "an epoch"
    )
    if rows is not None:
        say(
            f"{cluster.name(cluster.index)}: makes rows {rows.first} to "
            f"{rows.end - 1} of each batch"
        )
    if dataset.imbalance:
        say(dataset.imbalance)
    start, end = Position(epochs.start, 0), Position(epochs.stop, 0)
    steps = StepRange.between(start, end, batches_per_epoch)
    section, manifest = config.runtime_preprocessing, settings.manifest(dataset)
    if section.executor == "dask":
        buffer = (
            NetworkBuffer(buffer.folder, rows)
            if section.transfer == "network"
            else SharedBuffer(buffer.folder, manifest)
        )
    with locks.exclusive_role(buffer.folder, locks.PREPROCESSOR) as role:
        keep_messages(buffer.folder / message_log.file_name(locks.PREPROCESSOR))
        adopt_buffer(buffer, manifest, say)
        wanted = config.train.buffer_size
        batch_bytes = settings.spec(dataset).batch_bytes
        buffer_size = fitting_buffer_size(buffer, wanted, batch_bytes)
        say(
            f"{buffer.folder}: {wanted} batches of {batch_bytes / 1e6:.1f} MB "
            f"take {wanted * batch_bytes / 1e9:.1f} GB"
            + ("" if buffer_size == wanted else f"; only {buffer_size} fit")
        )
        with StatusBar(bar_width=20) as bar:
            observer = BufferBar(bar)
            Refill(
                buffer,
                PreprocessorFiles(role, buffer, manifest, observer),
                Assignments(dataset, settings),
                ProgressFollower(buffer.folder, steps, observer),
                RefillSettings(buffer_size, section.refill_below, section.sleep_time),
                _pool_opener(section, buffer, dataset, observer),
                observer,
            ).run()
    say(f"training up to epoch {epochs.stop} has finished")
