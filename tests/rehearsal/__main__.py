"""A week in an hour: a training on as many images as ImageNet has, and restarts.

    python -m tests.rehearsal

runtime_preprocessing.py is the real program, and so is train.py but for the computation
of a step, for which a stand-in takes the time of an A100; see ``device``. The training
has 1,281,167 images of 1,000 classes, each a file, and 20,016 batches of 256. Each
program is ended three times, by SIGTERM, kill -9, and SIGKILL for all its processes,
and started again with the command that was printed. The images are a seventh as wide
and high as ImageNet's; so are the shorter sides and the crop of 32 pixels.

A table has the start times, memory, open files, speed and waits, with a verdict each;
the exit status is 1 if one is not met.
"""

import csv
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from resnet50.command_line import make_plain_parser
from resnet50.config.toml_file import read_config
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import Position, ProgressError, read_progress
from tests.rehearsal import report
from tests.rehearsal.pictures import make_pictures
from tests.rehearsal.programs import Program, RehearsalError, Sample, Sampler
from tests.rehearsal.record import expected_digest, read_record
from tests.rehearsal.report import Opening, Restart, Verdict
from tests.settings import PROJECT, write_small_config

_TRAINER, _PREPROCESSOR = locks.TRAINER, locks.PREPROCESSOR

