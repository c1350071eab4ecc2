"""From which checkpoint a training starts, and what must agree with it."""

from collections.abc import Callable
from pathlib import Path

from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.handoff.progress import Position
from resnet50.network.model import ResNet50
from resnet50.training import checkpoint
from resnet50.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    DamagedCheckpointError,
)
from resnet50.training.update.step import Training


def describe_model(config: Config, dataset: Dataset) -> dict:
    """What the network's variables depend on, and what its outputs mean."""
    return {
        "num_classes": dataset.num_classes,
        "class_names": list(dataset.class_names),
        "variant": config.model.variant,
        "normalization": config.model.normalization,
    }


def describe(config: Config, dataset: Dataset, batches_per_epoch: int) -> dict:
    """What makes it this training and no other; goes into each checkpoint.

    With the classes' names and words, a checkpoint can be used without its images.
    """
    return {
        **describe_model(config, dataset),
        "class_words": list(dataset.class_words),
        "dataset_fingerprint": dataset.fingerprint,
        "seed": config.train.seed,
        "batches_per_epoch": batches_per_epoch,
        "precision": config.train.precision,
        "accumulate_batches": config.train.accumulate_batches,
    }


def choose_checkpoint(run_folder: Path, epoch: int | None) -> Path:
    """The folder of the checkpoint after an epoch; None stands for the newest one.

    Raises:
        CheckpointError: The run has none.
    """
    if epoch is not None:
        return checkpoint.checkpoint_path(run_folder, Position(epoch + 1, 0))
    checkpoints = checkpoint.list_checkpoints(run_folder)
    if not checkpoints:
        raise CheckpointError(f"{run_folder}: holds no checkpoint (train it first)")
    return checkpoints[-1].path


def load_network(
    config: Config, dataset: Dataset, run_folder: Path, epoch: int | None
) -> tuple[ResNet50, Path]:
    """The network of a run, for programs that do not train it.

    Args:
        config: What [model] says must agree with the checkpoint.
        dataset: The training images.
        run_folder: Of the run.
        epoch: After which; None for the newest checkpoint.

    Returns:
        The network, and the checkpoint's folder.

    Raises:
        CheckpointError: There is none, it is damaged or of another network.
    """
    path = choose_checkpoint(run_folder, epoch)
    model = ResNet50(dataset.num_classes, config.model)
    checkpoint.load_model(model, path, describe_model(config, dataset), weights=None)
    return model, path


def _candidates(run_folder: Path, epoch_start: int | None) -> list[Checkpoint]:
    """The checkpoints to start from, the first choice first; none: a new training."""
    checkpoints = checkpoint.list_checkpoints(run_folder)
    if epoch_start is None:
        if not checkpoints:
            raise CheckpointError(
                f"{run_folder}: holds no checkpoint to resume from (start without "
                "--resume)"
            )
        return checkpoints[::-1]
    if epoch_start == 0:
        if checkpoints:
            raise CheckpointError(
                f"{run_folder}: already holds a training, up to "
                f"{checkpoints[-1].position} (go on with --resume, or start another "
                "--run_folder)"
            )
        return []
    position = Position(epoch_start, 0)
    return [Checkpoint(checkpoint.checkpoint_path(run_folder, position), position)]


def _load_first_whole(
    training: Training,
    candidates: list[Checkpoint],
    description: dict,
    notify: Callable[[str], None],
) -> Checkpoint:
    for candidate in candidates:
        try:
            checkpoint.load(training, candidate, description)
            return candidate
        except DamagedCheckpointError as error:
            if candidate == candidates[-1]:
                raise
            notify(f"{error}; trying the one before it")
    raise AssertionError("no candidates")


def restore(
    training: Training,
    run_folder: Path,
    description: dict,
    *,
    epoch_start: int | None,
    notify: Callable[[str], None],
) -> Position:
    """Restores the checkpoint that a training shall start from.

    Args:
        training: Overwritten, unless the training is new.
        run_folder: Of the run; this process is its only trainer.
        description: From ``describe``.
        epoch_start: 0 for a new training, N for the checkpoint after epoch N-1, None
            for the newest whole one. Those after the chosen one are set aside.
        notify: Takes a line for the user.

    Returns:
        The position of the next batch.

    Raises:
        CheckpointError: There is none, it is damaged or of another training; or a new
            training would overwrite one.
    """
    checkpoint.remove_unfinished(run_folder)
    candidates = _candidates(run_folder, epoch_start)
    if not candidates:
        return Position(0, 0)
    found = _load_first_whole(training, candidates, description, notify)
    notify(f"{found.path}: resumed; next is {found.position}")
    later = [
        other
        for other in checkpoint.list_checkpoints(run_folder)
        if other.position > found.position
    ]
    if later:
        folder = checkpoint.set_aside(run_folder, later)
        notify(f"{folder}: holds the {len(later)} later checkpoints now")
    return found.position
