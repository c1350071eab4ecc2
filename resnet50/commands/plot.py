"""Plots the learning curves of one run, or of several in the same diagrams.

    python -m resnet50 plot mytestrun
    python -m resnet50 plot mytestrun another --follow

A run is a name in saved_models_folder of config.txt, or a folder. Plots loss, top-1,
top-5, learning rate, speed and waiting from metrics.csv and evaluation.csv, as a
picture (.png) and as a page (.html) that needs no other file; with --tensorboard also
as event files in each run's folder. With --follow it keeps running and plots again
whenever a table has changed; the page then reloads itself. It can run during a
training, because it reads only files that the two programs write atomically.
"""

import argparse
import time
from pathlib import Path

from PIL import Image

from resnet50 import command_line
from resnet50.dataset.listing import open_training_set
from resnet50.errors import UserError
from resnet50.preprocessing.batches import BatchSettings
from resnet50.reports.curves import RunError
from resnet50.reports.plotting import Plot
from resnet50.reports.previews import first_batch_sheet
from resnet50.reports.tables import EVALUATION_FILE, METRICS_FILE
from resnet50.terminal import say

# Seconds between two polls of the tables with --follow.
_POLL_SECONDS = 5.0


def find_run(word: str, args: argparse.Namespace) -> Path:
    """The folder of a run, given by its name or folder.

    Raises:
        RunError: There is no such run.
        ConfigError: It is no folder, and config.txt cannot be read.
    """
    if (Path(word) / METRICS_FILE).exists():
        return Path(word)
    saved_models = command_line.load_config(args).train.saved_models_folder
    folder = saved_models / word
    if not folder.is_dir():
        known = sorted(p.parent.name for p in saved_models.glob(f"*/{METRICS_FILE}"))
        raise RunError(
            f"{folder}: there is no such run ({saved_models} holds: "
            f"{', '.join(known) or 'none yet'})"
        )
    return folder


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="name or folder")
    parser.add_argument(
        "--output",
        help="path of both files without .png and .html; default: curves in the run's "
        "folder, or comparison next to the first of several",
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write event files too"
    )
    parser.add_argument(
        "--follow", action="store_true", help="plot again when a table has changed"
    )
    return parser.parse_args()


def render_first_batch(args: argparse.Namespace) -> Image.Image | None:
    """Renders the first batch of config.txt; says so if there is none."""
    try:
        config = command_line.load_config(args)
        dataset = open_training_set(config.dataset, None)
        return first_batch_sheet(dataset, BatchSettings.from_config(config))
    except UserError as error:
        say(f"no picture of the first batch: {error}")
        return None


def main() -> None:
    """Plots, once or again and again."""
    args = parse_arguments()
    folders = [find_run(word, args) for word in args.runs]
    plot = Plot(folders, args.output, has_events=args.tensorboard)
    if args.tensorboard:
        plot.first_batch = render_first_batch(args)
    last_times = plot.table_times()
    runs = plot.write(reloads=args.follow)
    print(plot.picture_path, plot.page_path, sep="\n")
    if args.tensorboard:
        say(f"see the event files with: tensorboard --logdir={folders[0].parent}")
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
            plot.write(reloads=True)
