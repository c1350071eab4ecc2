"""The two programs: their settings, and when each is restarted. No test."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from resnet50.config.toml_file import read_config
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import Position, ProgressError, read_progress
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.checkpoints import read_variables
from tests.rehearsal.programs import Program, RehearsalError
from tests.rehearsal.record import expected_digest
from tests.rehearsal.report import Opening, Restart
from tests.settings import write_small_config

TRAINER, PREPROCESSOR = locks.TRAINER, locks.PREPROCESSOR

# Which program ends when, as a share of all steps, and how. The longest time without a
# restart is that in which memory and open files are judged.
_PLAN = (
    (0.10, TRAINER, "SIGTERM"),
    (0.20, PREPROCESSOR, "SIGTERM"),
    (0.30, TRAINER, "kill -9"),
    (0.375, PREPROCESSOR, "kill -9"),
    (0.85, PREPROCESSOR, "SIGKILL for its processes"),
    (0.925, TRAINER, "SIGKILL for its processes"),
)

# Two programs that make no step for so long hang, even on a busy machine.
_STUCK_SECONDS = 300


class Scale(NamedTuple):
    """How large the rehearsal is."""

    num_images: int = 1_281_167
    num_classes: int = 1_000
    batch_size: int = 256
    epochs: int = 4
    images_per_second: float = 2_375.0  # of an A100; see docs/scaling.md
    num_workers: int = os.cpu_count() or 2
    buffer_size: int = 1_000
    sleep_seconds: float = 10.0  # of the preprocessor
    plan: tuple[tuple[float, str, str], ...] = _PLAN

    @property
    def batches_per_epoch(self) -> int:
        return self.num_images // self.batch_size

    @property
    def num_steps(self) -> int:
        return self.epochs * self.batches_per_epoch


class Pair:
    """The programs, with a folder for all that they write."""

    def __init__(self, folder: Path, images: Path, scale: Scale):
        """Writes the configuration."""
        self.folder, self.scale = folder, scale
        self.config_path = write_small_config(
            folder,
            dataset={"training_images": str(images)},
            # ImageNet's shorter sides from 256 to 480 and crop of 224, divided by 7.
            augmentation={
                "shorter_side_min": 37,
                "shorter_side_max": 69,
                "shorter_side_step": 1,
                "crop_size": 32,
            },
            train={
                "batch_size": scale.batch_size,
                "epochs": scale.epochs,
                "buffer_size": scale.buffer_size,
                "sleep_time": 0.1,
                "checkpoint_minutes": 3,
                "keep_checkpoints": 2,
                "deterministic": False,
            },
            runtime_preprocessing={
                "num_workers": scale.num_workers,
                "sleep_time": scale.sleep_seconds,
            },
        )
        self.config = read_config(self.config_path)
        self.run_folder = self.config.train.saved_models_folder / "week"
        self.buffer = BatchBuffer(self.config.train.buffer_folder)
        self.record = folder / "steps.txt"
        self.programs = {
            name: Program(name, folder / f"{name}.log")
            for name in (TRAINER, PREPROCESSOR)
        }
        self._flags = [f"--config={self.config_path}"]
        self._trainer_flags = [*self._flags, "--run_folder=week"]
        self.restarts: list[Restart] = []

    def step(self) -> int:
        try:
            batches, end = self.scale.batches_per_epoch, self.scale.num_steps
            return read_progress(self.buffer.folder, batches, end)
        except ProgressError:
            return 0

    def num_ready(self) -> int:
        return len(self.buffer.ready())

    def start(self, name: str, flags: list[str]) -> None:
        words = [f"{name}.py"]
        if name == TRAINER:
            seconds = self.scale.batch_size / self.scale.images_per_second
            words = ["-m", "tests.rehearsal.trainer", str(self.record), f"{seconds!r}"]
        self.programs[name].start([*words, *flags])

    def time_preprocessor(self) -> Opening:
        """Starts it, without a trainer, until its first batch; ends it."""
        program = self.programs[PREPROCESSOR]
        self.start(PREPROCESSOR, self._flags)
        first = self.buffer.images_path(Position(0, 0))
        self._wait(first.exists, "no batch")
        seconds = time.monotonic() - program.started[-1]
        program.end("SIGTERM")
        self.buffer.clear()
        return Opening(self.listing_seconds(len(program.started) - 1), seconds)

    def listing_seconds(self, start: int) -> float:
        """From a start of the preprocessor until it knows all images."""
        text = f"{self.scale.num_images:,} images of"
        return self.programs[PREPROCESSOR].seconds_to(text, start)

    def train(self) -> None:
        """Runs the training to its end, with all restarts."""
        self.start(PREPROCESSOR, self._flags)
        self.start(TRAINER, self._trainer_flags)
        for share, name, how in self.scale.plan:
            self._wait_for_step(round(share * self.scale.num_steps))
            self._restart(name, how)
        self._wait_for_step(self.scale.num_steps)
        for program in self.programs.values():
            self._wait(program.has_ended, f"{program.name} does not end")

    def _wait_for_step(self, step: int) -> None:
        while (last := self.step()) < step:
            self._wait(lambda: self.step() != last, f"no step after {last}")

    def _restart(self, name: str, how: str) -> None:
        """Ends a program and starts it as the user is told to."""
        program, trainer = self.programs[name], self.programs[TRAINER]
        num_lines = len(trainer.lines[-1])
        self.restarts.append(Restart(name, how))
        print(f"{name}.py: {how} at step {self.step():,}", flush=True)
        program.end(how)
        if name == PREPROCESSOR:

            def printed() -> list[str] | None:
                return trainer.flags_below("is not running", first=num_lines)

            self._wait(printed, "train.py says no command")
            flags = printed()
        elif how == "SIGTERM":
            # Its last lines are read by a thread.
            self._wait(lambda: trainer.flags_below("resume with"), "no command")
            flags = trainer.flags_below("resume with")
        else:
            # It could say nothing. The README says to add --resume.
            flags = [*self._trainer_flags, "--resume"]
        self.start(name, flags)

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        """Waits for what a program does, while none fails."""
        deadline = time.monotonic() + _STUCK_SECONDS
        while not condition():
            for program in self.programs.values():
                program.has_ended()
            if time.monotonic() > deadline:
                raise RehearsalError(f"{what} in {_STUCK_SECONDS} s; see {self.folder}")
            time.sleep(0.05)

    def close(self) -> None:
        for program in self.programs.values():
            program.close()

    def digest(self) -> tuple[int, int]:
        """Of the labels that were trained on, in the last checkpoint; and expected."""
        variables = read_variables(list_checkpoints(self.run_folder)[-1].path)
        digest = variables["training/digest/.ATTRIBUTES/VARIABLE_VALUE"]
        train, scale = self.config.train, self.scale
        dataset = open_training_set(self.config.dataset, self.buffer.folder)
        return int(digest), expected_digest(
            dataset, train.seed, scale.batch_size, scale.epochs
        )
