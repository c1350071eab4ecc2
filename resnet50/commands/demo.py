"""Runs the whole pipeline on generated images.

    python -m resnet50 demo

Makes ten classes of pictures, computes the channel statistics, starts the two scripts
as two processes, trains the real ResNet-50 on 64-pixel crops, interrupts the training
in the middle of an epoch, resumes it, evaluates the network on new pictures, and plots
the learning curves. Takes some minutes on two CPU cores. In a terminal, the state of
the two is drawn below what they print.
"""

import argparse
import contextlib
import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.live import Live

from resnet50 import command_line
from resnet50.config.settings import Config
from resnet50.config.toml_file import read_config
from resnet50.dataset.listing import open_training_set
from resnet50.demo.pictures import PATTERNS, make_images
from resnet50.demo.processes import ProgramProcess, write_config
from resnet50.errors import UserError
from resnet50.handoff.progress import ProgressError, read_progress, to_position
from resnet50.installation import install_command, typed
from resnet50.reports.live.pair_view import PairView, is_live
from resnet50.reports.live.pair_watch import PairWatch
from resnet50.reports.tables import EVALUATION_FILE, METRICS_FILE, read_table

RUN, EPOCHS, INTERRUPTED_EPOCH = "demo", 16, 5
TRAINING_PER_CLASS, VALIDATION_PER_CLASS = 60, 20

_PAUSE_SECONDS = 0.1
_DRAWING_SECONDS = 1.0
_VIEW_HEIGHT = 16  # lines at most, in a terminal

# How the demo's config.txt differs from config.txt as shipped.
_CHANGES: dict[str, dict] = {
    "dataset": {"training_images": "images/train", "validation_images": "images/val"},
    "augmentation": {
        "shorter_side_min": 68,
        "shorter_side_max": 82,
        "shorter_side_step": 7,
        "crop_size": 64,
    },
    "train": {
        "buffer_size": 40,
        "batch_size": 16,
        "epochs": EPOCHS,
        "learning_rate": 0.04,
        "schedule": "cosine",
        "warmup_epochs": 1,
    },
    "runtime_preprocessing": {"num_workers": 1, "sleep_time": 1},
    "evaluation": {"shorter_side": 72, "num_workers": 2},
}


class DemoError(UserError):
    """The demo cannot start."""


def show(line: str) -> None:
    """Prints a line of the demo itself."""
    print(f"demo  | {line}", flush=True)


def prepare_folder(folder: Path) -> Path:
    """Makes the images and config.txt; returns the path of config.txt.

    Raises:
        DemoError: The folder contains something else.
    """
    marker = folder / ".made-by-demo"
    if folder.exists() and not marker.exists():
        raise DemoError(
            f"{folder}: exists and is not a demo's (move it away, or give --folder)"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    marker.touch()
    counts = ("train", TRAINING_PER_CLASS), ("val", VALIDATION_PER_CLASS)
    for seed, (name, per_class) in enumerate(counts, start=1):
        images = folder / "images" / name
        count = make_images(images, per_class, seed, with_odd_files=name == "train")
        show(f"{count} images of {len(PATTERNS)} classes in {images}")
    path = folder / "config.txt"
    write_config(path, _CHANGES)
    return path


@contextlib.contextmanager
def live_view(config: Config) -> Iterator[Callable[[], None]]:
    """Yields a function that waits for a moment.

    In a terminal, it also draws the state of the pair below what is printed.
    """
    console = Console()
    if not is_live(console):
        yield partial(time.sleep, _PAUSE_SECONDS)
        return
    watch = PairWatch(config, config.train.saved_models_folder / RUN, EPOCHS)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        drawn_at = float("-inf")

        def pause() -> None:
            nonlocal drawn_at
            if time.monotonic() >= drawn_at + _DRAWING_SECONDS:
                drawn_at = time.monotonic()
                # The programs' messages are printed above it.
                state = watch.poll()._replace(messages=[])
                live.update(PairView(state, height=_VIEW_HEIGHT), refresh=True)
            time.sleep(_PAUSE_SECONDS)

        yield pause


def wait_for_middle_of_epoch(
    config: Config, trainer: ProgramProcess, pause: Callable[[], None]
) -> None:
    """Waits until the trainer is halfway through INTERRUPTED_EPOCH."""
    train = config.train
    dataset = open_training_set(config.dataset, None)
    batches = dataset.batches_per_epoch(train.batch_size)
    goal = INTERRUPTED_EPOCH * batches + batches // 2
    while trainer.is_running():
        try:
            step = read_progress(train.buffer_folder, batches, train.epochs * batches)
        except ProgressError:
            step = 0
        if step >= goal:
            show(f"interrupting the trainer at {to_position(step, batches)}: Ctrl-C")
            return
        pause()


def wait_for_end(
    program: ProgramProcess, pause: Callable[[], None], expected: int = 0
) -> None:
    """Waits until a program ends; see ``ProgramProcess.wait``."""
    while program.is_running():
        pause()
    program.wait(expected)


def run_both(config_path: Path) -> None:
    """Runs the two scripts; interrupts the trainer once, and resumes it."""
    config = read_config(config_path)
    flag = f"--config={config_path}"
    words = "train", flag, f"--run_folder={RUN}"
    prep = "prep", "preprocess", flag
    with live_view(config) as pause, ProgramProcess(*prep) as preprocessor:
        with ProgramProcess("train", *words) as trainer:
            wait_for_middle_of_epoch(config, trainer, pause)
            trainer.interrupt()
            wait_for_end(trainer, pause, 130)
        with ProgramProcess("train", *words, "--resume") as trainer:
            wait_for_end(trainer, pause)
        wait_for_end(preprocessor, pause)


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_plain_parser(__doc__)
    parser.add_argument("--folder", default="demo", help="default: demo")
    return parser


def main() -> None:
    """Runs the demo."""
    folder = Path(build_parser().parse_args().folder).absolute()
    started = time.monotonic()
    config_path = prepare_folder(folder)
    flag = f"--config={config_path}"
    ProgramProcess("stats", "stats", flag, "--write").wait()
    run_both(config_path)
    evaluation = ["evaluate", flag, f"--run_folder={RUN}"]
    evaluation += [f"--epoch_start={EPOCHS - 1}", f"--epoch_end={EPOCHS}"]
    ProgramProcess("eval", *evaluation).wait()
    ProgramProcess("eval", *evaluation, "--crops=10").wait()
    is_plotted = importlib.util.find_spec("matplotlib") is not None
    if is_plotted:
        ProgramProcess("plot", "plot", flag, RUN).wait()
    run_folder = read_config(config_path).train.saved_models_folder / RUN
    show(f"took {time.monotonic() - started:.0f} s. You have seen:")
    show("  two processes that share a folder of batches and a two-line text file;")
    show("  an unreadable image replaced, named and counted;")
    show("  a training stopped inside an epoch, and resumed with the next batch;")
    num_images, num_classes = VALIDATION_PER_CLASS * len(PATTERNS), len(PATTERNS)
    show(f"  {num_images} images of {num_classes} classes, new to the network:")
    show(f"  chance would recognize {1 / num_classes:.0%} of them, the network did")
    for row in read_table(run_folder / EVALUATION_FILE):
        show(f"    {float(row['top1']):.1%} (crops of each image: {row['crops']})")
    show(f"The numbers of each epoch are in {run_folder / METRICS_FILE}")
    if is_plotted:
        show(f"Their curves, for a browser: {run_folder / 'curves.html'}")
    else:
        show(f"To see their curves: {install_command('plots')}, then")
        show(f"  {typed('plot')} {flag} {RUN}")