# Which program ends when, as a share of all steps, and how. The longest time without a
# restart is that in which memory and open files are judged.
_PLAN = (
    (0.10, _TRAINER, "SIGTERM"),
    (0.20, _PREPROCESSOR, "SIGTERM"),
    (0.30, _TRAINER, "kill -9"),
    (0.375, _PREPROCESSOR, "kill -9"),
    (0.85, _PREPROCESSOR, "SIGKILL for its processes"),
    (0.925, _TRAINER, "SIGKILL for its processes"),
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
    buffer_size: int = 1_000
    sleep_seconds: float = 10.0  # of the preprocessor
    plan: tuple[tuple[float, str, str], ...] = _PLAN

    @property
    def batches_per_epoch(self) -> int:
        return self.num_images // self.batch_size

    @property
    def num_steps(self) -> int:
        return self.epochs * self.batches_per_epoch


class Rehearsal:
    """One rehearsal, in its own folder; the images are in another one."""

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
                "num_workers": min(4, os.cpu_count() or 1),
                "sleep_time": scale.sleep_seconds,
            },
        )
        self.config = read_config(self.config_path)
        self.run_folder = self.config.train.saved_models_folder / "week"
        self.buffer = BatchBuffer(self.config.train.buffer_folder)
        self.record = folder / "steps.txt"
        self.programs = {
            name: Program(name, folder / f"{name}.log")
            for name in (_TRAINER, _PREPROCESSOR)
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

    def start(self, name: str, flags: list[str]) -> None:
        words = [f"{name}.py"]
        if name == _TRAINER:
            seconds = self.scale.batch_size / self.scale.images_per_second
            words = ["-m", "tests.rehearsal.trainer", str(self.record), f"{seconds!r}"]
        self.programs[name].start([*words, *flags])

    def time_preprocessor(self) -> Opening:
        """Starts it, without a trainer, until its first batch; ends it."""
        program = self.programs[_PREPROCESSOR]
        self.start(_PREPROCESSOR, self._flags)
        first = self.buffer.images_path(Position(0, 0))
        self._wait(first.exists, "no batch")
        seconds = time.monotonic() - program.started[-1]
        program.end("SIGTERM")
        self.buffer.clear()
        return Opening(self.listing_seconds(len(program.started) - 1), seconds)

    def listing_seconds(self, start: int) -> float:
        """From a start of the preprocessor until it knows all images."""
        text = f"{self.scale.num_images:,} images of"
        return self.programs[_PREPROCESSOR].seconds_to(text, start)

    def train(self) -> None:
        """Runs the training to its end, with all restarts."""
        self.start(_PREPROCESSOR, self._flags)
        self.start(_TRAINER, self._trainer_flags)
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
        program, trainer = self.programs[name], self.programs[_TRAINER]
        num_lines = len(trainer.lines[-1])
        self.restarts.append(Restart(name, how, self.step()))
        program.end(how)
        if name == _PREPROCESSOR:

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
        # Only now: it takes memory, and the programs would inherit its environment.
        import tensorflow as tf

        from resnet50.training.checkpoint_folders import list_checkpoints

        path = list_checkpoints(self.run_folder)[-1].path / "variables"
        reader = tf.train.load_checkpoint(str(path))
        name = "training/digest/.ATTRIBUTES/VARIABLE_VALUE"
        train, scale = self.config.train, self.scale
        dataset = open_training_set(self.config.dataset, self.buffer.folder)
        return int(reader.get_tensor(name)), expected_digest(
            dataset, train.seed, scale.batch_size, scale.epochs
        )


def _seconds_of(words: list[str]) -> float:
    """How long a Python program takes."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, *words], cwd=PROJECT, check=True, capture_output=True
    )
    return time.monotonic() - started


def make_archive(path: Path, images: Path) -> None:
    """Writes all images into one tar archive, which appears whole."""
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        with tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as archive:
            for folder in sorted(images.iterdir()):
                archive.add(folder, folder.name)
        unfinished.rename(path)


def _write_samples(path: Path, samples: list[Sample]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([Sample._fields, *samples])


def _new_folder(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def rehearse(folder: Path, scale: Scale) -> list[Verdict]:
    """Makes the images, times the starts, and trains; returns the table."""
    data = folder / f"{scale.num_images}-images"
    images, archive = data / "train", data / "train.tar"
    make_pictures(images, scale.num_images, scale.num_classes)
    make_archive(archive, images)
    verdicts = []
    for what, source in (("one archive", archive), ("files", images)):
        rehearsal = Rehearsal(_new_folder(folder / "run"), source, scale)
        try:
            openings = [rehearsal.time_preprocessor() for _ in range(3)]
        finally:
            rehearsal.close()
        verdicts.append(report.opening(what, openings))
    seconds = _seconds_of(["-c", "import tensorflow"])
    verdicts.append(Verdict("python -c 'import tensorflow'", f"{seconds:.1f} s"))
    num_openings = len(openings)
    sampler = Sampler(list(rehearsal.programs.values()), rehearsal.step)
    started = time.monotonic()
    sampler.start()
    try:
        rehearsal.train()
    finally:
        sampler.end()
        rehearsal.close()
    minutes = (time.monotonic() - started) / 60
    _write_samples(folder / "run" / "samples.csv", sampler.samples)
    starts, trainer = read_record(rehearsal.record), rehearsal.programs[_TRAINER]
    listing = [
        rehearsal.listing_seconds(start)
        for start in range(num_openings, len(rehearsal.programs[_PREPROCESSOR].started))
    ]
    for restart in rehearsal.restarts:
        print(f"{restart.program}.py: {restart.how} at step {restart.step:,}")
    found, expected = rehearsal.digest()
    num_steps = sum(len(start.steps) for start in starts)
    loads = sampler.loads
    return [
        Verdict(
            "size",
            f"{scale.num_images:,} images of {scale.num_classes:,} classes, "
            f"{scale.num_steps:,} steps of {scale.batch_size}, "
            f"{num_steps - scale.num_steps:,} of them repeated after kills, in "
            f"{minutes:.1f} minutes",
        ),
        Verdict(
            "load average of the machine, least, mean and most",
            f"{min(loads):.1f}, {sum(loads) / len(loads):.1f}, {max(loads):.1f} on "
            f"{os.cpu_count()} cores",
        ),
        *verdicts,
        Verdict(
            "the same with files, each start of the training: to the list",
            ", ".join(f"{seconds:.1f}" for seconds in listing) + " s",
        ),
        *report.trainer_starts(trainer, starts),
        *report.growth(sampler.samples, _TRAINER),
        *report.growth(sampler.samples, _PREPROCESSOR),
        *report.speed(starts, scale.batch_size / scale.images_per_second),
        *report.waits(starts),
        Verdict(
            "each batch was trained on once, in order (a digest of all labels)",
            "equal" if found == expected else f"{found} instead of {expected}",
            found == expected,
        ),
    ]


def main() -> None:
    """Reads the command line, and exits with 1 if a verdict is not met."""
    parser = make_plain_parser(__doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/tmp/week-in-an-hour"),
        help="for 10 GB; keeps the images for the next rehearsal; default: %(default)s",
    )
    parser.add_argument(
        "--epochs", type=int, default=4, help="of 5,004 steps; default: 4"
    )
    parser.add_argument(
        "--num_images",
        type=int,
        default=Scale().num_images,
        help="default: %(default)s",
    )
    args = parser.parse_args()
    scale = Scale(args.num_images, epochs=args.epochs)
    sys.exit(not report.is_accepted(rehearse(args.folder, scale)))


if __name__ == "__main__":
    main()
