"""What evaluate does once its settings are found sound: the part with TensorFlow."""

import argparse
import time
from pathlib import Path

from resnet50 import command_line
from resnet50.command_line import say
from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.handoff.progress import Position
from resnet50.network.model import ResNet50
from resnet50.reports.tables import EVALUATION_FILE, record_evaluation
from resnet50.training.checkpoint import (
    CheckpointError,
    checkpoint_path,
    list_checkpoints,
    load_model,
)
from resnet50.training.devices.selection import prepare_device
from resnet50.training.evaluation import Accuracy, Evaluator
from resnet50.training.resume import describe_model

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


def evaluate_run(
    args: argparse.Namespace,
    config: Config,
    epochs: range,
    run_folder: Path,
    training_set: Dataset,
    validation_set: Dataset,
) -> None:
    """Evaluates each checkpoint that the command line names.

    Raises:
        CheckpointError: One is missing, damaged or of another network.
    """
    if args.imported:
        epochs = range(_IMPORTED_EPOCH, _IMPORTED_EPOCH + 1)
        require_imported(run_folder)
    prepare_device(deterministic=False, notify=say)
    model = ResNet50(training_set.num_classes, config.model)
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
