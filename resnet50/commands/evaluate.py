"""Accuracy of a run's checkpoints on the validation images.

    python -m resnet50 evaluate --run_folder=mytestrun --epoch_start=0 --epoch_end=30

With --imported: of the weights that `python -m resnet50 weights import` put there.
Prints a line for each epoch and writes evaluation.csv in the run's folder. With --wait
it can run beside a training, on another GPU.
"""

import argparse
import time
from pathlib import Path

from resnet50 import command_line
from resnet50.command_line import say
from resnet50.config import Config
from resnet50.handoff.locks import exclusive_role
from resnet50.handoff.progress import Position
from resnet50.preprocessing.dataset_index import (
    open_training_set,
    open_validation_set,
)
from resnet50.preprocessing.imagenet import Dataset
from resnet50.preprocessing.validation import NUM_CROPS
from resnet50.tables import EVALUATION_FILE, record_evaluation
from resnet50.training.checkpoint import (
    WEIGHTS,
    CheckpointError,
    checkpoint_path,
    list_checkpoints,
    load_model,
)
from resnet50.training.devices import prepare_device
from resnet50.training.evaluation import Accuracy, Evaluator
from resnet50.training.resume import describe_model
from resnet50.training.step import create_model

_WAIT_SECONDS = 1.0

# Of imported weights: they are what the epoch before epoch 0 would have left.
_IMPORTED_EPOCH = -1


def find_checkpoint(run_folder: Path, epoch: int, *, wait: bool) -> Path | None:
    """The checkpoint after an epoch; None if there is none and none to wait for."""
    position = Position(epoch + 1, 0)
    path = checkpoint_path(run_folder, position)
    if wait and not path.exists():
        say(f"{path}: waiting for it")
    while not path.exists():
        # What is not there although a later one is was deleted: keep_checkpoints.
        found = list_checkpoints(run_folder)
        if not wait or (found and found[-1].position > position):
            return None
        time.sleep(_WAIT_SECONDS)
    return path


def require_imported(run_folder: Path) -> None:
    """Raises CheckpointError if a run does not have imported weights any more."""
    path = checkpoint_path(run_folder, Position(0, 0))
    if not path.exists():
        raise CheckpointError(
            f"{path}: no imported weights (`python -m resnet50 weights import` puts "
            "them there, a training's first checkpoint replaces them)"
        )


def open_datasets(config: Config) -> tuple[Dataset, Dataset]:
    """The training images, which define the classes, and the validation images."""
    index_folder = config.train.buffer_folder
    training = open_training_set(config.dataset, index_folder)
    validation = open_validation_set(
        config.dataset, training.class_names, index_folder, say
    )
    return training, validation


def record(
    run_folder: Path, epoch: int, num_crops: int, weights: str, accuracy: Accuracy
) -> None:
    """Prints an epoch's accuracy and adds it to evaluation.csv."""
    row = {
        "epoch": epoch,
        "crops": num_crops,
        "weights": weights,
        "top1": f"{accuracy.top1:.6f}",
        "top5": f"{accuracy.top5:.6f}",
        "loss": f"{accuracy.loss:.6g}",
        "num_images": accuracy.num_images,
    }
    # Two evaluations, of one crop and of ten, may run side by side.
    with exclusive_role(run_folder, EVALUATION_FILE):
        record_evaluation(run_folder / EVALUATION_FILE, row)
    name = "imported weights" if epoch == _IMPORTED_EPOCH else f"epoch {epoch}"
    print(
        f"{name}: top-1 {accuracy.top1:.2%}, top-5 {accuracy.top5:.2%} "
        f"({accuracy.num_images:,} images, {num_crops} "
        f"{'crop' if num_crops == 1 else 'crops'}, {weights} weights)",
        flush=True,
    )
    for path, reason in accuracy.unreadable:
        say(f"{path}: unreadable, does not count: {reason}")


def add_crops_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --crops: which views of an image count."""
    parser.add_argument(
        "--crops",
        type=int,
        choices=NUM_CROPS,
        default=1,
        help="1: the centre; 10: corners, centre and their mirrors; default: 1",
    )


def main() -> None:
    """Evaluates each checkpoint that the command line names."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("--run_folder", required=True, help="name of the run")
    command_line.add_epoch_flags(parser)
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
        "--imported",
        action="store_true",
        help="evaluate the imported weights, before their training here",
    )
    args = parser.parse_args()
    config = command_line.load_config(args)
    epochs = command_line.epoch_range(args, config)
    run_folder = command_line.run_folder(args, config)
    if args.imported:
        epochs = range(_IMPORTED_EPOCH, _IMPORTED_EPOCH + 1)
        require_imported(run_folder)
    training_set, validation_set = open_datasets(config)
    say(validation_set.summary)

    prepare_device(deterministic=False, notify=say)
    model = create_model(training_set.num_classes, config.model)
    evaluator = Evaluator.from_config(model, config, args.crops)
    num_evaluated = 0
    for epoch in epochs:
        path = find_checkpoint(run_folder, epoch, wait=args.wait)
        if path is None:
            say(f"{run_folder}: no checkpoint after epoch {epoch}; passed over")
            continue
        description = describe_model(config, training_set)
        weights = load_model(model, path, description, weights=args.weights)
        with command_line.progress_bar(
            total=validation_set.num_images, unit=" images", leave=False
        ) as bar:
            accuracy = evaluator.evaluate(validation_set, bar.update)
        record(run_folder, epoch, args.crops, weights, accuracy)
        num_evaluated += 1
    if num_evaluated < len(epochs):
        missing = len(epochs) - num_evaluated
        raise CheckpointError(
            f"{run_folder}: {missing} of the epochs {epochs.start} to "
            f"{epochs.stop - 1} have no checkpoint (--wait waits for those to come)"
        )
