"""The two programs in a folder of their own, and what an undisturbed run leaves."""

import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from resnet50.demo.pictures import make_images
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import ProgressError, read_progress
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.checkpoints import Variables, different_variables, read_variables
from tests.failing_calls import FailingProgram, Fault
from tests.settings import PROJECT, write_small_config

PREPROCESSOR, TRAINER = "runtime_preprocessing.py", "train.py"

EPOCHS, STEPS_PER_EPOCH = 6, 15
BUFFER_SIZE = 6

# A program that does nothing for so long hangs.
STUCK_SECONDS = 600.0
# What TensorFlow prints about the machine and its own errors, and the bars.
_NOISE = re.compile(
    r"[IWE]0000 00:00|WARNING: All log|To enable the following|\r|I tensorflow|$"
)


class LostError(Exception):
    """A program did not do what it should, or a result differs."""


class Scene:
    """A folder with images and a configuration, where the programs run."""

    def __init__(self, folder: Path, images: Path, **changes: dict):
        folder.mkdir()
        self.folder = folder
        shutil.copytree(images, folder / "images" / "train")
        train = {"epochs": EPOCHS, "buffer_size": BUFFER_SIZE, "read_ahead": 2}
        changes["train"] = train | changes.get("train", {})
        self.config = write_small_config(folder, **changes)
        self.buffer, self.models = folder / "buffer", folder / "saved_models"
        self.run = self.models / "run"
        self.images = folder / "images"
        self.programs: dict[str, FailingProgram] = {}

    def log(self, script: str) -> Path:
        return self.folder / f"{script}.log"

    def start(
        self, script: str, *flags: str, faults: list[Fault] = (), label: str = ""
    ) -> FailingProgram:
        words = [sys.executable, *script.split(), f"--config={self.config}", *flags]
        if script == TRAINER:
            words.append("--run_folder=run")
        # Its own session, so that its workers can be killed with it.
        program = FailingProgram(
            words, self.log(label or script), list(faults), cwd=PROJECT,
            start_new_session=True,
        )  # fmt: skip
        self.programs[label or script] = program
        return program

    def lines(self, script: str, start: int = 0) -> list[str]:
        """What a program has printed, from a number of bytes on."""
        text = self.log(script).read_bytes()[start:].decode(errors="replace")
        return [line for line in text.split("\n") if not _NOISE.match(line)]

    def size(self, script: str) -> int:
        path = self.log(script)
        return path.stat().st_size if path.exists() else 0

    def step(self) -> int:
        with contextlib.suppress(ProgressError):
            return read_progress(self.buffer, STEPS_PER_EPOCH, 10**6)
        return -1

    def num_ready(self) -> int:
        with contextlib.suppress(OSError):
            return len(BatchBuffer(self.buffer).ready())
        return 0

    def stop(self, script: str, number: int = signal.SIGTERM) -> None:
        process = self.programs.pop(script).process
        process.send_signal(number)
        process.wait(STUCK_SECONDS)

    def close(self) -> None:
        for program in self.programs.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.process.pid, signal.SIGKILL)
            program.process.wait()
        self.programs.clear()

    def require_no_traceback(self) -> None:
        for log in self.folder.glob("*.log"):
            if "Traceback" in log.read_text(errors="replace"):
                raise LostError(f"{log}: has a traceback")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + STUCK_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise LostError(f"never: {what}")
        time.sleep(0.05)


class Reference(NamedTuple):
    """What an undisturbed run leaves."""

    images: Path
    batches: dict[str, bytes]  # of the first window
    variables: dict[int, Variables]  # per epoch
    run: Path  # with all checkpoints


def window_of(buffer: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(buffer.glob("*_0*.npy"))}


def fill_buffer(scene: Scene) -> None:
    wait_until(lambda: scene.num_ready() >= BUFFER_SIZE, "a full buffer")


def make_reference(folder: Path, *, with_run: bool) -> Reference:
    """Makes the images, a buffer and, if asked to, a training."""
    images = folder / "pictures"
    make_images(images, 6, 0, with_odd_files=False)
    scene = Scene(folder / "reference", images)
    variables = {}
    try:
        scene.start(PREPROCESSOR)
        fill_buffer(scene)
        batches = window_of(scene.buffer)
        if with_run:
            program = scene.start(TRAINER)
            if program.process.wait(600):
                raise LostError("\n".join(scene.lines(TRAINER)))
            for epoch in range(EPOCHS):
                variables[epoch] = read_variables(scene.run / str(epoch))
    finally:
        scene.close()
    return Reference(images, batches, variables, scene.run)


def require_variables(scene: Scene, reference: Reference, epochs: int) -> None:
    last = list_checkpoints(scene.run)[-1]
    if last.position != (epochs, 0):
        raise LostError(f"the last checkpoint is of {last.position}")
    if different_variables(read_variables(last.path), reference.variables[epochs - 1]):
        raise LostError("the weights differ")
    scene.require_no_traceback()
