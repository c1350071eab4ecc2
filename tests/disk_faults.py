"""Every kind of file fails, at the start and while both programs run.

    python -m tests.disk_faults [--only=TEXT]

Each row of the table is one fault: system calls of one of the real scripts fail on one
kind of file (see ``failing_calls``), a folder is deleted, replaced or unmounted, a real
disk is full or read-only, or two hosts start the same. A program must report it in one
line without a traceback, and either continue as soon as the fault ends, or end with
status 1. Started again without the fault, the two programs must end with the same bytes
as if nothing had happened: the same batches, or all variables of the last checkpoint.

If the user may mount a tmpfs (unshare --user --mount), the program starts itself again
where it can; otherwise it leaves out the rows that need one.
"""

import argparse
import collections
import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from resnet50.demo.pictures import make_images
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import ProgressError, read_progress
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.failing_calls import PRETEND, FailingProgram, Fault, why_not
from tests.settings import PROJECT, write_small_config

PREPROCESSOR, TRAINER = "runtime_preprocessing.py", "train.py"

EPOCHS, STEPS_PER_EPOCH = 6, 15
BUFFER_SIZE = 6

# A program that does nothing for so long hangs.
_STUCK_SECONDS = 120.0
# How long a fault lasts after it was hit, if no program says anything.
_SILENT_SECONDS = 3.0
# The same, if it is known that a program will say something or end.
_PATIENCE_SECONDS = 45.0
# How long it lasts after a program has reported it.
_REPORTED_SECONDS = 0.5

# What TensorFlow prints about the machine and its own errors, and the bars.
_NOISE = re.compile(
    r"[IWE]0000 00:00|WARNING: All log|To enable the following|\r|I tensorflow|$"
)

# Its value, in the program that may mount, is the folder to work in.
_FOLDER = "DISK_FAULTS_FOLDER"

_UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


class LostError(Exception):
    """A program did not do what it should, or a result differs."""


