"""Evaluates the checkpoints of a run, and writes evaluation.csv and predictions.csv."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.handoff import locks
from resnet50.handoff.progress import Position
from resnet50.network.model import ResNet50
from resnet50.observer import Observer
from resnet50.reports.classes.predictions import (
    IMPORTED_EPOCH,
    Evaluated,
    write_predictions,
)
from resnet50.reports.tables import (
    EVALUATION_FILE,
    TableError,
    early_stop,
    record_evaluation,
)
from resnet50.training.checkpoint import load_model
from resnet50.training.checkpoint_folders import checkpoint_path, list_checkpoints
from resnet50.training.description import CheckpointError, describe_model
from resnet50.training.devices.selection import prepare_device
from resnet50.training.evaluation import Accuracy, Evaluator

_POLL_SECONDS = 1.0

IMPORTED = range(IMPORTED_EPOCH, IMPORTED_EPOCH + 1)


class EvaluationRequest(NamedTuple):
    """Which checkpoints to evaluate, and how."""

    run_folder: Path
    epochs: range  # or IMPORTED
    num_crops: int  # per image, 1 or 10
    weights: str | None  # one of tables.WEIGHTS; None: averaged if there are any
    is_waiting: bool  # whether to wait for checkpoints that do not exist yet
    keeps_predictions: bool  # those of each epoch, not only of the last one


class CheckpointAccuracy(NamedTuple):
    """The accuracy of the checkpoint after an epoch."""

    evaluated: Evaluated
    accuracy: Accuracy

    def row(self) -> dict:
        """The row in evaluation.csv."""
        accuracy = self.accuracy
        return {
            **self.evaluated._asdict(),
            "top1": f"{accuracy.top1:.6f}",
            "top5": f"{accuracy.top5:.6f}",
            "loss": f"{accuracy.loss:.6g}",
            "num_images": accuracy.num_images,
        }

    def line(self) -> str:
        """The result in one line for the user."""
        accuracy, (epoch, crops, weights) = self.accuracy, self.evaluated
        what = "imported weights" if epoch in IMPORTED else f"epoch {epoch}"
        return (
            f"{what}: top-1 {accuracy.top1:.2%}, top-5 {accuracy.top5:.2%} "
            f"({accuracy.num_images:,} images, {crops} "
            f"{'crop' if crops == 1 else 'crops'}, {weights} weights)"
        )


def _is_over(run_folder: Path, position: Position, patience: int) -> bool:
    """Whether the training has stopped early, before a position."""
    return (
        early_stop(run_folder / EVALUATION_FILE, patience) is not None
        # Its last checkpoint is there when its lock is free.
        and not locks.is_alive(run_folder, locks.TRAINER)
        and all(c.position < position for c in list_checkpoints(run_folder))
    )


def _find_checkpoint(
    request: EvaluationRequest, epoch: int, patience: int, observer: Observer
) -> Path | None:
    """The checkpoint after an epoch; None if there is none and none to wait for."""
    run_folder, position = request.run_folder, Position(epoch + 1, 0)
    path = checkpoint_path(run_folder, position)
    if request.is_waiting and not path.exists():
        observer.notify(f"{path}: waiting for it")
    while not path.exists():
        # If a later one exists, this one was deleted (keep_checkpoints).
        found = list_checkpoints(run_folder)
        if not request.is_waiting or (found and found[-1].position > position):
            return None
        if _is_over(run_folder, position, patience):
            return None
        time.sleep(_POLL_SECONDS)
    return path


def evaluate_run(
    config: Config,
    training_set: Dataset,
    validation_set: Dataset,
    request: EvaluationRequest,
    observer: Observer,
) -> Iterator[CheckpointAccuracy]:
    """Evaluates checkpoints one after another, and writes their tables.

    Yields each when its row in evaluation.csv is written, and its predictions are not
    yet. The training set defines the classes. The observer gets the number of evaluated
    images after each batch.

    Raises:
        CheckpointError: A checkpoint is damaged or belongs to another network; or, at
            the end, one was missing.
        TableError: evaluation.csv is damaged, or a table cannot be written.
    """
    run_folder, epochs = request.run_folder, request.epochs
    table = run_folder / EVALUATION_FILE
    description = describe_model(config, training_set)
    imported = checkpoint_path(run_folder, Position(0, 0))
    if epochs == IMPORTED and not imported.exists():
        raise CheckpointError(
            f"{imported}: no imported weights (`python -m resnet50 weights import` "
            "puts them there, a training's first checkpoint replaces them)"
        )
    prepare_device(deterministic=False, notify=observer.notify)
    model = ResNet50(training_set.num_classes, config.model)
    evaluator = Evaluator(model, config, request.num_crops)
    missing: list[int] = []
    patience = config.train.patience if request.is_waiting else 0
    for epoch in epochs:
        path, weights = _find_checkpoint(request, epoch, patience, observer), None
        if path is None and _is_over(run_folder, Position(epoch + 1, 0), patience):
            observer.notify(f"{run_folder}: the training has stopped early")
            break
        try:
            if path is not None:
                weights = load_model(model, path, description, weights=request.weights)
        except (CheckpointError, tf.errors.OpError):
            if path is None or path.exists():
                raise  # Otherwise the training has just deleted it (keep_checkpoints).
        if weights is None:
            missing.append(epoch)
            continue
        accuracy = evaluator.evaluate(validation_set, observer.show)
        evaluated = Evaluated(epoch, request.num_crops, weights)
        result = CheckpointAccuracy(evaluated, accuracy)
        try:
            record_evaluation(table, result.row())
        except OSError as error:
            raise TableError(
                f"{table}: cannot be written: {error.strerror} (the result is not in "
                f"it: {result.line()})"
            ) from None
        yield result
        write_predictions(
            run_folder,
            evaluated,
            validation_set,
            training_set.class_words,
            accuracy.outcomes,
            is_kept=request.keeps_predictions,
        )
    if missing:
        raise CheckpointError(
            f"{run_folder}: {len(missing)} of the epochs {epochs.start} to "
            f"{epochs.stop - 1} have no checkpoint: {', '.join(map(str, missing))} "
            "(--wait waits for those to come)"
        )
