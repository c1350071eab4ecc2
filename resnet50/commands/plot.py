"""Plots the learning curves of one run, or of several in the same diagrams.

    python -m resnet50 plot mytestrun
    python -m resnet50 plot mytestrun another --follow

A run is a name in saved_models_folder of config.txt, or a folder. Plots loss, top-1,
top-5, learning rate, speed and waiting from metrics.csv and evaluation.csv, as a
picture (.png) and as a page (.html) that needs no other file; with --tensorboard also
as event files in each run's folder. With --follow it keeps running and plots again
whenever a table has changed; the page then reloads itself. It can run during a
training, because it reads only files that the two programs write atomically.

With --classes: draws what the last evaluated checkpoint of a run confuses, as a page,
classes.html, from the predictions that evaluate wrote; or that of --epoch=N.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from resnet50 import command_line
from resnet50.atomic_io import atomic_file
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_training_set, open_validation_set
from resnet50.errors import UserError, printable_line
from resnet50.preprocessing.batches import BatchSettings
from resnet50.reports.classes.mistakes import collect_mistakes
from resnet50.reports.classes.predictions import (
    IMPORTED_EPOCH,
    read_predictions,
)
from resnet50.reports.curves import RunRecord, distinguish, read_run
from resnet50.reports.previews import first_batch_sheet
from resnet50.reports.tables import EVALUATION_FILE, METRICS_FILE
from resnet50.terminal import say

# Seconds between two polls of the tables with --follow.
_POLL_SECONDS = 5.0


class PlotError(UserError):
    """The curves cannot be plotted or written."""


def render_first_batch(args: argparse.Namespace) -> Image.Image | None:
    """Renders the first batch of config.txt; reports it if there is none."""
    try:
        config = command_line.load_config(args)
        dataset = open_training_set(config.dataset, config.train.buffer_folder)
        return first_batch_sheet(dataset, BatchSettings.from_config(config))
    except UserError as error:
        say(f"no picture of the first batch: {error}")
        return None


class Plot:
    """The files with the curves of some runs."""

    def __init__(self, args: argparse.Namespace):
        """Finds the runs, and imports the modules that render the curves.

        Raises:
            RunError, ConfigError: See ``command_line.find_run``.
            MissingPackageError: A package is not installed.
        """
        self.folders = [command_line.find_run(word, args) for word in args.runs]
        path = self.folders[0] / "curves"
        if args.output:
            path = args.output.removesuffix(".png").removesuffix(".html")
        elif len(self.folders) > 1:
            path = self.folders[0].parent / "comparison"
        # Not with_suffix: a run's name may contain a full stop.
        self.picture_path, self.page_path = Path(f"{path}.png"), Path(f"{path}.html")
        self._reloads = args.follow
        with command_line.needing("matplotlib", "plots"):
            from resnet50.reports.diagrams import write_picture
            from resnet50.reports.page import build_page
        self._write_picture, self._build_page = write_picture, build_page
        self._write_events: Callable | None = None
        if args.tensorboard:
            with command_line.needing("tensorboard", "tensorboard"):
                from resnet50.reports.events import write_events
            self._write_events = write_events
            self._first_batch = render_first_batch(args)

    def write(self) -> list[RunRecord]:
        """Writes the files from the current tables; returns the tables.

        Raises:
            RunError: A run has no tables yet.
            PlotError: A file cannot be written.
        """
        runs = distinguish([read_run(folder) for folder in self.folders])
        try:
            self._write_picture(self.picture_path, runs)
            page = self._build_page(runs, reloads=self._reloads)
            with atomic_file(self.page_path) as file:
                file.write(page.encode())
            if self._write_events is not None:
                for run in runs:
                    self._write_events(run, self._first_batch)
        except OSError as error:
            raise PlotError(
                f"{self.page_path}: cannot be written: {error} (see --output)"
            ) from None
        return runs

    def table_times(self) -> list[float]:
        """When the tables were last written; changes if one is written again."""
        names = METRICS_FILE, EVALUATION_FILE
        paths = [folder / name for folder in self.folders for name in names]
        return [path.stat().st_mtime for path in paths if path.exists()]


def open_pictures(
    args: argparse.Namespace, class_names: tuple[str, ...]
) -> tuple[Dataset | None, str]:
    """Opens the validation images of config.txt, or says why that is impossible."""
    try:
        settings = command_line.load_config(args)
        folder = settings.train.buffer_folder
        return open_validation_set(settings.dataset, class_names, folder, say), ""
    except UserError as error:
        return None, f"no pictures of the mistakes: {error}"


def draw_classes(args: argparse.Namespace) -> Path:
    """Writes the page of --classes, and returns its path.

    Raises:
        RunError, ConfigError: See ``command_line.find_run``; or there are no such
            predictions.
        TableError: The predictions are damaged.
        MissingPackageError: matplotlib is not installed.
        PlotError: The page cannot be written.
    """
    if len(args.runs) > 1 or args.follow or args.tensorboard:
        raise PlotError("--classes: takes one run, without --follow and --tensorboard")
    with command_line.needing("matplotlib", "plots"):
        from resnet50.reports.classes.class_page import build_class_page
    folder, epoch = command_line.find_run(args.runs[0], args), args.epoch
    flags, file_name = {}, "classes.html"
    if epoch is not None:
        flags = {"epoch_start": epoch, "epoch_end": epoch + 1}
        file_name = f"classes_{epoch}.html"
    if epoch == IMPORTED_EPOCH:
        flags = {"imported": None}
    name = folder.absolute().name
    evaluate = command_line.command_for("evaluate", args, run_folder=name, **flags)
    predictions = read_predictions(folder, epoch, f"`{evaluate}` writes it")
    dataset, note = open_pictures(args, predictions.class_names)
    mistakes = collect_mistakes(predictions, dataset)
    lines = [
        f"no picture of {predictions.image_names[mistake.index]}: {mistake.reason}"
        for mistake in mistakes
        if mistake.reason
    ]
    for line in [note, *lines] if note else lines:
        say(printable_line(line))
    path = folder / file_name
    if args.output:
        path = Path(f"{args.output.removesuffix('.html')}.html")
    try:
        with atomic_file(path) as file:
            page = build_class_page(name, predictions, mistakes, note)
            file.write(page.encode())
    except OSError as error:
        raise PlotError(f"{path}: cannot be written: {error} (see --output)") from None
    return path


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="name or folder")
    parser.add_argument(
        "--output",
        help="path of the files without .png and .html; default: curves or classes in "
        "the run's folder, or comparison next to the first of several",
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write event files too"
    )
    parser.add_argument(
        "--follow", action="store_true", help="plot again when a table has changed"
    )
    parser.add_argument(
        "--classes", action="store_true", help="draw what the run confuses instead"
    )
    parser.add_argument(
        "--epoch",
        type=int,
        help="with --classes: an epoch whose predictions were kept (evaluate "
        "--keep_predictions); default: the last one that was evaluated",
    )
    return parser


def main() -> None:
    """Plots, once or again and again."""
    args = build_parser().parse_args()
    if args.classes:
        print(draw_classes(args))
        return
    if args.epoch is not None:
        raise PlotError(f"--epoch = {args.epoch} (it needs --classes)")
    plot = Plot(args)
    last_times = plot.table_times()
    runs = plot.write()
    print(plot.picture_path, plot.page_path, sep="\n")
    if args.tensorboard:
        say(f"see the event files with: tensorboard --logdir={plot.folders[0].parent}")
    for run in runs:
        if run.num_superseded:
            say(
                f"{run.folder / EVALUATION_FILE}: {run.num_superseded} rows are of "
                f"epochs after the last one of {METRICS_FILE}; left out"
            )
    while args.follow:
        time.sleep(_POLL_SECONDS)
        if (times := plot.table_times()) != last_times:
            last_times = times
            plot.write()
