"""Keeps the buffer filled ahead of the trainer.

The refill is stateless. At each look it compares the folder with the window
[trained, min(trained + buffer_size, end)), deletes what is outside and makes what is
missing, nearest first. So a restart, a trainer that resumes from an older checkpoint,
and a file deleted by hand need no special case.
"""

import errno
import shutil
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from typing import NamedTuple

from resnet50.errors import UserError
from resnet50.handoff.buffer import NUM_KINDS, BatchBuffer
from resnet50.handoff.locks import FolderLostError
from resnet50.handoff.lost_folder import PreprocessorsPlace
from resnet50.handoff.manifest import remove_batch_temporaries
from resnet50.handoff.progress import Position, to_position, to_step
from resnet50.preprocessing.batches import (
    Assignment,
    Assignments,
    BatchSettings,
    NothingReadableError,
    make_batch,
)
from resnet50.preprocessing.process_pool import WorkerPool
from resnet50.preprocessing.trainer_watch import ProgressFollower
from resnet50.preprocessing.unreadable import UnreadableLog

# What must stay free on the buffer's disk besides the buffer: for the folder's other
# files, and for what others write there. The share is for small disks, such as the
# /dev/shm of 64 MB that containers have.
_RESERVE_BYTES, _RESERVE_SHARE = 64 * 2**20, 0.02

# Pools of workers that may die one after another without making a single batch.
_MAX_BROKEN_POOLS = 3


class DiskSpaceError(UserError):
    """The buffer's disk has no room for even a small buffer."""


class WorkersDyingError(UserError):
    """Workers die again and again before they finish a batch."""


class Plan(NamedTuple):
    """What a look at the buffer says must be done."""

    delete: list[int]  # steps outside the window
    make: list[int]  # missing steps, nearest first
    num_ahead: int  # ready without a gap from the trainer's next step on


class Status(NamedTuple):
    """What the preprocessing is at, for a person to read."""

    num_ready: int
    window_size: int
    trained: Position
    trainer_is_alive: bool
    num_made: int
    num_unreadable: int


def plan_refill(
    window: range,
    ready: Collection[int],
    present: Collection[int],
    in_progress: Collection[int] = (),
) -> Plan:
    """Compares the buffer with the window; pure.

    Args:
        window: The steps that shall be in the buffer.
        ready: Steps whose batch is complete.
        present: Steps that have any file at all.
        in_progress: Steps that a worker is making.
    """
    first_gap = next((step for step in window if step not in ready), window.stop)
    return Plan(
        delete=sorted(step for step in present if step not in window),
        make=[s for s in window if s not in ready and s not in in_progress],
        num_ahead=first_gap - window.start,
    )


def fitting_buffer_size(buffer: BatchBuffer, buffer_size: int, batch_bytes: int) -> int:
    """How many batches, at most buffer_size, the buffer's disk has room for.

    Batches that are already there count as room.

    Raises:
        DiskSpaceError: Not even two batches fit.
    """
    disk = shutil.disk_usage(buffer.folder)
    reserve = min(_RESERVE_BYTES, int(_RESERVE_SHARE * disk.total))
    fitting = len(buffer.ready()) + max(0, disk.free - reserve) // batch_bytes
    if fitting < min(2, buffer_size):
        raise DiskSpaceError(
            f"{buffer.folder}: {disk.free / 1e6:.1f} MB free, but two batches take "
            f"{2 * batch_bytes / 1e6:.1f} MB and {reserve / 1e6:.1f} MB are a reserve "
            "(free some, change [train] buffer_folder, or lower --batch_size)"
        )
    return min(buffer_size, fitting)


def make_and_write(
    recipe: BatchSettings, buffer: BatchBuffer, assignment: Assignment
) -> list[tuple[str, str]]:
    """Makes one batch and commits it. Runs in a worker.

    Returns:
        Name and reason of each image that could not be read.
    """
    batch = make_batch(recipe, assignment)
    buffer.write(assignment.position, batch.images, batch.labels, batch.shifts)
    return batch.unreadable


