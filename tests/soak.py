"""Proves that neither program's memory and open files grow in a long run.

    python -m tests.soak

The real runtime_preprocessing.py makes 20,000 tiny batches, and the real loop trains a
network of one layer on them, with a cosine schedule, mixup, and a checkpoint every 100
steps. After step 2,000, neither program's memory may grow by more than 7 MB, and
neither may open more files. One Python number that becomes a tensor in each step would
leak 14 MB; two of them, as with mixup, 28 MB. In two runs the trainer grew by 0.2 and
3.9 MB, the preprocessor by 2.1 and 2.2 MB.
"""

import dataclasses
import functools
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from resnet50.command_line import make_plain_parser
from resnet50.config.toml_file import read_config
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.lost_folder import TrainerFiles
from resnet50.handoff.progress import Position, StepRange, write_progress
from resnet50.handoff.reader import Batch, BatchReader, BatchSource, ReaderSettings
from resnet50.observer import Observer
from resnet50.preprocessing.batches import BatchSettings
from resnet50.training.loop import Loop, place
from resnet50.training.run_files import Run
from resnet50.training.training_observer import TrainingObserver
from resnet50.training.update.schedules import PerStepNumbers
from tests.images import make_class_folders
from tests.processes import processes_of, resident_bytes
from tests.settings import PROJECT, write_small_config
from tests.training.tiny import TinyTraining

_NUM_STEPS, _WARM_UP_STEPS = 20_000, 2_000
_BATCHES_PER_EPOCH, _BATCH_SIZE = 100, 2

# Each figure is the median of several samples, as a program may hold something briefly.
_STEPS_PER_SAMPLE, _SAMPLES_PER_FIGURE = 50, 20

_MAX_GROWTH_BYTES = 7e6


class Sample(NamedTuple):
    """What a program and its child processes hold at a moment."""

    num_bytes: int  # resident memory
    num_files: int  # open files


def sample(pids: list[int]) -> Sample:
    """What several processes hold together."""
    return Sample(
        sum(resident_bytes(pid) for pid in pids),
        sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
    )


def median_of(samples: list[Sample]) -> Sample:
    """The medians of memory and of open files."""
    return Sample(*map(statistics.median_low, zip(*samples)))


def is_flat(name: str, samples: list[Sample]) -> bool:
    """Prints what a program held first and last; returns whether it has not grown."""
    first = median_of(samples[:_SAMPLES_PER_FIGURE])
    last = median_of(samples[-_SAMPLES_PER_FIGURE:])
    growth = last.num_bytes - first.num_bytes
    print(
        f"{name}: {first.num_bytes / 1e6:.1f} MB and {first.num_files} open files "
        f"after {_WARM_UP_STEPS:,} steps, {last.num_bytes / 1e6:.1f} MB "
        f"({growth / 1e6:+.1f}) and {last.num_files} after {_NUM_STEPS:,}",
        flush=True,
    )
    return growth <= _MAX_GROWTH_BYTES and last.num_files <= first.num_files


class Stepwise:
    """A reader that calls a function after each step and ends if it returns true."""

    def __init__(self, reader, after_step: Callable[[], bool]):
        """Takes the reader, whose batches it yields."""
        self._reader, self._after_step = reader, after_step

    def __getattr__(self, name: str):
        return getattr(self._reader, name)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._reader:
            yield batch
            if self._after_step():
                return


class Watch:
    """Samples programs while they run, after the warm-up."""

    def __init__(self, **pids: int):
        """Takes the process id of each program."""
        self._pids = pids
        self._num_steps = 0
        self.samples: dict[str, list[Sample]] = {name: [] for name in pids}

    def after_step(self) -> bool:
        """Counts a step and samples if it is time; returns False to go on."""
        self._num_steps += 1
        is_warm = self._num_steps > _WARM_UP_STEPS
        if is_warm and self._num_steps % _STEPS_PER_SAMPLE == 0:
            for name, pid in self._pids.items():
                # The preprocessor is a child of this process.
                pids = [pid] if pid == os.getpid() else processes_of(pid)
                self.samples[name].append(sample(pids))
        return False


class AlwaysDue(TrainingObserver):
    """Makes the loop compute a status whenever it polls."""

    def is_due(self) -> bool:
        return True


def train(config_path: Path, watch: Watch) -> None:
    """Runs the training loop in this process."""
    config = read_config(config_path)
    train, recipe = config.train, BatchSettings.from_config(config)
    buffer = BatchBuffer(train.buffer_folder)
    dataset = open_training_set(config.dataset, buffer.folder)
    batches_per_epoch = dataset.batches_per_epoch(train.batch_size)
    assert train.epochs * batches_per_epoch == _NUM_STEPS
    run_folder = train.saved_models_folder / "soak"
    run_folder.mkdir(parents=True)
    start, end = Position(0, 0), Position(train.epochs, 0)
    training = TinyTraining(**dataclasses.asdict(train))
    numbers = PerStepNumbers(train, config.batch_renorm, batches_per_epoch)
    with (
        locks.exclusive_role(buffer.folder, locks.TRAINER) as role,
        BatchReader(
            BatchSource(buffer, recipe.spec(dataset), recipe.manifest(dataset)),
            StepRange.between(start, end, batches_per_epoch),
            ReaderSettings(train.read_ahead, train.sleep_time, how_to_start=""),
            TrainerFiles(role, Observer(), writes_progress=False),
            Observer(),
            should_stop=lambda: False,
            place=functools.partial(place, training, numbers),
        ) as reader,
    ):
        write_progress(buffer.folder, start)
        Loop(
            training,
            Stepwise(reader, watch.after_step),
            buffer,
            Run(
                run_folder,
                {},
                batches_per_epoch,
                train.checkpoint_minutes,
                keep_checkpoints=2,
            ),
            numbers,
            AlwaysDue(),
        ).run(start)


def main() -> None:
    """Runs both programs, prints the figures, and exits with 1 if one grows."""
    make_plain_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_classes, num_images = 2, _BATCHES_PER_EPOCH * _BATCH_SIZE
        make_class_folders(
            folder / "images" / "train", num_classes, num_images // num_classes
        )
        config = write_small_config(
            folder,
            train={
                "batch_size": _BATCH_SIZE,
                "epochs": _NUM_STEPS // _BATCHES_PER_EPOCH,
                "buffer_size": 200,
                "schedule": "cosine",
                "mixup_alpha": 0.2,
            },
        )
        BatchBuffer(folder / "buffer").folder.mkdir()
        command = [sys.executable, "runtime_preprocessing.py", f"--config={config}"]
        with (
            (folder / "preprocessor.log").open("w+") as log,
            subprocess.Popen(command, cwd=PROJECT, stderr=log) as preprocessor,
        ):
            try:
                watch = Watch(trainer=os.getpid(), preprocessor=preprocessor.pid)
                train(config, watch)
                assert preprocessor.wait(60) == 0
            except BaseException:
                preprocessor.kill()
                print((folder / "preprocessor.log").read_text(), file=sys.stderr)
                raise
    are_flat = [is_flat(name, samples) for name, samples in watch.samples.items()]
    sys.exit(not all(are_flat))


if __name__ == "__main__":
    main()
