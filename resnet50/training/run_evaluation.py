"""Evaluates the checkpoints of a run and writes evaluation.csv."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.handoff.progress import Position
from resnet50.observer import Observer
from resnet50.reports.tables import EVALUATION_FILE, record_evaluation
from resnet50.training.checkpoint import load_model
from resnet50.training.checkpoint_folders import checkpoint_path, list_checkpoints
from resnet50.training.description import CheckpointError, describe_model
from resnet50.training.devices.selection import prepare_device
from resnet50.training.evaluation import Accuracy, Evaluator
from resnet50.training.update.step import create_model

_POLL_SECONDS = 1.0

# The epoch of imported weights in evaluation.csv: the one before epoch 0.
IMPORTED = range(-1, 0)


class EvaluationStatus(NamedTuple):
    """How far the evaluation of one checkpoint is, in images."""

    num_done: int
    num_images: int


class EvaluatedEpoch(NamedTuple):
    """The accuracy of one checkpoint."""

    epoch: int
    num_crops: int  # per image
    weights: str  # one of tables.WEIGHTS
    accuracy: Accuracy

    def row(self) -> dict:
        """The row in evaluation.csv."""
        return {
            "epoch": self.epoch,
            "crops": self.num_crops,
            "weights": self.weights,
            "top1": f"{self.accuracy.top1:.6f}",
            "top5": f"{self.accuracy.top5:.6f}",
            "loss": f"{self.accuracy.loss:.6g}",
            "num_images": self.accuracy.num_images,
        }

    def line(self) -> str:
        """The result in one line for the user."""
        name = f"epoch {self.epoch}"
        if self.epoch in IMPORTED:
            name = "imported weights"
        return (
            f"{name}: top-1 {self.accuracy.top1:.2%}, top-5 {self.accuracy.top5:.2%} "
            f"({self.accuracy.num_images:,} images, {self.num_crops} "
            f"{'crop' if self.num_crops == 1 else 'crops'}, {self.weights} weights)"
        )


def find_checkpoint(
    run_folder: Path, epoch: int, *, wait: bool, observer: Observer
) -> Path | None:
    """Finds the checkpoint after an epoch.

    Args:
        run_folder: The run's folder.
        epoch: The epoch.
        wait: Whether to wait for it.
        observer: Gets a line if there is something to wait for.

    Returns:
        Its folder; None if it is not there and, with wait, will not come: if a later
        one is there, it was deleted (keep_checkpoints).
    """
    position = Position(epoch + 1, 0)
    path = checkpoint_path(run_folder, position)
    if wait and not path.exists():
        observer.notify(f"{path}: waiting for it")
    while not path.exists():
        found = list_checkpoints(run_folder)
        if not wait or (found and found[-1].position > position):
            return None
        time.sleep(_POLL_SECONDS)
    return path


def _require_imported(run_folder: Path) -> None:
    path = checkpoint_path(run_folder, Position(0, 0))
    if not path.exists():
        raise CheckpointError(
            f"{path}: no imported weights (`python -m resnet50 weights import` puts "
            "them there, a training's first checkpoint replaces them)"
        )


def evaluate_run(
    config: Config,
    run_folder: Path,
    epochs: range,
    datasets: tuple[Dataset, Dataset],
    observer: Observer,
    *,
    num_crops: int,
    weights: str | None,
    wait: bool,
) -> Iterator[EvaluatedEpoch]:
    """Evaluates checkpoints one after another; each has its row when it is yielded.

    Args:
        config: config.txt.
        run_folder: The run's folder.
        epochs: The epochs whose checkpoints are evaluated, or IMPORTED.
        datasets: The training images, which define the classes, and the validation
            images.
        observer: Is shown an EvaluationStatus after each batch.
        num_crops: Number of crops per image, 1 or 10.
        weights: One of tables.WEIGHTS; None for the averaged ones if there are any.
        wait: Whether to wait for checkpoints.

    Raises:
        CheckpointError: A checkpoint is damaged or belongs to another network; or, at
            the end, one was missing.
    """
    training_set, validation_set = datasets
    if epochs == IMPORTED:
        _require_imported(run_folder)
    prepare_device(deterministic=False, notify=observer.notify)
    model = create_model(training_set.num_classes, config.model)
    evaluator = Evaluator.from_config(model, config, num_crops)
    num_missing = 0
    for epoch in epochs:
        path = find_checkpoint(run_folder, epoch, wait=wait, observer=observer)
        if path is None:
            observer.notify(
                f"{run_folder}: no checkpoint after epoch {epoch}; passed over"
            )
            num_missing += 1
            continue
        description = describe_model(config, training_set)
        kind = load_model(model, path, description, weights=weights)
        accuracy = evaluator.evaluate(
            validation_set,
            lambda num_done: observer.show(
                EvaluationStatus(num_done, validation_set.num_images)
            ),
        )
        result = EvaluatedEpoch(epoch, num_crops, kind, accuracy)
        record_evaluation(run_folder / EVALUATION_FILE, result.row())
        yield result
    if num_missing:
        raise CheckpointError(
            f"{run_folder}: {num_missing} of the epochs {epochs.start} to "
            f"{epochs.stop - 1} have no checkpoint (--wait waits for those to come)"
        )