class Refill:
    """The preprocessing process: look, delete, make, sleep, until all is trained."""

    def __init__(
        self,
        buffer: BatchBuffer,
        assignments: Assignments,
        recipe: BatchSettings,
        follower: ProgressFollower,
        place: PreprocessorsPlace,
        *,
        batches_per_epoch: int,
        end_step: int,
        buffer_size: int,
        refill_below: float,
        sleep_seconds: float,
        open_pool: Callable[[], AbstractContextManager[WorkerPool]],
        notify: Callable[[str], None],
        report: Callable[[Status], None],
    ):
        """Prepares; nothing happens before ``run``.

        Args:
            buffer: Where the batches go. This process holds its lock.
            assignments: Which images belong to a batch.
            recipe: How they become one.
            follower: Knows what the trainer is at.
            place: Makes the folder again when it was deleted.
            batches_per_epoch: For the addresses.
            end_step: The step after the last one of the training.
            buffer_size: Batches to keep ahead.
            refill_below: Share of buffer_size; with more than it ahead, sleep.
            sleep_seconds: Between two looks with nothing to do.
            open_pool: Opens the pool of workers: this machine's, or a cluster's.
            notify: Takes a line for the user.
            report: Takes the status, at each look.
        """
        self._buffer = buffer
        self._assignments = assignments
        self._recipe = recipe
        self._follower = follower
        self._place = place
        self._batches_per_epoch = batches_per_epoch
        self._end_step = end_step
        self._buffer_size = buffer_size
        self._refill_below = refill_below
        self._sleep_seconds = sleep_seconds
        self._open_pool = open_pool
        self._notify = notify
        self._report = report
        self._log = UnreadableLog(buffer.folder)
        self._num_made = 0
        self._obstacle: tuple | None = None

    def run(self) -> None:
        """Returns when the trainer has finished the last epoch.

        Raises:
            WorkersDyingError: Worker processes die again and again.
        """
        broken_in_a_row = 0
        while True:
            made_before = self._num_made
            try:
                with self._open_pool() as pool:
                    self._run_with(pool)
                return
            except BrokenProcessPool:
                # Nothing to repair: what is missing is found by looking.
                broken_in_a_row = (
                    1 if self._num_made > made_before else broken_in_a_row + 1
                )
            if broken_in_a_row == _MAX_BROKEN_POOLS:
                raise WorkersDyingError(
                    "worker processes die before they finish a batch (out of memory? "
                    "lower [runtime_preprocessing] num_workers)"
                )
            self._notify("a worker process died (out of memory?); starting new ones")
            remove_batch_temporaries(self._buffer)

    def _run_with(self, pool: WorkerPool) -> None:
        running: dict[Future, int] = {}
        is_refilling = True
        while True:
            try:
                plan = self._look(running.values())
            except OSError as error:
                is_whole_line = isinstance(error, FolderLostError)
                where = "" if is_whole_line else f"{self._buffer.folder}: "
                self._tell_obstacle(error, f"{where}{error}")
                self._follower.sleep(self._sleep_seconds)
                continue
            if plan is None:
                return
            if plan.num_ahead < self._refill_below * self._buffer_size:
                is_refilling = True
            if not plan.make:
                is_refilling = False
            if is_refilling:
                # As many again wait in line, so that no worker waits for this process.
                for step in plan.make[: 2 * pool.num_workers - len(running)]:
                    position = to_position(step, self._batches_per_epoch)
                    task = (self._recipe, self._buffer, self._assignments[position])
                    running[pool.submit(make_and_write, *task)] = step
            if running:
                done, _ = wait(running, self._sleep_seconds, FIRST_COMPLETED)
                successes = [self._finish(f, running.pop(f)) for f in done]
                if not all(successes):
                    self._follower.sleep(self._sleep_seconds)
            else:
                self._follower.sleep(self._sleep_seconds)

    def _steps(self, positions: Iterable[Position]) -> set[int]:
        """Steps of some positions; deletes those that no epoch has."""
        steps = set()
        for position in positions:
            if position.batch_index < self._batches_per_epoch:
                steps.add(to_step(position, self._batches_per_epoch))
            else:
                self._buffer.delete(position)
        return steps

    def _look(self, in_progress: Collection[int]) -> Plan | None:
        """Compares, deletes and reports; returns None when all is trained."""
        if self._place.keep():
            self._log.restore()
        trained = self._follower.trained_step()
        window = range(trained, min(trained + self._buffer_size, self._end_step))
        files = self._buffer.files()
        ready = self._steps(p for p, kinds in files.items() if len(kinds) == NUM_KINDS)
        present = self._steps(files)
        plan = plan_refill(window, ready, present, set(in_progress))
        for step in plan.delete:
            self._buffer.delete(to_position(step, self._batches_per_epoch))
        self._report(
            Status(
                num_ready=sum(step in ready for step in window),
                window_size=len(window),
                trained=to_position(trained, self._batches_per_epoch),
                trainer_is_alive=self._follower.trainer_is_alive,
                num_made=self._num_made,
                num_unreadable=len(self._log),
            )
        )
        return plan if window else None

    def _tell_obstacle(self, error: Exception, text: str) -> None:
        """Says what is in the way, once for each kind: its text may name a batch."""
        obstacle = type(error), getattr(error, "errno", None)
        if obstacle != self._obstacle:
            self._obstacle = obstacle
            self._notify(f"{text}; trying again every {self._sleep_seconds:g} s")

    def _make_room(self, step: int) -> None:
        """Deletes the farthest batch: on a full disk it keeps a nearer one out."""
        farther = [other for other in self._steps(self._buffer.ready()) if other > step]
        if farther:
            farthest = to_position(max(farther), self._batches_per_epoch)
            self._buffer.delete(farthest)

    def _finish(self, future: Future, step: int) -> bool:
        """Takes a worker's result; False if the disk stands in the way.

        Nothing needs to be undone or remembered: the batch is still missing.
        """
        position = to_position(step, self._batches_per_epoch)
        try:
            unreadable = future.result()
            self._buffer.confirm(position)
        except BrokenProcessPool:
            raise
        except (OSError, NothingReadableError) as error:
            if self._place.missing():
                return True  # That is why; the next look tells it and makes it again.
            self._tell_obstacle(error, f"{position} cannot be made: {error}")
            if getattr(error, "errno", None) == errno.ENOSPC:
                self._make_room(step)
            return False
        if self._obstacle:
            self._notify("batches are being made again")
            self._obstacle = None
        self._num_made += 1
        for name, reason in unreadable:
            if self._log.add(name, reason):
                self._notify(f"{name}: unreadable, replaced: {reason}")
        return True
