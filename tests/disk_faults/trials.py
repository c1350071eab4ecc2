"""Tries rows: at a start, while both programs run, with two starts, in commands."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from resnet50.training.checkpoint_folders import list_checkpoints
from tests.disk_faults.disturbances import Disturbance, Result, Row, judge, observe
from tests.disk_faults.folders import mount_disks
from tests.disk_faults.scenes import (
    EPOCHS,
    PREPROCESSOR,
    STEPS_PER_EPOCH,
    STUCK_SECONDS,
    TRAINER,
    LostError,
    Reference,
    Scene,
    fill_buffer,
    require_variables,
    wait_until,
    window_of,
)


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
    if status := scene.programs[TRAINER].process.wait(STUCK_SECONDS):
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
        # Else the next failure of the same kind would not be reported.
        what, is_later, _ = line.partition(" failed, trying again later")
        relief = f"{what} works again"
        wait_until(
            lambda: (
                not is_later
                or relief in scene.lines(script, start)
                or self._has_ended()
            ),
            relief,
        )
        first = scene.step()
        wait_until(lambda: scene.step() > first or self._has_ended(), "the next step")
        for script, program in scene.programs.items():
            if program.process.poll():
                raise LostError(f"{script} has ended: {scene.lines(script)[-1]}")
        return Result(row.name, disturbance.num_hits, outcome, line, "nothing")

    def finish(self) -> None:
        for script in (TRAINER, PREPROCESSOR):
            if status := self.scene.programs[script].process.wait(STUCK_SECONDS):
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
                if scene.programs[name].process.wait(STUCK_SECONDS):
                    raise LostError(f"{name}: {scene.lines(name)[-1]}")
            require_variables(scene, reference, 1)
            yield Result(row.name, disturbance.num_hits, outcome, line, "nothing")
        except (LostError, subprocess.TimeoutExpired) as error:
            yield Result(row.name, 0, "FAILED", str(error), "?")
        finally:
            scene.close()


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
            if scene.start(row.program, label=names[1]).process.wait(STUCK_SECONDS):
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
