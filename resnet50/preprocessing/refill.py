"""Keeps the buffer filled ahead of the trainer.

The refill is stateless. At each poll it compares the folder with the window
[trained, min(trained + buffer_size, end)), deletes the batches outside the window and
makes the missing ones, nearest first. So a restart, a trainer that resumes from an
older checkpoint, and a file deleted by hand need no special case.
"""

import contextlib
import errno
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from typing import NamedTuple

from resnet50.handoff.buffer import KINDS, BatchBuffer
from resnet50.handoff.locks import FolderLostError
from resnet50.handoff.lost_folder import PreprocessorFiles
from resnet50.handoff.manifest import remove_batch_temporaries
from resnet50.handoff.progress import Position
from resnet50.observer import Observer
from resnet50.preprocessing.batches import (
    Assignment,
    Assignments,
    BatchSettings,
    NothingReadableError,
    make_batch,
)
from resnet50.preprocessing.buffer_folder import Plan, UnreadableLog, plan_refill
from resnet50.preprocessing.process_pool import WorkerPool, WorkersDiedError
from resnet50.preprocessing.trainer_watch import ProgressFollower

# How many pools of workers may die in a row without making a batch.
_MAX_BROKEN_POOLS = 3


class Status(NamedTuple):
    """State of the preprocessing, for the observer."""

    num_ready: int
    window_size: int
    trained: Position
    trainer_is_alive: bool
    num_made: int
    num_unreadable: int


class RefillSettings(NamedTuple):
    """How full the buffer is kept."""

    buffer_size: int  # batches to keep ahead of the trainer
    refill_below: float  # share of buffer_size; with more than that ahead, sleep
    sleep_seconds: float  # between two polls if there is nothing to do


def make_and_write(
    settings: BatchSettings, buffer: BatchBuffer, assignment: Assignment
) -> list[tuple[str, str]]:
    """Makes a batch and commits it. Runs in a worker.

    Returns name and reason of each image that could not be read.
    """
    batch = make_batch(settings, assignment)
    buffer.write(assignment.position, batch.images, batch.labels, batch.shifts)
    return batch.unreadable


