"""Kills the two scripts at random moments; the weights must not change.

    python -m tests.chaos --kills 100 --seed 0

Runs runtime_preprocessing.py and train.py on generated images, sends SIGKILL to either
at random moments, and starts it again, until the training ends. Then every variable of
the last checkpoint (weights, moving statistics, momentum) and the losses in metrics.csv
must be bitwise those of an undisturbed run. If a run ends before all kills are done,
another disturbed run starts.
"""

import argparse
import collections
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet50.config.toml_file import read_config
from resnet50.dataset.listing import open_training_set
from resnet50.demo.pictures import make_images
from resnet50.handoff.progress import ProgressError, read_progress
from resnet50.reports.tables import METRICS_FILE, read_table
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.settings import PROJECT, write_small_config

PREPROCESSOR, TRAINER = "runtime_preprocessing.py", "train.py"

# The time between two kills; they hit TensorFlow's loading, which takes some seconds,
# training and saving.
_PAUSE_SECONDS = (0.2, 14.0)

# Two programs that make no step for so long hang.
_STUCK_SECONDS = 180

# How soon after the trainer the preprocessor must end.
_END_SECONDS = 20


class ChaosError(Exception):
    """A program has failed or hangs, or a result differs."""


class Program:
    """One of the two scripts, with the output of all its processes in one file."""

    def __init__(self, script: str, folder: Path, flags: list[str]):
        self._words = [sys.executable, script, *flags]
        self.log = folder / f"{script}.log"
        self._file = self.log.open("ab")
        self._process: subprocess.Popen | None = None

    def start(self, *flags: str) -> None:
        self._process = subprocess.Popen(
            [*self._words, *flags], cwd=PROJECT, stdout=self._file, stderr=self._file
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def has_ended(self) -> bool:
        """Whether it has ended by itself; raises ChaosError if it has failed."""
        status = self._process.poll()
        if status in (None, 0):
            return status == 0
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise ChaosError(f"{self._words[1]} ended with status {status}:\n{tail}")

    def wait(self, seconds: float) -> None:
        self._process.wait(seconds)
        self.has_ended()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._file.close()


class Run:
    """One training, with or without kills, in its own folder."""

    def __init__(self, folder: Path, config_path: Path):
        self.config = read_config(config_path)
        self.run_folder = self.config.train.saved_models_folder / "run"
        flag = f"--config={config_path}"
        self.programs = {
            PREPROCESSOR: Program(PREPROCESSOR, folder, [flag]),
            TRAINER: Program(TRAINER, folder, [flag, "--run_folder=run"]),
        }
        dataset = open_training_set(self.config.dataset, None)
        self._batches = dataset.batches_per_epoch(self.config.train.batch_size)
        self._num_steps = self._batches * self.config.train.epochs
        self.counts = collections.Counter()

    def _step(self) -> int:
        try:
            folder = self.config.train.buffer_folder
            return read_progress(folder, self._batches, self._num_steps)
        except ProgressError:
            return -1

    def _start(self, script: str) -> None:
        found = list_checkpoints(self.run_folder) if script == TRAINER else []
        if found:
            kind = "after" if found[-1].is_after_epoch else "inside"
            self.counts[f"resumed from a checkpoint {kind} an epoch"] += 1
        self.programs[script].start(*(["--resume"] if found else []))

    def _kill(self, script: str, step_at_start: dict[str, int]) -> None:
        has_moved = self._step() != step_at_start[script]
        self.counts[f"{script} killed"] += 1
        if script == TRAINER:
            moment = "while training" if has_moved else "before its first step"
            self.counts[f"{script} killed {moment}"] += 1
        self.programs[script].kill()
        if list(self.run_folder.glob(".writing-*")):
            self.counts["killed while a checkpoint was being written"] += 1
        if list(self.config.train.buffer_folder.glob(".writing-*")):
            self.counts["killed while a file of the buffer was being written"] += 1

    def train(self, num_kills: int, rng: random.Random) -> None:
        """Runs the training to its end, with at most num_kills kills."""
        scripts = [PREPROCESSOR, TRAINER]
        rng.shuffle(scripts)
        step_at_start = {}
        for script in scripts:
            self._start(script)
            step_at_start[script] = self._step()
        kills, last_step, moved_at = 0, -1, time.monotonic()
        kill_at = time.monotonic() + rng.uniform(*_PAUSE_SECONDS)
        while not self.programs[TRAINER].has_ended():
            self.programs[PREPROCESSOR].has_ended()
            now = time.monotonic()
            if kills < num_kills and now > kill_at:
                script = rng.choice(scripts)
                self._kill(script, step_at_start)
                kills += 1
                self._start(script)
                step_at_start[script] = self._step()
                kill_at = time.monotonic() + rng.uniform(*_PAUSE_SECONDS)
                moved_at = now
            if self._step() != last_step:
                last_step, moved_at = self._step(), now
            if now - moved_at > _STUCK_SECONDS:
                raise ChaosError(f"no step since step {last_step}; see the logs")
            time.sleep(0.02)
        self._end_preprocessor()

    def _end_preprocessor(self) -> None:
        """Waits for its end, or kills it if it was started after the trainer's end.

        Then it cannot know whether the training has ended or a new one will begin.
        """
        program = self.programs[PREPROCESSOR]
        try:
            program.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            log = program.log.read_text(errors="replace")
            if "says that the training has finished" not in log:
                raise ChaosError("the preprocessor does not end") from None
            self.counts["preprocessor started again after the training's end"] += 1
            program.kill()

    def result(self) -> tuple[dict[str, np.ndarray], list[tuple[str, ...]]]:
        """All variables of the last checkpoint, and the losses of each epoch."""
        for program in self.programs.values():
            if "Traceback" in program.log.read_text(errors="replace"):
                raise ChaosError(f"{program.log} has a traceback")
        last = list_checkpoints(self.run_folder)[-1]
        if last.position != (self.config.train.epochs, 0):
            raise ChaosError(f"the last checkpoint is of {last.position}")
        reader = tf.train.load_checkpoint(str(last.path / "variables"))
        names = reader.get_variable_to_shape_map()
        values = {n: reader.get_tensor(n) for n in names if "VARIABLE_VALUE" in n}
        rows = read_table(self.run_folder / METRICS_FILE)
        columns = ("epoch", "steps", "loss", "l2_loss", "top1", "top5", "learning_rate")
        return values, [tuple(row[column] for column in columns) for row in rows]

    def close(self) -> None:
        for program in self.programs.values():
            program.close()


def compare(reference, found) -> int:
    """Returns the number of variables; raises ChaosError if one differs."""
    (values, rows), (found_values, found_rows) = reference, found
    if values.keys() != found_values.keys():
        raise ChaosError("the checkpoints hold different variables")
    different = [n for n in values if not np.array_equal(values[n], found_values[n])]
    if different:
        raise ChaosError(f"{len(different)} variables differ, such as {different[0]}")
    if rows != found_rows:
        raise ChaosError(f"metrics.csv differs: {rows} and {found_rows}")
    return len(values)


def run(folder: Path, num_kills: int, seed: int, epochs: int) -> collections.Counter:
    """Makes the images and trains, first undisturbed, then until all kills are done.

    Returns:
        How often each event happened.

    Raises:
        ChaosError: A program has failed or hangs, or a result differs.
    """
    make_images(folder / "images" / "train", 6, seed, with_odd_files=True)
    total = collections.Counter()
    rng = random.Random(seed)
    reference = None
    while reference is None or total["kills"] < num_kills:
        name = "undisturbed run"
        if reference is not None:
            name = f"disturbed run {total['trainings'] + 1}"
        run_folder = folder / name.replace(" ", "-")
        run_folder.mkdir()
        (run_folder / "images").symlink_to(folder / "images")
        settings = {"epochs": epochs, "checkpoint_minutes": 0.03, "keep_checkpoints": 2}
        workers = {"num_workers": rng.choice([1, 2])}
        training = Run(
            run_folder,
            write_small_config(
                run_folder, train=settings, runtime_preprocessing=workers
            ),
        )
        started = time.monotonic()
        try:
            kills = 0 if reference is None else num_kills - total["kills"]
            training.train(kills, rng)
            result = training.result()
        finally:
            training.close()
        seconds = time.monotonic() - started
        if reference is None:
            reference = result
            print(f"{name}: {epochs} epochs in {seconds:.0f} s", flush=True)
            continue
        num_equal = compare(reference, result)
        done = sum(training.counts[f"{s} killed"] for s in (PREPROCESSOR, TRAINER))
        total.update(training.counts)
        total.update(kills=done, trainings=1, variables=num_equal)
        print(
            f"{name}: {done} kills in {seconds:.0f} s, "
            f"{num_equal} variables and {epochs} rows bitwise equal",
            flush=True,
        )
        if not done:
            raise ChaosError("the training ends before the first kill; more --epochs")
    return total


def main() -> None:
    """Reads the command line and prints the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20, help="of each training")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        total = run(Path(folder), args.kills, args.seed, args.epochs)
    print(f"\nseed {args.seed}, {args.epochs} epochs a training:")
    for name, count in sorted(total.items()):
        print(f"{count:7}  {name}")
    print("every run ended with bitwise the weights of the undisturbed run")


if __name__ == "__main__":
    main()
