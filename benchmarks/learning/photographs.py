"""Overfits photographs with the two scripts, running as two processes.

Crops have 64 pixels. The augmentation is that of config.txt as shipped, with all sizes
reduced in proportion: 33 sides from 73 to 137 instead of 256 to 480. The accuracy is
from metrics.csv: over an epoch's augmented images, each counted before the step that
learns from it.
"""

import contextlib
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.photographs import make_photographs
from resnet50.config.toml_file import read_config
from resnet50.dataset.listing import open_training_set
from resnet50.demo.processes import ProgramProcess, write_config
from resnet50.reports.tables import METRICS_FILE, read_table

RUN, EPOCHS, NUM_GENERATED = "photographs", 200, 200
TARGET = 0.95

# Differences from config.txt as shipped.
_CHANGES = {
    "augmentation": {
        "shorter_side_min": 73,
        "shorter_side_max": 137,
        "shorter_side_step": 2,
        "crop_size": 64,
    },
    "train": {
        "buffer_size": 100,
        "keep_checkpoints": 1,
        "batch_size": 40,
        "epochs": EPOCHS,
        "learning_rate": 0.08,
        "schedule": "cosine",
        "warmup_epochs": 10,
    },
    "runtime_preprocessing": {"num_workers": 1, "sleep_time": 1},
}

# An epoch's 200 images are few, so accuracies of this many last epochs are averaged.
_LAST = 10


class Seconds(NamedTuple):
    """The time that a training took, in seconds."""

    wall: float  # from the start of both programs to the end of both
    to_target: float | None  # from the start to the end of the first epoch at TARGET
    trainer_cpu: float
    preprocessor_cpu: float  # with its worker


@contextlib.contextmanager
def working_folder(folder: Path | None) -> Iterator[Path]:
    """A new folder: the given one, or a temporary one, if possible in memory."""
    if folder is not None:
        folder.mkdir(parents=True)
        yield folder.absolute()
        return
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(dir=parent, prefix="learning-") as name:
        yield Path(name)


def prepare(folder: Path, images: Path | None) -> Path:
    """Writes config.txt, and images if none are given; returns config.txt's path."""
    if images is None:
        images = folder / "images"
        (folder / "generated").mkdir()
        make_photographs(folder / "generated", NUM_GENERATED)
        for path in (folder / "generated").iterdir():
            (images / path.stem).mkdir(parents=True)
            shutil.move(path, images / path.stem)
    path = folder / "config.txt"
    dataset = {"dataset": {"training_images": str(images.absolute())}}
    write_config(path, dataset | _CHANGES)
    return path


def wait_for_target(metrics: Path, trainer: ProgramProcess) -> float | None:
    """Waits for an epoch that reaches the target.

    Returns:
        The time then, in seconds; None if the trainer ends first.
    """
    while trainer.is_running():
        if any(float(row["top1"]) >= TARGET for row in read_table(metrics)):
            return time.monotonic()
        time.sleep(1)
    return None


def children_seconds() -> float:
    """Processor time of all ended child processes, including their children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def train(config_path: Path, metrics: Path) -> Seconds:
    """Runs the two scripts to their end."""
    started, flag = time.monotonic(), f"--config={config_path}"
    words = "train", flag, f"--run_folder={RUN}"
    with ProgramProcess("prep", "preprocess", flag) as preprocessor:
        with ProgramProcess("train", *words) as trainer:
            reached = wait_for_target(metrics, trainer)
            trainer.wait()
        trainer_cpu = children_seconds()
        preprocessor.wait()
    return Seconds(
        time.monotonic() - started,
        None if reached is None else reached - started,
        trainer_cpu,
        children_seconds() - trainer_cpu,
    )


def report(rows: list[dict[str, str]], num_images: int, seconds: Seconds) -> None:
    """Prints the figures of a finished training.

    Args:
        rows: Of metrics.csv.
        num_images: In an epoch.
        seconds: What it took.
    """
    top1 = [float(row["top1"]) for row in rows]
    in_training = sum(float(row["seconds"]) for row in rows)
    waited = sum(float(row["waiting"]) * float(row["seconds"]) for row in rows)
    when = f"{seconds.to_target / 60:.1f} min" if seconds.to_target else "not reached"
    last = statistics.mean(top1[-_LAST:])
    print(f"epochs                    {len(rows)} of {num_images} images")
    print(f"top-1, last epoch         {top1[-1]:.1%} (target: {TARGET:.0%})")
    print(f"top-1, last {_LAST} epochs     {last:.2%} of {_LAST * num_images} images")
    print(f"first epoch at {TARGET:.0%}       {when}")
    print(f"start to end              {seconds.wall / 60:.1f} min (target: 30 min)")
    print(f"processor time, trainer   {seconds.trainer_cpu / 60:.1f} min")
    print(f"  and preprocessor        {seconds.preprocessor_cpu / 60:.1f} min")
    print(f"images/s in an epoch      {len(rows) * num_images / in_training:.1f}")
    print(f"waiting for batches       {waited / in_training:.2%}")


def run(images: Path | None, folder: Path | None) -> None:
    """Trains in a working folder, and prints the figures."""
    with working_folder(folder) as folder:
        config_path = prepare(folder, images)
        config = read_config(config_path)
        dataset = open_training_set(config.dataset, None)
        batch_size = config.train.batch_size
        num_images = dataset.batches_per_epoch(batch_size) * batch_size
        print(f"images:   {dataset.num_images} of {dataset.num_classes} classes")
        changes = {k: v for values in _CHANGES.values() for k, v in values.items()}
        print(f"settings: {changes}, else config.txt as shipped", flush=True)
        metrics = config.train.saved_models_folder / RUN / METRICS_FILE
        seconds = train(config_path, metrics)
        report(read_table(metrics), num_images, seconds)
