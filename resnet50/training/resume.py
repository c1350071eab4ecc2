"""Chooses the checkpoint that a program starts from, and loads it."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset, DatasetError
from resnet50.dataset.listing import open_training_set
from resnet50.handoff.progress import Position
from resnet50.network.model import ResNet50
from resnet50.reports.answers import Classes
from resnet50.training import checkpoint
from resnet50.training import checkpoint_folders as folders
from resnet50.training.checkpoint_folders import Checkpoint, list_checkpoints
from resnet50.training.description import (
    CheckpointError,
    MissingCheckpointError,
    describe_layers,
    describe_model,
)
from resnet50.training.update.step import Training


def choose_checkpoint(run_folder: Path, epoch: int | str | None) -> Path:
    """Returns the checkpoint after an epoch or the BEST one, or with None the newest.

    Raises:
        CheckpointError: The run has no checkpoint, or no evaluated one.
    """
    if epoch is not None:
        next_epoch = folders.resolve_epoch(run_folder, epoch) + 1
        return folders.checkpoint_path(run_folder, Position(next_epoch, 0))
    checkpoints = list_checkpoints(run_folder)
    if not checkpoints:
        raise CheckpointError(f"{run_folder}: holds no checkpoint (train it first)")
    return checkpoints[-1].path


def load_network(
    config: Config, dataset: Dataset, run_folder: Path, epoch: int | str | None
) -> tuple[ResNet50, Path]:
    """Loads the network of the checkpoint that ``choose_checkpoint`` returns.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or of another network.
    """
    path = choose_checkpoint(run_folder, epoch)
    model = ResNet50(dataset.num_classes, config.model)
    checkpoint.load_model(model, path, describe_model(config, dataset))
    return model, path


def _classes_of(path: Path, config: Config) -> Classes:
    """The classes of a checkpoint; those of an old one come from the dataset."""
    description = checkpoint.read_description(path)
    if "class_names" in description:
        return Classes(description["class_names"], description.get("class_words", []))
    try:
        dataset = open_training_set(config.dataset, config.train.buffer_folder)
    except DatasetError as error:
        raise CheckpointError(
            f"{path}: is too old to name its classes, and the training images cannot "
            f"be listed: {error}"
        ) from None
    if dataset.num_classes != description["num_classes"]:
        raise CheckpointError(
            f"{path}: was trained with num_classes = {description['num_classes']}, "
            f"[dataset] in config.txt has {dataset.num_classes}"
        )
    return Classes(list(dataset.class_names), list(dataset.class_words))


def load_classifier(config: Config, path: Path) -> tuple[ResNet50, Classes]:
    """Loads a checkpoint's network and its classes, without the training images.

    Raises:
        CheckpointError: It is missing, damaged, or does not fit [model] in config.txt;
            or it is old and the training images, which then name the classes, do not.
    """
    classes = _classes_of(path, config)
    model = ResNet50(len(classes.names), config.model)
    checkpoint.load_model(model, path, describe_layers(config.model))
    return model, classes


def _candidates(run_folder: Path, epoch_start: int | None) -> list[Checkpoint]:
    """The checkpoints to try, best first; none for a new training."""
    if epoch_start:
        position = Position(epoch_start, 0)
        return [Checkpoint(folders.checkpoint_path(run_folder, position), position)]
    checkpoints = list_checkpoints(run_folder)
    if epoch_start is None and not checkpoints:
        raise MissingCheckpointError(
            f"{run_folder}: holds no checkpoint to resume from (start without --resume)"
        )
    if epoch_start == 0 and checkpoints:
        raise CheckpointError(
            f"{run_folder}: already holds a training, up to {checkpoints[-1].position} "
            "(continue with --resume, or start another --run_folder)"
        )
    return checkpoints[::-1]


def recorded(run_folder: Path, epoch_start: int | None) -> dict:
    """The description in the checkpoint that ``restore`` would load; {} without one.

    Raises:
        CheckpointError: As ``restore``, for a checkpoint that is missing.
    """
    for found in _candidates(run_folder, epoch_start):
        with contextlib.suppress(checkpoint.DamagedCheckpointError):
            return checkpoint.read_description(found.path)
    return {}


def restore(
    training: Training,
    run_folder: Path,
    description: dict,
    *,
    epoch_start: int | None,
    notify: Callable[[str], None],
) -> Position:
    """Restores the checkpoint of a training's start; returns the next batch's position.

    This process is the run's only trainer. ``epoch_start`` is 0 for a new training, N
    for the checkpoint after epoch N-1, or None for the newest undamaged one. Later
    checkpoints and evaluations are set aside.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or of another training; or
            a new training would overwrite one.
    """
    folders.remove_unfinished(run_folder)
    candidates = _candidates(run_folder, epoch_start)
    for found in candidates:
        try:
            is_optimizer_loaded = checkpoint.load(training, found, description)
            break
        except checkpoint.DamagedCheckpointError as error:
            if found == candidates[-1]:
                raise
            notify(f"{error}; trying the one before it")
    else:
        folders.set_aside(run_folder, Position(0, 0), notify)
        return Position(0, 0)
    notify(f"{found.path}: resumed; next is {found.position}")
    if not is_optimizer_loaded:
        notify(
            f"{found.path}: was trained with another [model] trainable; the optimizer "
            "starts anew"
        )
    folders.set_aside(run_folder, found.position, notify)
    return found.position
