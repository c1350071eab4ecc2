"""Keeps the buffer of ready batches filled ahead of train.py.

    python3 runtime_preprocessing.py --epoch_start=0 --epoch_end=30 --batch_size=64

Ends by itself when the trainer has finished the last epoch. Can be stopped, killed and
restarted at any moment.
"""

import functools
import time
from collections import deque

from resnet50 import command_line
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.lost_folder import PreprocessorsPlace
from resnet50.handoff.manifest import adopt_buffer
from resnet50.handoff.shared_folder import SharedBuffer
from resnet50.preprocessing.batches import Assignments, BatchSettings
from resnet50.preprocessing.process_pool import worker_pool
from resnet50.preprocessing.refill import (
    Refill,
    Status,
    fitting_buffer_size,
)
from resnet50.preprocessing.trainer_watch import ProgressFollower
from resnet50.terminal import StatusBar, say


class BufferReport:
    """Shows a Status as a bar: how full the buffer is, the speed, the trainer."""

    # Batches a second are of the last this many seconds in which any were made.
    _SPEED_SECONDS = 20

    def __init__(self, bar: StatusBar):
        self._bar = bar
        self._made = deque([(time.monotonic(), 0)])

    def __call__(self, status: Status) -> None:
        """Takes the newest status; draws it if the last drawing is old enough."""
        now = time.monotonic()
        if status.num_made > self._made[-1][1]:
            self._made.append((now, status.num_made))
        while len(self._made) > 2 and now - self._made[0][0] > self._SPEED_SECONDS:
            self._made.popleft()
        if not self._bar.is_due():
            return
        (first, made_first), (last, made_last) = self._made[0], self._made[-1]
        speed = (made_last - made_first) / max(last - first, 1e-9)
        trainer = "trainer" if status.trainer_is_alive else "trainer (not running)"
        text = f"{speed:.2f} batches/s, {trainer} at {status.trained}"
        if status.num_unreadable:
            text += f", {status.num_unreadable} unreadable"
        self._bar.show("buffer", status.num_ready, status.window_size, text)


def _cluster(scheduler: str, buffer: SharedBuffer, dataset: Dataset):
    """What opens a pool of a cluster's workers."""
    # Only here: with workers on this machine nothing of it is needed.
    from resnet50.preprocessing.dask.pool import DaskPool

    some_images = dataset.sources(range(min(16, dataset.num_images)))
    return functools.partial(DaskPool, scheduler, buffer, some_images, say)


def main() -> None:
    """Reads the settings, takes the buffer, and refills it until all is trained."""
    parser = command_line.make_parser(__doc__, "batch_size", "num_workers")
    command_line.add_epoch_flags(parser)
    args = parser.parse_args()
    config = command_line.load_config(args)
    epochs = command_line.epoch_range(args, config)

    # Made first: what is found among the images is remembered in it.
    buffer = BatchBuffer(config.train.buffer_folder)
    command_line.make_folder(buffer.folder, "[train] buffer_folder")
    dataset = open_training_set(config.dataset, buffer.folder, say)
    recipe = BatchSettings.from_config(config)
    batches_per_epoch = dataset.batches_per_epoch(recipe.batch_size)
    spec = recipe.spec(dataset)
    say(
        f"{dataset.summary}, {batches_per_epoch:,} batches of {recipe.batch_size} "
        "an epoch"
    )
    settings, manifest = config.runtime_preprocessing, recipe.manifest(dataset)
    if settings.executor == "dask":
        buffer = SharedBuffer(config.train.buffer_folder, manifest)
        open_pool = _cluster(settings.scheduler, buffer, dataset)
    else:
        open_pool = functools.partial(worker_pool, settings.num_workers)
    with locks.exclusive_role(buffer.folder, locks.PREPROCESSOR) as role:
        adopt_buffer(buffer, manifest, say)
        wanted = config.train.buffer_size
        buffer_size = fitting_buffer_size(buffer, wanted, spec.batch_bytes)
        say(
            f"{buffer.folder}: {wanted} batches of {spec.batch_bytes / 1e6:.1f} MB "
            f"take {wanted * spec.batch_bytes / 1e9:.1f} GB"
            + ("" if buffer_size == wanted else f"; only {buffer_size} fit")
        )
        end_step = epochs.stop * batches_per_epoch
        follower = ProgressFollower(
            buffer,
            batches_per_epoch=batches_per_epoch,
            start_step=epochs.start * batches_per_epoch,
            end_step=end_step,
            notify=say,
        )
        with StatusBar(bar_width=20) as bar:
            Refill(
                buffer,
                Assignments(dataset, recipe),
                recipe,
                follower,
                PreprocessorsPlace(role, buffer, manifest, say),
                batches_per_epoch=batches_per_epoch,
                end_step=end_step,
                buffer_size=buffer_size,
                refill_below=settings.refill_below,
                sleep_seconds=settings.sleep_time,
                open_pool=open_pool,
                notify=say,
                report=BufferReport(bar),
            ).run()
    say(f"training up to epoch {epochs.stop} has finished")
