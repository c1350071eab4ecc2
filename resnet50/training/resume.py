"""Chooses the checkpoint that a program starts from."""

from collections.abc import Callable
from pathlib import Path

from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.handoff.progress import Position
from resnet50.network.model import ResNet50
from resnet50.training import checkpoint
from resnet50.training import checkpoint_folders as folders
from resnet50.training.checkpoint import DamagedCheckpointError
from resnet50.training.checkpoint_folders import Checkpoint, list_checkpoints
from resnet50.training.description import CheckpointError, describe_model
from resnet50.training.update.step import Training


def choose_checkpoint(run_folder: Path, epoch: int | None) -> Path:
    """Returns the checkpoint after an epoch, or with None the newest one.

    Raises:
        CheckpointError: The run has no checkpoint.
    """
    if epoch is not None:
        return folders.checkpoint_path(run_folder, Position(epoch + 1, 0))
    checkpoints = list_checkpoints(run_folder)
    if not checkpoints:
        raise CheckpointError(f"{run_folder}: holds no checkpoint (train it first)")
    return checkpoints[-1].path


def load_network(
    config: Config, dataset: Dataset, run_folder: Path, epoch: int | None
) -> tuple[ResNet50, Path]:
    """Loads the network of a run, for programs that do not train it.

    Returns:
        The network, and its checkpoint; see ``choose_checkpoint``.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or of another network.
    """
    path = choose_checkpoint(run_folder, epoch)
    model = ResNet50(dataset.num_classes, config.model)
    checkpoint.load_model(model, path, describe_model(config, dataset), weights=None)
    return model, path


def _candidates(run_folder: Path, epoch_start: int | None) -> list[Checkpoint]:
    """The checkpoints to try, best first; none for a new training."""
    checkpoints = list_checkpoints(run_folder)
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
    return [Checkpoint(folders.checkpoint_path(run_folder, position), position)]


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
    """Restores the checkpoint that a training starts from.

    Args:
        training: Overwritten, unless the training is new.
        run_folder: The run's folder; this process is its only trainer.
        description: See ``description.describe``.
        epoch_start: 0 for a new training, N for the checkpoint after epoch N-1, None
            for the newest undamaged one. Checkpoints after it are set aside.
        notify: Takes a line for the user.

    Returns:
        The position of the next batch.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or of another training; or
            a new training would overwrite one.
    """
    folders.remove_unfinished(run_folder)
    candidates = _candidates(run_folder, epoch_start)
    if not candidates:
        return Position(0, 0)
    found = _load_first_whole(training, candidates, description, notify)
    notify(f"{found.path}: resumed; next is {found.position}")
    later = [
        other
        for other in list_checkpoints(run_folder)
        if other.position > found.position
    ]
    if later:
        folder = folders.set_aside(run_folder, later)
        notify(f"{folder}: holds the {len(later)} later checkpoints now")
    return found.position