class Refill:
    """The preprocessing process: poll, delete, make, sleep, until all is trained."""

    def __init__(
        self,
        buffer: BatchBuffer,
        files: PreprocessorFiles,
        assignments: Assignments,
        follower: ProgressFollower,
        settings: RefillSettings,
        open_pool: Callable[[], AbstractContextManager[WorkerPool]],
        observer: Observer,
    ):
        """Prepares; nothing happens before ``run``.

        The observer is notified of problems, and is shown a Status at each poll.
        """
        self._buffer = buffer
        self._files = files
        self._assignments = assignments
        self._follower = follower
        self._settings = settings
        self._open_pool = open_pool
        self._observer = observer
        self._steps = follower.steps
        self._log = UnreadableLog(buffer.folder)
        self._num_made = 0
        self._problem: tuple | None = None  # the last one that the user heard of

    def run(self) -> None:
        """Returns when the trainer has finished the last epoch.

        Raises:
            WorkersDiedError: Worker processes die again and again.
        """
        broken_in_a_row = 0
        while True:
            made_before = self._num_made
            try:
                with self._open_pool() as pool:
                    self._run_with(pool)
                return
            except BrokenProcessPool:
                # Nothing to repair: the next poll finds what is missing.
                has_made = self._num_made > made_before
                broken_in_a_row = 1 if has_made else broken_in_a_row + 1
            if broken_in_a_row == _MAX_BROKEN_POOLS:
                raise WorkersDiedError(
                    "worker processes die before they finish a batch (out of memory? "
                    "lower [runtime_preprocessing] num_workers)"
                )
            self._observer.notify(
                "a worker process died (out of memory?); starting new ones"
            )
            with contextlib.suppress(OSError):  # The next poll reports it.
                remove_batch_temporaries(self._buffer)

    def _run_with(self, pool: WorkerPool) -> None:
        running: dict[Future, int] = {}
        is_refilling = True
        buffer_size, refill_below, sleep_seconds = self._settings
        while True:
            try:
                plan = self._poll(running.values())
            except OSError as error:
                names_folder = isinstance(error, FolderLostError)
                where = "" if names_folder else f"{self._buffer.folder}: "
                self._report(error, f"{where}{error}")
                self._follower.sleep(sleep_seconds)
                continue
            if plan is None:
                return
            if plan.num_ahead < refill_below * buffer_size:
                is_refilling = True
            if not plan.make:
                is_refilling = False
            if is_refilling:
                # Two tasks per worker, so that no worker waits for this process. More
                # are running if the pool has shrunk.
                num_tasks = max(0, 2 * pool.num_workers - len(running))
                for step in plan.make[:num_tasks]:
                    assignment = self._assignments[self._steps.position(step)]
                    task = self._assignments.settings, self._buffer, assignment
                    running[pool.submit(make_and_write, *task)] = step
            if running:
                done, _ = wait(running, sleep_seconds, FIRST_COMPLETED)
                successes = [self._finish(f, running.pop(f)) for f in done]
                if all(successes):
                    continue
            self._follower.sleep(sleep_seconds)

    def _to_steps(self, positions: Iterable[Position]) -> set[int]:
        """Steps of some positions; deletes batches that no epoch has."""
        steps = set()
        for position in positions:
            if position.batch_index < self._steps.batches_per_epoch:
                steps.add(self._steps.step(position))
            else:
                self._buffer.delete(position)
        return steps

    def _poll(self, in_progress: Collection[int]) -> Plan | None:
        """Polls trainer and folder, and deletes; returns None when all is trained."""
        if self._files.restore():
            self._log.restore()
        trained = self._follower.trained_step()
        end = min(trained + self._settings.buffer_size, self._steps.end)
        window = range(trained, end)
        files = self._buffer.files()
        ready = self._to_steps(p for p, kinds in files.items() if kinds == KINDS)
        plan = plan_refill(window, ready, self._to_steps(files), set(in_progress))
        self._follower.check_trainer(is_batch_ready=plan.num_ahead > 0)
        for step in plan.delete:
            self._buffer.delete(self._steps.position(step))
        self._observer.show(
            Status(
                num_ready=sum(step in ready for step in window),
                window_size=len(window),
                trained=self._steps.position(trained),
                trainer_is_alive=self._follower.trainer_is_alive,
                num_made=self._num_made,
                num_unreadable=len(self._log),
            )
        )
        return plan if window else None

    def _report(self, error: Exception, text: str) -> None:
        """Reports a problem once per kind: the text may name a batch."""
        problem = type(error), getattr(error, "errno", None)
        if problem != self._problem:
            self._problem = problem
            seconds = self._settings.sleep_seconds
            self._observer.notify(f"{text}; trying again every {seconds:g} s")

    def _make_room(self, step: int) -> None:
        """Deletes the farthest batch, so that a nearer one fits on a full disk."""
        with contextlib.suppress(OSError):  # The next poll reports it.
            farthest = max(self._to_steps(self._buffer.ready()), default=step)
            if farthest > step:
                self._buffer.delete(self._steps.position(farthest))

    def _finish(self, future: Future, step: int) -> bool:
        """Handles a worker's result; returns False if there was a problem.

        Nothing has to be undone or remembered: the batch is still missing.
        """
        position = self._steps.position(step)
        try:
            unreadable = future.result()
            self._buffer.confirm(position)
        except BrokenProcessPool:
            raise
        except (OSError, NothingReadableError, MemoryError) as error:
            if self._files.missing():
                return True  # That is why. The next poll reports and restores it.
            reason = str(error)
            if isinstance(error, MemoryError):
                reason += " (lower [runtime_preprocessing] num_workers)"
            self._report(error, f"{position} cannot be made: {reason}")
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                self._make_room(step)
            return False
        if self._problem:
            self._observer.notify("batches are being created again")
            self._problem = None
        self._num_made += 1
        for name, reason in unreadable:
            if self._log.add(name, reason):
                self._observer.notify(f"{name}: unreadable, replaced: {reason}")
        return True
