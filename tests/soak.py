"""Proves that neither program grows in a long run: memory, and open files.

    python -m tests.soak

The real runtime_preprocessing.py makes 20,000 tiny batches, and the real loop trains a
network of one layer on them, with a cosine schedule, mixup, and a checkpoint after each
100 steps. From step 2,000 on neither program's memory may grow by more than 7 MB, and
neither may have more open files. A Python number that becomes a tensor in each step
would take 14 MB in those 18,000 steps, and two of them, as with mixup, 28 MB. In two
runs the trainer grew by 0.2 and 3.9 MB, the preprocessor by 2.1 and 2.2 MB.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from resnet50.command_line import make_plain_parser
from resnet50.config.toml_file import read_config
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import require_same
from resnet50.handoff.progress import Position, to_step, write_progress
from resnet50.handoff.reader import BatchReader
from resnet50.preprocessing.batches import BatchSettings
from resnet50.training.loop import Loop, PerStepNumbers, Run
from tests.images import make_class_folders
from tests.settings import PROJECT, write_small_config
from tests.training.tiny import TinyTraining

_NUM_STEPS, _WARM_UP_STEPS = 20_000, 2_000
_BATCHES_PER_EPOCH, _BATCH_SIZE = 100, 2

# What a program holds for a moment only does not count: each figure is the median of
# some looks.
_STEPS_BETWEEN_LOOKS, _LOOKS_PER_FIGURE = 50, 20

_MAX_GROWTH_BYTES = 7e6


class Look(NamedTuple):
    """What a program holds at some moment, its child processes included."""

    num_bytes: int  # of memory, not swapped out
    num_files: int  # open


def processes_of(pid: int) -> list[int]:
    """A process with its children and theirs."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for path in lists for child in path.read_text().split()]
    return [pid, *(each for child in children for each in processes_of(child))]


def resident_bytes(pid: int) -> int:
    """The memory of a process that is not swapped out."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def look_at(pids: list[int]) -> Look:
    """What some processes hold together."""
    return Look(
        sum(resident_bytes(pid) for pid in pids),
        sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
    )


def median_of(looks: list[Look]) -> Look:
    """The medians of memory and of open files."""
    return Look(*map(statistics.median_low, zip(*looks)))


def is_flat(name: str, looks: list[Look]) -> bool:
    """Prints what a program held first and last; whether that is within the bounds."""
    first = median_of(looks[:_LOOKS_PER_FIGURE])
    last = median_of(looks[-_LOOKS_PER_FIGURE:])
    growth = last.num_bytes - first.num_bytes
    print(
        f"{name}: {first.num_bytes / 1e6:.1f} MB and {first.num_files} open files "
        f"after {_WARM_UP_STEPS:,} steps, {last.num_bytes / 1e6:.1f} MB "
        f"({growth / 1e6:+.1f}) and {last.num_files} after {_NUM_STEPS:,}",
        flush=True,
    )
    return growth <= _MAX_GROWTH_BYTES and last.num_files <= first.num_files


class Watch:
    """Looks at programs while they run, from the end of the warm-up on."""

    def __init__(self, **pids: int):
        """Takes the process id of each program."""
        self._pids = pids
        self._num_steps = 0
        self.looks: dict[str, list[Look]] = {name: [] for name in pids}

    def after_step(self) -> bool:
        """Counts a step, and looks if it is time; False: the training goes on."""
        self._num_steps += 1
        is_warm = self._num_steps > _WARM_UP_STEPS
        if is_warm and self._num_steps % _STEPS_BETWEEN_LOOKS == 0:
            for name, pid in self._pids.items():
                # The preprocessor is a child of this process.
                pids = [pid] if pid == os.getpid() else processes_of(pid)
                self.looks[name].append(look_at(pids))
        return False


def train(config_path: Path, watch: Watch) -> None:
    """The trainer's loop, in this process."""
    config = read_config(config_path)
    train, recipe = config.train, BatchSettings.from_config(config)
    buffer = BatchBuffer(train.buffer_folder)
    dataset = open_training_set(config.dataset, buffer.folder)
    batches_per_epoch = dataset.batches_per_epoch(train.batch_size)
    assert train.epochs * batches_per_epoch == _NUM_STEPS
    run_folder = train.saved_models_folder / "soak"
    run_folder.mkdir(parents=True)
    start, end = Position(0, 0), Position(train.epochs, 0)
    with (
        locks.exclusive_role(buffer.folder, locks.TRAINER),
        BatchReader(
            buffer,
            recipe.spec(dataset),
            range(to_step(end, batches_per_epoch)),
            batches_per_epoch=batches_per_epoch,
            read_ahead=train.read_ahead,
            sleep_seconds=train.sleep_time,
            is_buffer_ready=lambda: require_same(
                buffer.folder, recipe.manifest(dataset)
            ),
            should_stop=lambda: False,
            notify=lambda line: None,
            how_to_start="",
        ) as reader,
    ):
        write_progress(buffer.folder, start)
        Loop(
            TinyTraining(**dataclasses.asdict(train)),
            reader,
            buffer,
            Run(
                run_folder,
                {},
                batches_per_epoch,
                train.buffer_size,
                train.checkpoint_minutes,
                keep_checkpoints=2,
            ),
            PerStepNumbers(train, config.batch_renorm, batches_per_epoch),
            describe_batch=str,
            draw=lambda position, text: None,
            is_draw_due=lambda: True,
            should_stop=watch.after_step,
            notify=lambda line: None,
            advise=lambda speed: "",
        ).run(start)


def main() -> None:
    """Runs both programs, prints the figures, and exits with 1 if one has grown."""
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
    are_flat = [is_flat(name, looks) for name, looks in watch.looks.items()]
    sys.exit(not all(are_flat))


if __name__ == "__main__":
    main()
