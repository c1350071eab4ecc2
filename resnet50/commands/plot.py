"""Learning curves of one run, or of several in the same diagrams.

    python -m resnet50 plot mytestrun
    python -m resnet50 plot mytestrun another --follow

A run is a name in saved_models_folder of config.txt, or a folder. Draws loss, top-1,
top-5, learning rate, speed and waiting from metrics.csv and evaluation.csv, as a
picture (.png) and as a page (.html) that needs no other file; with --tensorboard also
as event files in each run's folder. With --follow it goes on, and draws anew whenever a
table has changed; the page then reloads itself. It reads only what the two programs
write whole, so it may run beside them.
"""

import argparse
import importlib
import time
from pathlib import Path
from types import ModuleType

from PIL import Image

from resnet50 import command_line
from resnet50.config.settings import Config
from resnet50.dataset.listing import open_training_set
from resnet50.errors import UserError
from resnet50.handoff.progress import Position
from resnet50.preprocessing.batches import Assignments, BatchSettings, make_batch
from resnet50.reports.contact_sheet import contact_sheet
from resnet50.reports.curves import RunError, RunRecord, distinguish, read_run
from resnet50.reports.preview_tiles import batch_tiles
from resnet50.reports.tables import EVALUATION_FILE, METRICS_FILE
from resnet50.terminal import say

# How often --follow looks whether a table has changed.
_LOOK_SECONDS = 5.0


class PlotError(UserError):
    """The curves cannot be drawn or written."""


def load_report(name: str, package: str, extra: str) -> ModuleType:
    """A module of resnet50.reports that needs a package of an extra.

    Raises:
        PlotError: It is not installed.
    """
    try:
        return importlib.import_module(f"resnet50.reports.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        raise PlotError(
            f"{package} is not installed (pip install -e '.[{extra}]')"
        ) from None


def find_run(word: str, args: argparse.Namespace) -> Path:
    """The folder that a word on the command line means.

    Raises:
        RunError: There is none.
        ConfigError: It is no folder, and config.txt cannot be read.
    """
    if (Path(word) / METRICS_FILE).exists():
        return Path(word)
    saved_models = command_line.load_config(args).train.saved_models_folder
    folder = saved_models / word
    if not folder.is_dir():
        known = sorted(
            path.parent.name for path in saved_models.glob(f"*/{METRICS_FILE}")
        )
        raise RunError(
            f"{folder}: there is no such run ({saved_models} holds: "
            f"{', '.join(known) or 'none yet'})"
        )
    return folder


def picture_of_first_batch(config: Config) -> Image.Image:
    """What the settings of config.txt give the network first, de-normalized.

    Raises:
        UserError: The dataset is not there.
    """
    dataset = open_training_set(config.dataset, None)
    recipe = BatchSettings.from_config(config)
    assignment = Assignments(dataset, recipe)[Position(0, 0)]
    tiles = batch_tiles(make_batch(recipe, assignment), assignment, dataset, recipe, {})
    return contact_sheet("epoch 0, batch 0", list(tiles))


def output_path(folders: list[Path], output: str | None) -> Path:
    """Where the picture and the page go, without their suffixes."""
    if output:
        return Path(output.removesuffix(".png").removesuffix(".html"))
    if len(folders) == 1:
        return folders[0] / "curves"
    return folders[0].parent / "comparison"


class Plot:
    """What is drawn of some runs, and where to."""

    def __init__(self, folders: list[Path], args: argparse.Namespace):
        """Loads what draws, and with --tensorboard makes the first batch.

        Raises:
            PlotError: A package is not installed.
        """
        self._folders = folders
        self._reloads = args.follow
        self._diagrams = load_report("diagrams", "matplotlib", "plots")
        self._page = load_report("page", "matplotlib", "plots")
        self._events = self._first_batch = None
        if args.tensorboard:
            self._events = load_report("events", "tensorboard", "tensorboard")
            self._first_batch = first_batch_or_none(args)
        output = output_path(folders, args.output)
        # Not with_suffix: a run's name may have a full stop in it.
        self._picture_path = output.parent / f"{output.name}.png"
        self._page_path = output.parent / f"{output.name}.html"

    def draw(self) -> list[RunRecord]:
        """Draws the tables as they are now; returns them.

        Raises:
            RunError: A run has none yet.
            PlotError: A file cannot be written.
        """
        runs = distinguish([read_run(folder) for folder in self._folders])
        try:
            self._diagrams.write_picture(self._picture_path, runs)
            self._page.write_page(self._page_path, runs, reloads=self._reloads)
            if self._events:
                for run in runs:
                    self._events.write_events(run, self._first_batch)
        except OSError as error:
            raise PlotError(
                f"{self._page_path}: cannot be written: {error} (see --output)"
            ) from None
        return runs

    def announce(self, runs: list[RunRecord]) -> None:
        """Says where it all is, and what is not in it."""
        print(self._picture_path, self._page_path, sep="\n")
        if self._events:
            say(f"see the rest with: tensorboard --logdir={self._folders[0].parent}")
        for run in runs:
            if run.num_superseded:
                say(
                    f"{run.folder / EVALUATION_FILE}: {run.num_superseded} rows are of "
                    f"epochs after the last one of {METRICS_FILE}; left out"
                )


def changed_at(folders: list[Path]) -> list[float]:
    """When the tables were written last; the same again if nothing has changed."""
    paths = [f / name for f in folders for name in (METRICS_FILE, EVALUATION_FILE)]
    return [path.stat().st_mtime for path in paths if path.exists()]


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="name or folder")
    parser.add_argument(
        "--output",
        help="path of both files without .png and .html; default: curves in the run's "
        "folder, or comparison beside the first one of several",
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write event files too"
    )
    parser.add_argument(
        "--follow", action="store_true", help="draw anew when a table has changed"
    )
    return parser.parse_args()


def first_batch_or_none(args: argparse.Namespace) -> Image.Image | None:
    """The picture of the first batch, or None, having said why."""
    try:
        return picture_of_first_batch(command_line.load_config(args))
    except UserError as error:
        say(f"no picture of the first batch: {error}")
        return None


def main() -> None:
    """Draws, once or again and again."""
    args = parse_arguments()
    folders = [find_run(word, args) for word in args.runs]
    plot = Plot(folders, args)
    seen = changed_at(folders)
    plot.announce(plot.draw())
    while args.follow:
        time.sleep(_LOOK_SECONDS)
        if (now := changed_at(folders)) != seen:
            seen = now
            plot.draw()
