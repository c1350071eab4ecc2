"""Watches a running pair of programs: speeds, and which of the two limits."""

import collections
import dataclasses
import itertools
import os
import time
from pathlib import Path
from typing import NamedTuple

from resnet50.config.settings import Config
from resnet50.handoff import locks
from resnet50.handoff.progress import Position, to_position
from resnet50.message_log import Message
from resnet50.reports.live.pair_files import PairFiles, find_trained_run
from resnet50.reports.speed import THIS_WORKER, Speed, limit

# The speeds are those of this period. A step may take seconds.
_WATCHED_SECONDS = 60.0

# What limits is judged after this time.
_JUDGED_SECONDS = 5.0

_NUM_MESSAGES = 20


class _Poll(NamedTuple):
    """What one look at the files has found."""

    seconds: float  # of the monotonic clock
    step: int | None
    num_made: int  # batches that were made since the first poll
    num_ready: int
    is_next_ready: bool
    trainer_runs: bool
    preprocessor_runs: bool


class PairState(NamedTuple):
    """The state of a pair now, and its speeds in the last minute."""

    run_name: str  # "" if unknown
    position: Position | None  # of the next batch that the trainer needs
    batches_per_epoch: int
    epoch_end: int
    share: float  # of the training that is done, 0..1
    num_ready: int
    num_wanted: int
    batch_size: int
    processes: dict[str, str]  # id of each program that runs, by role
    speeds: dict[str, float | None]  # batches/s of each program, by role
    limit: str  # one sentence; "" if it cannot be judged
    seconds_left: float | None
    metrics: list[dict[str, str]]
    messages: list[tuple[str, Message]]

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are trained and the trainer has ended.

        Until a trainer reads its first batch, the position is that of an earlier
        training.
        """
        is_trained = self.position is not None and self.share >= 1
        return is_trained and locks.TRAINER not in self.processes


class PairWatch:
    """Polls the files of a pair. The run is the trained one unless it is given."""

    def __init__(self, config: Config, run_folder: Path | None, epoch_end: int):
        self._config = config
        self._files = PairFiles(config.train, run_folder, epoch_end)
        self._finds_run = run_folder is None
        self._polls: collections.deque[_Poll] = collections.deque()

    def poll(self) -> PairState:
        """Reads the files once."""
        files = self._files
        if self._finds_run:
            saved_models = self._config.train.saved_models_folder
            files.run_folder = find_trained_run(saved_models) or files.run_folder
        files.read_manifest()
        now = self._look()
        polls = self._polls
        before = polls[-1].step if polls else None
        if before is None or now.step is None or now.step < before:
            polls.clear()  # Unknown; another training, or an earlier checkpoint.
        polls.append(now)
        while len(polls) > 2 and polls[1].seconds <= now.seconds - _WATCHED_SECONDS:
            polls.popleft()
        return self._state(now)

    def _look(self) -> _Poll:
        files, last = self._files, self._polls[-1] if self._polls else None
        folder, step = files.buffer.folder, files.step_or_none()
        num_ready, is_next_ready = (
            (0, False) if step is None else files.steps_ready(step)
        )
        num_made = 0
        if last is not None and step is not None and last.step is not None:
            # What is ready now was ready before, was made since, or was trained.
            made = num_ready - last.num_ready + step - last.step
            num_made = last.num_made + max(0, made)
        return _Poll(
            time.monotonic(),
            step,
            num_made,
            num_ready,
            is_next_ready,
            locks.is_alive(folder, locks.TRAINER),
            locks.is_alive(folder, locks.PREPROCESSOR),
        )

    def _state(self, now: _Poll) -> PairState:
        files, folder = self._files, self._files.buffer.folder
        running = {
            locks.TRAINER: now.trainer_runs,
            locks.PREPROCESSOR: now.preprocessor_runs,
        }
        first = self._polls[0]
        seconds = now.seconds - first.seconds
        speeds: dict[str, float | None] = dict.fromkeys(running)
        if seconds > 0 and now.step is not None and first.step is not None:
            speeds[locks.TRAINER] = (now.step - first.step) / seconds
            speeds[locks.PREPROCESSOR] = (now.num_made - first.num_made) / seconds
        position = seconds_left = None
        batches_per_epoch = num_wanted = 0
        share = 0.0
        if now.step is not None:  # So the manifest says how many batches there are.
            batches_per_epoch = files.batches_per_epoch
            position = to_position(now.step, batches_per_epoch)
            num_wanted = files.num_wanted(now.step)
            share = now.step / files.end_step
            speed = speeds[locks.TRAINER]
            if now.trainer_runs and speed:
                seconds_left = max(0, files.end_step - now.step) / speed
        return PairState(
            run_name=files.run_folder.name if files.run_folder else "",
            position=position,
            batches_per_epoch=batches_per_epoch,
            epoch_end=files.epoch_end,
            share=share,
            num_ready=now.num_ready,
            num_wanted=num_wanted,
            batch_size=files.batch_size,
            processes={
                role: locks.owner(folder, role)
                for role, runs in running.items()
                if runs
            },
            speeds=speeds,
            limit=self._limits() if now.trainer_runs else "",
            seconds_left=seconds_left,
            metrics=files.metrics_or_none(),
            messages=files.newest_messages(_NUM_MESSAGES),
        )

    def _limits(self) -> str:
        """What limits here, and which of several hosts the training waits for."""
        waiting_for = self._files.waiting_for()
        if not waiting_for:
            return self._limit()
        text = f"Waiting {waiting_for}, since the epoch's start."
        return f"{text} {self._limit()}" if THIS_WORKER in waiting_for else text

    def _limit(self) -> str:
        """What limits, from how often the trainer's next batch was missing.

        Of the trainer's phases, only waiting can be seen from outside.
        """
        polls = self._polls
        seconds = polls[-1].seconds - polls[0].seconds
        num_steps = (polls[-1].step or 0) - (polls[0].step or 0)
        if seconds < _JUDGED_SECONDS or not num_steps:
            return ""
        absent = unattended = 0.0
        for earlier, later in itertools.pairwise(polls):
            if later.trainer_runs and not later.is_next_ready:
                if later.preprocessor_runs:
                    absent += later.seconds - earlier.seconds
                else:
                    unattended += later.seconds - earlier.seconds
        batch_size = self._files.batch_size
        speed = Speed(
            num_images=num_steps * batch_size,
            seconds=seconds,
            waiting=absent + unattended,
            saving=0.0,
            reading=0.0,
            absent=absent,
            unattended=unattended,
        )
        return limit(speed, self._judged_config(), os.cpu_count() or 1)

    def _judged_config(self) -> Config:
        """With the batch size of the buffer, and without a sleep that did not occur."""
        config = self._config
        train = dataclasses.replace(config.train, batch_size=self._files.batch_size)
        section = config.runtime_preprocessing
        # The preprocessor sleeps only when so much is ready.
        spare = section.refill_below * train.buffer_size
        if max(poll.num_ready for poll in self._polls) < spare:
            section = dataclasses.replace(section, sleep_time=0.0)
        return dataclasses.replace(config, train=train, runtime_preprocessing=section)