def can_mount() -> bool:
    """Whether this user may mount a tmpfs, in a namespace of its own."""
    trial = [*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(trial, capture_output=True).returncode == 0
    return False


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
        process.wait(_STUCK_SECONDS)

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
    deadline = time.monotonic() + _STUCK_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise LostError(f"never: {what}")
        time.sleep(0.05)


class Row(NamedTuple):
    """A fault, and what it should lead to."""

    name: str
    program: str  # the one that reports it
    fault: tuple | None  # the arguments of Fault
    outcome: str  # "ended", "said" (and went on) or "silent"
    line: str  # part of the line
    # What happens when the fault begins and ends, besides the failing calls.
    begin: Callable[[Scene], None] = lambda scene: None
    end: Callable[[Scene], None] = lambda scene: None
    is_cold: bool = False  # whether the folder is empty at the start
    flags: tuple[str, ...] = ()


class Result(NamedTuple):
    name: str
    num_hits: int
    outcome: str
    line: str
    lost: str


def failing(
    name: str,
    program: str,
    operations: str,
    pattern: str,
    errors: str,
    outcome: str,
    line: str = "",
    *,
    first: int = 1,
    begin: Callable[[Scene], None] = lambda scene: None,
    is_cold: bool = False,
    flags: tuple[str, ...] = (),
) -> list[Row]:
    """A row for each error; its text must be in the line, besides ``line``."""
    rows = []
    for code in errors.split():
        others = {"hang": None, "PRETEND": PRETEND}
        number = others[code] if code in others else getattr(errno, code)
        rows.append(
            Row(
                f"{name}: {operations} {code}",
                program,
                (operations, pattern, number, first),
                outcome,
                line,
                begin,
                is_cold=is_cold,
                flags=flags,
            )
        )
    return rows


class Disturbance:
    """A row's fault in a scene."""

    def __init__(self, row: Row, scene: Scene):
        self.row, self._scene = row, scene
        self.fault = Fault(*row.fault) if row.fault else None
        self.faults = [self.fault] if self.fault else []

    @property
    def num_hits(self) -> int:
        return self.fault.num_hits if self.fault else 1

    def begin(self) -> None:
        self.row.begin(self._scene)
        if self.fault:
            self.fault.is_in_force = True

    def end(self) -> None:
        if self.fault:
            self.fault.is_in_force = False
        self.row.end(self._scene)


def observe(
    scene: Scene, disturbance: Disturbance, script: str, start: int
) -> tuple[str, str]:
    """Waits until a program has ended or reported the fault, or was hit and is silent.

    Returns the outcome and the line.
    """
    row, process = disturbance.row, scene.programs[script].process
    number = row.fault[2] if row.fault else None
    texts = [row.line] if row.line else []
    texts += [os.strerror(number)] if number and number > 0 else []
    deadline = time.monotonic() + _STUCK_SECONDS
    hit_at = None
    while True:
        now = time.monotonic()
        lines = scene.lines(script, start)
        has_ended = process.poll() is not None
        said = [line for line in lines if texts and all(t in line for t in texts)]
        if has_ended:
            return f"ended {process.returncode}", (said or lines or [""])[-1]
        if disturbance.num_hits:
            hit_at = hit_at or now
        # A program says why it ends before it ends.
        if said and row.outcome != "ended":
            time.sleep(_REPORTED_SECONDS)
            return "said", said[0]
        patience = _SILENT_SECONDS if row.outcome == "silent" else _PATIENCE_SECONDS
        if hit_at and now > hit_at + patience:
            return ("said", said[0]) if said else ("silent", "")
        if now > deadline:
            raise LostError("was never hit")
        time.sleep(0.05)


def judge(row: Row, outcome: str, line: str) -> None:
    expected = {"ended": "ended 1"}.get(row.outcome, row.outcome)
    if outcome != expected:
        raise LostError(f"{outcome}, expected {row.outcome}: {line!r}")
    if row.line and row.line not in line:
        raise LostError(f"no {row.line!r} in {line!r}")


class Reference(NamedTuple):
    """What an undisturbed run leaves."""

    images: Path
    batches: dict[str, bytes]  # of the first window
    variables: dict  # per epoch
    run: Path  # with all checkpoints


def read_variables(checkpoint: Path) -> dict[str, bytes]:
    """All variables of a checkpoint."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(checkpoint / "variables"))
    names = reader.get_variable_to_shape_map()
    return {n: reader.get_tensor(n).tobytes() for n in names if "VARIABLE_VALUE" in n}


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


def start_preprocessor(scene: Scene, reference: Reference, row: Row) -> Result:
    """Starts the preprocessor with a fault; the window must have the same bytes."""
    if row.is_cold:
        shutil.rmtree(scene.buffer)
    else:
        (scene.buffer / "images_0000_00002.npy").unlink()
        (scene.buffer / "unreadable_images.txt").write_bytes(b"x\ty\n")
        (scene.buffer / ".writing-0.npy.tmp").write_bytes(b"")
        (scene.buffer / "training_progress.txt").write_bytes(b"0\n0\n")
    disturbance = Disturbance(row, scene)
    disturbance.begin()
    start = scene.size(PREPROCESSOR)
    scene.start(PREPROCESSOR, faults=disturbance.faults)
    outcome, line = observe(scene, disturbance, PREPROCESSOR, start)
    disturbance.end()
    judge(row, outcome, line)
    if outcome.startswith("ended"):
        scene.start(PREPROCESSOR)
    fill_buffer(scene)
    if window_of(scene.buffer) != reference.batches:
        raise LostError("the batches differ")
    scene.stop(PREPROCESSOR)
    scene.require_no_traceback()
    return Result(row.name, disturbance.num_hits, outcome, line, "nothing")


def start_preprocessors(
    folder: Path, reference: Reference, rows: list[Row]
) -> Iterator[Result]:
    """Tries each row in the same folder, or after a failure in a new one."""
    scene = None
    for number, row in enumerate(rows):
        try:
            if scene is None:
                scene = Scene(folder / str(number), reference.images)
                scene.start(PREPROCESSOR)
                fill_buffer(scene)
                scene.stop(PREPROCESSOR)
            yield start_preprocessor(scene, reference, row)
        except (LostError, subprocess.TimeoutExpired) as error:
            yield Result(row.name, 0, "FAILED", str(error), "?")
            scene.close()
            scene = None


def require_variables(scene: Scene, reference: Reference, epochs: int) -> None:
    last = list_checkpoints(scene.run)[-1]
    if last.position != (epochs, 0):
        raise LostError(f"the last checkpoint is of {last.position}")
    if read_variables(last.path) != reference.variables[epochs - 1]:
        raise LostError("the weights differ")
    scene.require_no_traceback()


def start_trainer(scene: Scene, reference: Reference, row: Row) -> Result:
    """Resumes a trainer with a fault; the weights after an epoch must be the same."""
    scene.run.mkdir(parents=True)
    if not row.is_cold:
        for epoch in range(2):
            source, target = reference.run / str(epoch), scene.run / str(epoch)
            shutil.copytree(source, target, copy_function=os.link)
        shutil.copy(reference.run / "metrics.csv", scene.run)
        (scene.run / ".writing-0").mkdir()
        (scene.run / ".writing-0" / "half").touch()
    flags = () if row.is_cold else row.flags or ("--resume",)
    epochs = 1 if row.is_cold else 2 if "--epoch_start=1" in flags else 3
    last = f"--epoch_end={epochs}"
    scene.start(PREPROCESSOR, last, f"--epoch_start={epochs - 1}")
    fill_buffer(scene)
    (scene.buffer / ".writing-0.txt.tmp").write_bytes(b"")
    disturbance = Disturbance(row, scene)
    disturbance.begin()
    scene.start(TRAINER, *flags, last, faults=disturbance.faults)
    outcome, line = observe(scene, disturbance, TRAINER, 0)
    disturbance.end()
    judge(row, outcome, line)
    if outcome.startswith("ended"):
        scene.start(TRAINER, *flags, last)
    if status := scene.programs[TRAINER].process.wait(_STUCK_SECONDS):
        raise LostError(f"ended {status}: {scene.lines(TRAINER)[-1]}")
    require_variables(scene, reference, epochs)
    return Result(row.name, disturbance.num_hits, outcome, line, "nothing")


def start_trainers(
    folder: Path, reference: Reference, rows: list[Row]
) -> Iterator[Result]:
    """Tries each row in a folder of its own."""
    for number, row in enumerate(rows):
        scene = Scene(folder / str(number), reference.images)
        try:
            yield start_trainer(scene, reference, row)
        except (LostError, subprocess.TimeoutExpired) as error:
            yield Result(row.name, 0, "FAILED", str(error), "?")
        finally:
            scene.close()
            shutil.rmtree(scene.run)


class Disturbed:
    """A training that is disturbed by one row after the other, while it runs."""

    def __init__(
        self,
        folder: Path,
        reference: Reference,
        rows: list[Row],
        prepare: Callable[[Scene], None],
    ):
        settings = {"checkpoint_minutes": 0.05, "keep_checkpoints": 1}
        self.scene = scene = Scene(folder, reference.images, train=settings)
        prepare(scene)
        self._reference = reference
        self._disturbances = [Disturbance(row, scene) for row in rows]
        for script in (PREPROCESSOR, TRAINER):
            self._start(script)
        wait_until(lambda: scene.step() > 0 or self._has_ended(), "a first step")

    def _start(self, script: str, *flags: str) -> None:
        mine = [d for d in self._disturbances if d.row.program == script]
        faults = [fault for disturbance in mine for fault in disturbance.faults]
        self.scene.start(script, *flags, faults=faults)

    def _has_ended(self) -> bool:
        return self.scene.programs[TRAINER].process.poll() is not None

    def disturb(self, index: int) -> Result | None:
        """Lets a fault begin and end; None if the training has ended before."""
        scene, disturbance = self.scene, self._disturbances[index]
        row, script = disturbance.row, disturbance.row.program
        start, first = scene.size(script), scene.step()
        if first > EPOCHS * STEPS_PER_EPOCH - 25 or self._has_ended():
            return None
        disturbance.begin()
        try:
            outcome, line = observe(scene, disturbance, script, start)
        finally:
            disturbance.end()
        judge(row, outcome, line)
        if outcome.startswith("ended"):
            has_checkpoint = bool(list_checkpoints(scene.run))
            resumed = script == TRAINER and has_checkpoint
            self._start(script, *(["--resume"] if resumed else []))
        first = scene.step()
        wait_until(lambda: scene.step() > first or self._has_ended(), "the next step")
        return Result(row.name, disturbance.num_hits, outcome, line, "nothing")

    def finish(self) -> None:
        for script in (TRAINER, PREPROCESSOR):
            if status := self.scene.programs[script].process.wait(_STUCK_SECONDS):
                tail = "\n".join(self.scene.lines(script)[-5:])
                raise LostError(f"{script} ended with {status}: {tail}")
        require_variables(self.scene, self._reference, EPOCHS)


def disturb_running(
    folder: Path,
    reference: Reference,
    rows: list[Row],
    prepare: Callable[[Scene], None] = lambda scene: None,
) -> Iterator[Result]:
    """Disturbs trainings until all rows are done; ``prepare`` gets each scene."""
    left, number = list(rows), 0
    while left:
        number += 1
        training = Disturbed(folder / f"training-{number}", reference, left, prepare)
        results, index = [], 0
        problem = None
        try:
            while index < len(left):
                result = training.disturb(index)
                if result is None:
                    break
                results.append(result)
                index += 1
            training.finish()
        except (LostError, OSError, subprocess.SubprocessError) as error:
            problem = f"{error}"
        finally:
            training.scene.close()
        if problem is not None:
            culprit = left[index].name if index < len(left) else "at the end"
            if index < len(left):
                index += 1
            results.append(Result(culprit, 0, "FAILED", problem, "?"))
        if not index:
            raise LostError("a training ends before its first fault; more EPOCHS")
        yield from results
        left = left[index:]


# For the tables: programs, and patterns of paths.
P, T = PREPROCESSOR, TRAINER
BUFFER, RUN = "*/buffer", "*/saved_models/run"
IMAGES = "*/images/train"
BATCH = f"{BUFFER}/*_0*.npy"
ANY_TEMPORARY = f"{BUFFER}/.writing-*.npy.tmp"


def empty_cache(scene: Scene) -> None:
    shutil.rmtree(os.environ["NUMBA_CACHE_DIR"])


AT_PREPROCESSOR_START = [
    *failing("config.txt", P, "open", "*/config.txt", "EIO EACCES", "ended"),
    *failing("config.txt", P, "read", "*/config.txt", "EIO", "ended"),
    *failing("image folder", P, "open", IMAGES, "EIO", "ended", is_cold=True),
    *failing("image folder", P, "list", IMAGES, "EIO", "ended", is_cold=True),
    *failing(
        "class folder", P, "list", f"{IMAGES}/*", "EIO", "ended", is_cold=True
    ),
    *failing("all images", P, "open", f"{IMAGES}/*.JPEG", "EIO ESTALE ENOENT",
             "said"),
    *failing("all images", P, "read", f"{IMAGES}/*.JPEG", "EIO", "said"),
    *failing("buffer folder", P, "mkdir", BUFFER, "EROFS EIO ENOSPC EDQUOT",
             "ended", is_cold=True),
    *failing("buffer folder", P, "list", BUFFER, "EIO", "ended"),
    *failing("lock", P, "create", f"{BUFFER}/runtime_*.lock",
             "EIO EROFS ENOSPC EDQUOT", "ended"),
    *failing("lock", P, "lock", f"{BUFFER}/runtime_*.lock",
             "EIO ENOLCK EOPNOTSUPP", "ended"),
    *failing("lock", P, "write", f"{BUFFER}/runtime_*.lock", "EIO ENOSPC",
             "silent"),
    *failing("index", P, "read", f"{BUFFER}/dataset_index*", "EIO", "silent"),
    *failing("index", P, "create write", f"{BUFFER}/.writing-*.npz.tmp",
             "EIO ENOSPC", "silent", is_cold=True),
    *failing("index", P, "rename", f"{BUFFER}/dataset_index*", "EIO",
             "silent", is_cold=True),
    *failing("stale temporaries", P, "unlink", f"{BUFFER}/.writing-0*",
             "EIO EROFS", "ended"),
    *failing("manifest", P, "open", f"{BUFFER}/manifest.json", "EIO", "ended"),
    *failing("manifest", P, "read", f"{BUFFER}/manifest.json", "EIO", "ended"),
    *failing("manifest", P, "create", f"{BUFFER}/.writing-*.json.tmp",
             "EROFS EIO ENOSPC EDQUOT", "ended", is_cold=True),
    *failing("manifest", P, "write", f"{BUFFER}/.writing-*.json.tmp",
             "EIO ENOSPC EDQUOT", "ended", is_cold=True),
    *failing("manifest", P, "fsync", f"{BUFFER}/.writing-*.json.tmp",
             "EIO ENOSPC EDQUOT", "ended", is_cold=True),
    *failing("manifest", P, "rename", f"{BUFFER}/manifest.json",
             "EIO", "ended", is_cold=True),
    *failing("unreadable_images.txt", P, "open",
             f"{BUFFER}/unreadable_images.txt", "EIO", "ended"),
    *failing("unreadable_images.txt", P, "read",
             f"{BUFFER}/unreadable_images.txt", "EIO", "ended"),
    *failing("progress", P, "open", f"{BUFFER}/training_progress.txt", "EIO",
             "said"),
    *failing("progress", P, "read", f"{BUFFER}/training_progress.txt", "EIO",
             "said"),
    *failing("batch", P, "create", ANY_TEMPORARY, "EIO EROFS ENOSPC EDQUOT",
             "said"),
    *failing("batch", P, "write", ANY_TEMPORARY, "EIO ENOSPC EDQUOT", "said"),
    *failing("batch", P, "fsync", ANY_TEMPORARY, "EIO ENOSPC EDQUOT", "said"),
    *failing("batch", P, "rename", BATCH, "EIO EROFS", "said"),
    *failing("whole buffer folder", P, "stat", f"{BUFFER}*", "EIO", "ended"),
    *failing("numba's cache", P, "open", "*/numba/*", "EIO", "silent"),
    *failing("numba's cache", P, "read", "*/numba/*", "EIO", "silent"),
    *failing("numba's cache", P, "create write mkdir", "*/numba*",
             "EIO ENOSPC EROFS EDQUOT", "silent", begin=empty_cache),
]  # fmt: skip

CHECKPOINT = f"{RUN}/1"

AT_TRAINER_START = [
    *failing("config.txt", T, "read", "*/config.txt", "EIO", "ended"),
    *failing("image folder", T, "stat", IMAGES, "EIO", "ended"),
    *failing("index", T, "read", f"{BUFFER}/dataset_index*", "EIO", "silent"),
    *failing("lock of the buffer", T, "create", f"{BUFFER}/train.lock",
             "EIO EROFS", "ended"),
    *failing("lock of the buffer", T, "lock", f"{BUFFER}/train.lock",
             "ENOLCK EOPNOTSUPP", "ended"),
    *failing("lock of the run", T, "create", f"{RUN}/train.lock", "EROFS EDQUOT",
             "ended"),
    *failing("lock of the run", T, "lock", f"{RUN}/train.lock",
             "ENOLCK", "ended"),
    *failing("stale temporaries", T, "unlink", f"{BUFFER}/.writing-0.txt.tmp",
             "EIO", "ended"),
    *failing("manifest", T, "open", f"{BUFFER}/manifest.json", "EIO", "ended"),
    *failing("manifest", T, "read", f"{BUFFER}/manifest.json", "EIO", "ended"),
    *failing("run folder", T, "list", RUN, "EIO", "ended"),
    *failing("stale checkpoint", T, "unlink", f"{RUN}/.writing-0*", "EIO",
             "silent"),
    *failing("checkpoint, state.json", T, "open", f"{CHECKPOINT}/state.json",
             "EIO", "ended"),
    *failing("checkpoint, state.json", T, "read", f"{CHECKPOINT}/state.json",
             "EIO", "ended"),
    *failing("checkpoint, checksum", T, "read", f"{CHECKPOINT}/variables.data*",
             "EIO", "ended"),
    *failing("checkpoint, index by TensorFlow", T, "open",
             f"{CHECKPOINT}/variables.index", "EIO", "ended", first=3),
    *failing("checkpoint, variables by TensorFlow", T, "open",
             f"{CHECKPOINT}/variables.data*", "EIO", "ended", first=3),
    *failing("setting checkpoints aside", T, "mkdir rename",
             f"{RUN}/superseded-1*", "EIO ENOSPC", "ended", flags=("--epoch_start=1",)),
    *failing("progress", T, "create", f"{BUFFER}/*.txt*", "EIO EROFS ENOSPC",
             "ended"),
    *failing("progress", T, "rename", f"{BUFFER}/training_progress.txt", "EIO",
             "ended"),
    *failing("saved_models_folder", T, "stat", f"{RUN}*", "EIO", "ended"),
]  # fmt: skip

WHILE_RUNNING = [
    *failing("all images", P, "open", f"{IMAGES}/*.JPEG", "EIO ENOENT",
             "said"),
    *failing("all images", P, "read", f"{IMAGES}/*.JPEG", "EIO", "said"),
    *failing("batch", P, "create", ANY_TEMPORARY, "EIO EROFS ENOSPC EDQUOT",
             "said"),
    *failing("batch", P, "write", ANY_TEMPORARY, "EIO ENOSPC EDQUOT", "said"),
    *failing("batch", P, "fsync", ANY_TEMPORARY, "EIO EDQUOT", "said"),
    *failing("batch", P, "rename", BATCH, "EIO EROFS", "said"),
    *failing("used batch", P, "unlink", BATCH, "EIO EROFS", "said"),
    *failing("buffer folder", P, "list", BUFFER, "EIO ESTALE", "said"),
    *failing("manifest", P, "stat", f"{BUFFER}/manifest.json", "EIO", "silent"),
    *failing("lock", P, "stat", f"{BUFFER}/runtime_preprocessing.lock", "EIO",
             "silent"),
    *failing("trainer's lock", P, "lock open", f"{BUFFER}/train.lock", "EIO",
             "silent"),
    *failing("progress", P, "open", f"{BUFFER}/training_progress.txt",
             "EIO ESTALE", "said"),
    *failing("progress", P, "read", f"{BUFFER}/training_progress.txt", "EIO",
             "said"),
    *failing("whole buffer folder", P, "stat", f"{BUFFER}*", "EIO", "said"),
    *failing("batch", T, "open", BATCH, "EIO ESTALE EACCES", "said"),
    *failing("batch", T, "read", BATCH, "EIO", "said", "trying again"),
    *failing("batch", T, "read", BATCH, "hang", "silent"),
    *failing("manifest", T, "open", f"{BUFFER}/manifest.json", "EIO", "said"),
    *failing("progress", T, "create", f"{BUFFER}/*.txt*", "EIO ENOSPC EROFS EDQUOT",
             "said"),
    *failing("progress", T, "write", f"{BUFFER}/*.txt*", "EIO ENOSPC", "said"),
    *failing("progress", T, "rename", f"{BUFFER}/training_progress.txt", "EIO",
             "silent"),
    *failing("buffer folder", T, "list", BUFFER, "EIO", "silent"),
    *failing("locks", T, "stat", "*/train.lock", "EIO", "silent"),
    *failing("preprocessor's lock", T, "lock open", f"{BUFFER}/runtime*.lock",
             "EIO", "silent"),
    *failing("checkpoint", T, "mkdir", f"{RUN}/.writing-*", "EIO EROFS", "said"),
    *failing("checkpoint", T, "create", f"{RUN}/.writing-*/*", "EIO ENOSPC",
             "said"),
    *failing("checkpoint", T, "write", f"{RUN}/.writing-*/*", "EIO ENOSPC EDQUOT",
             "said"),
    *failing("checkpoint", T, "read", f"{RUN}/.writing-*/*", "EIO", "said"),
    *failing("checkpoint", T, "fsync", f"{RUN}/.writing-*", "EIO", "said"),
    *failing("checkpoint", T, "rename", f"{RUN}/[0-9]*", "EIO EROFS", "said"),
    *failing("old checkpoint", T, "rename", f"{RUN}/.writing-*", "EIO", "said"),
    *failing("old checkpoint", T, "unlink", f"{RUN}/.writing-*/*", "EIO", "silent"),
    *failing("metrics.csv", T, "open", f"{RUN}/metrics.csv", "EIO", "said"),
    *failing("metrics.csv", T, "create", f"{RUN}/.writing-*.csv.tmp",
             "EIO ENOSPC EDQUOT EROFS", "said"),
    *failing("metrics.csv", T, "fsync", f"{RUN}/.writing-*.csv.tmp", "EIO", "said"),
    *failing("metrics.csv", T, "rename", f"{RUN}/metrics.csv", "EIO", "said"),
]  # fmt: skip

# Folders that are replaced under both programs.


def replaced(
    name: str,
    program: str,
    place: str,
    line: str,
    put: Callable[[Path], object] = lambda path: None,
    *,
    is_back: bool = False,
) -> Row:
    """A row in which a folder is moved away and something else is put there.

    At the end this is removed if it is no folder, and the folder returns if is_back.
    """

    def away(scene: Scene) -> tuple[Path, Path]:
        path = getattr(scene, place)
        return path, path.with_name(f"{path.name}-away")

    def begin(scene: Scene) -> None:
        path, other = away(scene)
        wait_until(path.exists, f"a {place} folder")
        path.rename(other)
        put(path)

    def end(scene: Scene) -> None:
        path, other = away(scene)
        if path.is_symlink() or path.is_file():
            path.unlink()
        if is_back:
            shutil.rmtree(path, ignore_errors=True)
            other.rename(path)
        else:
            shutil.rmtree(other)
            getattr(scene, place).parent.mkdir(parents=True, exist_ok=True)
            if place == "models":
                scene.models.mkdir(exist_ok=True)

    return Row(f"{place}: {name}", program, None, "said", line, begin, end)


def link_to_new_folder(path: Path) -> None:
    other = path.with_name(f"{path.name}-{time.monotonic_ns()}")
    other.mkdir()
    path.symlink_to(other)


def delete(path: Path) -> None:
    """Deletes a folder that both programs write into."""
    shutil.rmtree(path, ignore_errors=True)


_NO_FOLDER, _CREATED = "is no folder any more", "was deleted; created again"
_FOLDER_ABOVE, _CONTINUES = "so is the folder above it", "was deleted; the training"
_GONE, _CIRCLE = "cannot be made: none of the", "leads to itself"

FOLDERS = [
    Row("buffer: deleted", P, None, "said", _CREATED,
        lambda scene: delete(scene.buffer)),
    replaced("moved away", P, "buffer", _CREATED),
    replaced("replaced by an empty folder", P, "buffer", _CREATED, Path.mkdir),
    replaced("replaced by a file", P, "buffer", _NO_FOLDER, Path.touch),
    replaced("replaced by a file", T, "buffer", _NO_FOLDER, Path.touch),
    replaced("replaced by a link to a folder", P, "buffer", _CREATED,
             link_to_new_folder),
    replaced("replaced by a broken link", P, "buffer", _FOLDER_ABOVE,
             lambda path: path.symlink_to("nowhere/at/all")),
    replaced("replaced by a link to itself", P, "buffer", _CIRCLE,
             lambda path: path.symlink_to(path)),
    replaced("replaced by a link to itself", T, "buffer", _CIRCLE,
             lambda path: path.symlink_to(path)),
    Row("run: deleted", T, None, "said", _CREATED, lambda scene: delete(scene.run)),
    replaced("moved away", T, "run", _CREATED),
    replaced("replaced by an empty folder", T, "run", _CREATED, Path.mkdir),
    replaced("replaced by a file", T, "run", _NO_FOLDER, Path.touch),
    replaced("replaced by a link to a folder", T, "run", _CREATED,
             link_to_new_folder),
    replaced("replaced by a broken link", T, "run", _FOLDER_ABOVE,
             lambda path: path.symlink_to("nowhere/at/all")),
    replaced("replaced by a link to itself", T, "run", _CIRCLE,
             lambda path: path.symlink_to(path)),
    replaced("moved away", T, "models", _FOLDER_ABOVE),
    replaced("moved away for a while", P, "images", _GONE, is_back=True),
    replaced("replaced by an empty folder for a while", P, "images", _GONE,
             Path.mkdir, is_back=True),
    replaced("replaced by a file for a while", P, "images", _GONE,
             Path.touch, is_back=True),
]  # fmt: skip

# Real disks: a tmpfs for each folder.

_MOUNTED = ("buffer", "models", "images")


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def disk_of(scene: Scene, place: str) -> Path:
    return scene.folder / f"disk-{place}"


def mount_disks(scene: Scene) -> None:
    """Puts each folder on a disk of its own."""
    for place in _MOUNTED:
        disk, path = disk_of(scene, place), getattr(scene, place)
        disk.mkdir()
        mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", disk)
        if path.exists():
            shutil.copytree(path, disk, dirs_exist_ok=True, symlinks=True)
            shutil.rmtree(path)
        path.mkdir()
        mount("--bind", disk, path)


def unmounted(program: str, place: str, line: str) -> Row:
    def begin(scene: Scene) -> None:
        subprocess.run(["umount", "-l", getattr(scene, place)], check=True)

    def end(scene: Scene) -> None:
        mount("--bind", disk_of(scene, place), getattr(scene, place))

    return Row(f"{place}: unmounted", program, None, "said", line, begin, end)


def read_only(program: str, place: str) -> Row:
    line = os.strerror(errno.EROFS)

    def begin(scene: Scene) -> None:
        path = getattr(scene, place)
        mount("--bind", disk_of(scene, place), path)
        mount("-o", "remount,ro,bind", path)

    def end(scene: Scene) -> None:
        subprocess.run(["umount", "-l", getattr(scene, place)], check=True)

    return Row(f"{place}: read-only", program, None, "said", line, begin, end)


def full(program: str, place: str) -> Row:
    """Another program fills the disk, again and again: the trainer makes room."""
    is_over, threads = threading.Event(), []

    def keep_full(ballast: Path) -> None:
        with ballast.open("wb", buffering=0) as file:
            while not is_over.is_set():
                try:
                    file.write(bytes(4096))
                except OSError:
                    time.sleep(0.001)
        ballast.unlink()

    def begin(scene: Scene) -> None:
        is_over.clear()
        ballast = disk_of(scene, place) / "ballast"
        threads.append(threading.Thread(target=keep_full, args=(ballast,)))
        threads[-1].start()

    def end(scene: Scene) -> None:
        is_over.set()
        threads.pop().join()

    line = os.strerror(errno.ENOSPC)
    return Row(f"{place}: full", program, None, "said", line, begin, end)


MOUNTS = [
    unmounted(P, "buffer", "is on another disk than before"),
    unmounted(T, "buffer", "is on another disk than before"),
    read_only(P, "buffer"),
    read_only(T, "buffer"),
    full(P, "buffer"),
    unmounted(T, "models", "is on another disk than before"),
    read_only(T, "models"),
    full(T, "models"),
    unmounted(P, "images", _GONE),
]

# Two hosts, or two terminals, that start the same.

_RUNS = "already runs here"
_ANY_LOCK = "*/*.lock"

STARTED_TWICE = [
    Row("a second trainer", T, None, "ended", _RUNS),
    Row("a second preprocessor", P, None, "ended", _RUNS),
    Row("two trainers at once", T, None, "ended", _RUNS, is_cold=True),
    Row("two preprocessors at once", P, None, "ended", _RUNS, is_cold=True),
    *failing("a second trainer, locks do not reach it", T, "lock", _ANY_LOCK,
             "PRETEND", "silent"),
    *failing("a second preprocessor, locks do not reach it", P, "lock",
             _ANY_LOCK, "PRETEND", "silent"),
]  # fmt: skip


def wait_for_step(scene: Scene) -> None:
    wait_until(lambda: scene.step() > 0, "a first step")


def wait_for_refusal(scene: Scene, names: set[str]) -> str:
    """Waits until one of two programs has ended; returns its name."""
    processes = {name: scene.programs[name].process for name in names}
    wait_until(lambda: any(p.poll() for p in processes.values()), "a refusal")
    return next(name for name, process in processes.items() if process.poll())


def start_twice(
    folder: Path, reference: Reference, rows: list[Row]
) -> Iterator[Result]:
    """Starts a program a second time; the first one's weights must be the same."""
    last = "--epoch_end=1"
    for number, row in enumerate(rows):
        scene = Scene(folder / str(number), reference.images)
        disturbance = Disturbance(row, scene)
        disturbance.begin()
        try:
            scene.start(PREPROCESSOR, last)
            scene.start(TRAINER, last)
            if not row.is_cold:
                wait_for_step(scene)
            scene.start(row.program, last, faults=disturbance.faults, label="second")
            both = {row.program, "second"}
            # Of two at once, either may be the first.
            refused = wait_for_refusal(scene, both) if row.is_cold else "second"
            outcome, line = observe(scene, disturbance, refused, 0)
            judge(row, outcome, line)
            for name in {TRAINER, PREPROCESSOR, "second"} - {refused}:
                if scene.programs[name].process.wait(_STUCK_SECONDS):
                    raise LostError(f"{name}: {scene.lines(name)[-1]}")
            require_variables(scene, reference, 1)
            yield Result(row.name, disturbance.num_hits, outcome, line, "nothing")
        except (LostError, subprocess.TimeoutExpired) as error:
            yield Result(row.name, 0, "FAILED", str(error), "?")
        finally:
            scene.close()


EVALUATE = "-m resnet50 evaluate --run_folder=run --epoch_end=1"
STATISTICS = "compute_channel_stats.py --write"
STATUS, PLOT = "-m resnet50 status", "-m resnet50 plot run"
PREVIEW = "-m resnet50 preview --epoch=0 --batch=0 --check"

COMMANDS = [
    *failing("evaluation.csv", EVALUATE, "read", f"{RUN}/evaluation.csv", "EIO",
             "ended"),
    *failing("evaluation.csv", EVALUATE, "create write",
                          f"{RUN}/.writing-*.csv.tmp", "ENOSPC EROFS", "ended"),
    *failing("evaluation.csv", EVALUATE, "rename", f"{RUN}/evaluation.csv", "EIO",
             "ended"),
    *failing("checkpoint", EVALUATE, "read", f"{RUN}/0/*", "EIO", "ended"),
    *failing("validation images", EVALUATE, "list", "*/images/train", "EIO", "ended"),
    *failing("evaluator's lock", EVALUATE, "lock", f"{RUN}/evaluate.lock", "ENOLCK",
             "ended"),
    *failing("config.txt", STATISTICS, "create write fsync", "*/.writing-*.txt.tmp",
             "EIO ENOSPC EDQUOT EROFS", "ended"),
    *failing("config.txt", STATISTICS, "rename", "*/config.txt", "EIO", "ended"),
    *failing("all images", STATISTICS, "open", f"{IMAGES}/*.JPEG", "ENOENT EACCES",
             "ended"),
    *failing("buffer folder", STATUS, "list", BUFFER, "EIO", "ended"),
    *failing("metrics.csv", PLOT, "read", f"{RUN}/metrics.csv", "EIO", "ended"),
    *failing("batch", PREVIEW, "read", BATCH, "EIO", "ended"),
]  # fmt: skip


def run_commands(
    folder: Path, reference: Reference, rows: list[Row]
) -> Iterator[Result]:
    """Runs each command with a fault, and then without it."""
    scene = Scene(folder / "commands", reference.images)
    (scene.images / "val").symlink_to("train")
    scene.run.mkdir(parents=True)
    shutil.copytree(reference.run / "0", scene.run / "0", copy_function=os.link)
    shutil.copy(reference.run / "metrics.csv", scene.run)
    scene.start(PREPROCESSOR)
    fill_buffer(scene)
    scene.stop(PREPROCESSOR)
    (scene.run / "evaluation.csv").write_text("epoch,crops,top1\n")
    config = scene.config.read_bytes()
    for number, row in enumerate(rows):
        scene.config.write_bytes(config)
        disturbance = Disturbance(row, scene)
        names = [f"{number}", f"{number}-again"]
        try:
            disturbance.begin()
            scene.start(row.program, faults=disturbance.faults, label=names[0])
            outcome, line = observe(scene, disturbance, names[0], 0)
            judge(row, outcome, line)
            is_whole = scene.config.read_bytes() == config
            if scene.start(row.program, label=names[1]).process.wait(_STUCK_SECONDS):
                raise LostError(f"{scene.lines(names[1])[-1:]}")
            scene.require_no_traceback()
            if not is_whole:
                raise LostError("config.txt has changed")
            title = f"{row.program}: {row.name}"
            yield Result(title, disturbance.num_hits, outcome, line, "nothing")
        except (LostError, subprocess.TimeoutExpired) as error:
            yield Result(row.name, 0, "FAILED", str(error), "?")
            for name in names:
                scene.log(name).unlink(missing_ok=True)
    scene.close()


def disturb_mounted(
    folder: Path, reference: Reference, rows: list[Row]
) -> Iterator[Result]:
    """Disturbs trainings with each folder on a disk of its own."""
    return disturb_running(folder, reference, rows, prepare=mount_disks)


GROUPS = {
    "folders, while both run": (FOLDERS, disturb_running),
    "disks, while both run": (MOUNTS, disturb_mounted),
    "started twice": (STARTED_TWICE, start_twice),
    "while both run": (WHILE_RUNNING, disturb_running),
    "at the trainer's start": (AT_TRAINER_START, start_trainers),
    "at the preprocessor's start": (AT_PREPROCESSOR_START, start_preprocessors),
    "commands": (COMMANDS, run_commands),
}
NEEDS_MOUNT = {"disks, while both run"}


def run_all(
    folder: Path,
    only: str,
    report: Callable[[str, Result], None],
    *,
    may_mount: bool,
) -> collections.Counter:
    """Tries all rows whose name, with that of their group, contains a text."""
    chosen = {
        title: [row for row in rows if only in f"{title}: {row.name}"]
        for title, (rows, _) in GROUPS.items()
        if may_mount or title not in NEEDS_MOUNT
    }
    # The fault "numba's cache" must not damage the project's own.
    os.environ["NUMBA_CACHE_DIR"] = str(folder / "numba")
    with_run = any(
        rows for title, rows in chosen.items() if "preprocessor" not in title
    )
    reference = make_reference(folder, with_run=with_run)
    counts = collections.Counter()
    for title, rows in chosen.items():
        function = GROUPS[title][1]
        place = folder / re.sub(r"\W+", "-", title)
        place.mkdir()
        for result in function(place, reference, rows):
            counts["rows"] += 1
            counts["calls that failed"] += result.num_hits
            counts[result.outcome] += 1
            report(title, result)
    return counts


def print_row(title: str, result: Result) -> None:
    print(
        f"{title} | {result.name} | {result.outcome} | {result.line} | {result.lost}",
        flush=True,
    )


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    args = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    started = time.monotonic()
    if inner := os.environ.get(_FOLDER):
        counts = run_all(Path(inner), args.only, print_row, may_mount=True)
    else:
        with tempfile.TemporaryDirectory(prefix="disk-faults-") as folder:
            if can_mount():
                environment = {**os.environ, _FOLDER: folder}
                words = [sys.executable, "-m", "tests.disk_faults", *sys.argv[1:]]
                result = subprocess.run([*_UNSHARE, *words], env=environment)
                sys.exit(result.returncode)
            print("this user may not mount a tmpfs; rows that need one are left out")
            counts = run_all(Path(folder), args.only, print_row, may_mount=False)
    seconds = time.monotonic() - started
    print(f"\n{dict(counts)} in {seconds:.0f} s")
    sys.exit(bool(counts["FAILED"]))


if __name__ == "__main__":
    main()
