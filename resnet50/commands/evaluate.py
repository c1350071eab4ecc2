"""Accuracy of a run's checkpoints on the validation images.

    python -m resnet50 evaluate --run_folder=mytestrun --epoch_start=0 --epoch_end=30

With --imported: of the weights that `python -m resnet50 weights import` put there.
Prints a line for each epoch and writes evaluation.csv in the run's folder; and, about
the last of the epochs, predictions.csv (a row per image), classes.csv (a row per class)
and confusion.csv. With --wait it can run beside a training, on another GPU.
"""

import argparse
import shlex

from tqdm import tqdm

from resnet50 import command_line
from resnet50.config.settings import ConfigError
from resnet50.dataset.listing import open_training_set, open_validation_set
from resnet50.errors import printable_line
from resnet50.handoff import locks
from resnet50.observer import Observer
from resnet50.pixels.resampling import NUM_CROPS
from resnet50.reports.tables import WEIGHTS
from resnet50.terminal import progress_bar, say
from resnet50.training.checkpoint_folders import resolve_epoch


def add_crops_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --crops, the number of views of each image."""
    parser.add_argument(
        "--crops",
        type=int,
        choices=NUM_CROPS,
        default=1,
        help="1: the centre; 10: corners, centre and their mirrors; default: 1",
    )


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("--run_folder", required=True, help="name of the run")
    command_line.add_epoch_flags(parser)
    command_line.add_checkpoint_flag(parser, default="--epoch_start to --epoch_end")
    add_crops_flag(parser)
    parser.add_argument(
        "--wait",
        action="store_true",
        help="wait for checkpoints that are still to come",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        help="the trained ones or their running average (weight_average_decay in "
        "[train]); default: averaged where a checkpoint has them",
    )
    parser.add_argument(
        "--keep_predictions",
        action="store_true",
        help="keep the predictions of each epoch, as predictions_EPOCH.csv",
    )
    parser.add_argument(
        "--imported",
        action="store_true",
        help="evaluate the imported weights, before their training here",
    )
    return parser


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = build_parser()
    args = parser.parse_args()
    if args.epoch is not None and (args.epoch_start or args.epoch_end is not None):
        parser.error("give --epoch, or --epoch_start and --epoch_end")
    return args


class _Terminal(Observer):
    """Shows a bar for each checkpoint."""

    notify = staticmethod(say)

    def __init__(self, num_images: int):
        self._num_images = num_images
        self._bar: tqdm | None = None

    def show(self, num_done: int) -> None:
        if self._bar is None:
            total = self._num_images
            self._bar = progress_bar(total=total, unit=" images", leave=False)
        self._bar.update(num_done - self._bar.n)
        if num_done == self._num_images:
            self._bar.close()
            self._bar = None


def main() -> None:
    """Reads the settings, takes the run's lock, and evaluates."""
    args = parse_arguments()
    config = command_line.load_config(args)
    epochs = command_line.epoch_range(args, config)
    run_folder = command_line.run_folder(args, config)
    index_folder = config.train.buffer_folder
    training = open_training_set(config.dataset, index_folder)
    names = training.class_names
    validation = open_validation_set(config.dataset, names, index_folder, say)
    say(validation.summary)
    if args.wait:
        # The training may not have begun.
        command_line.make_folder(run_folder, "[train] saved_models_folder")
    elif not run_folder.is_dir():
        raise ConfigError(f"{run_folder}: there is no such run (check --run_folder)")
    if args.epoch is not None:
        epoch = resolve_epoch(run_folder, args.epoch)
        epochs = range(epoch, epoch + 1)
    with locks.exclusive_role(run_folder, locks.EVALUATOR):
        with command_line.loading_tensorflow():
            # TensorFlow takes seconds; everything else has been checked before.
            from resnet50.training import run_evaluation
        if args.imported:
            epochs = run_evaluation.IMPORTED
        request = run_evaluation.EvaluationRequest(
            run_folder,
            epochs,
            args.crops,
            args.weights,
            args.wait,
            args.keep_predictions,
        )
        observer = _Terminal(validation.num_images)
        for result in run_evaluation.evaluate_run(
            config, training, validation, request, observer
        ):
            print(result.line(), flush=True)
            for path, reason in result.accuracy.unreadable:
                say(printable_line(f"{path}: unreadable, does not count: {reason}"))
    plot = command_line.command_for("plot", args, classes=None)
    say(f"to see what it confuses: {plot} {shlex.quote(args.run_folder)}")
