"""Saves and loads checkpoints: everything that a resumed run needs.

A checkpoint is a folder with these files; ``checkpoint_folders`` has its names.

    variables.index, variables.data-...   written by tf.train.Checkpoint: weights,
                                          moving statistics, momentum, totals, averaged
                                          weights, loss scale, accumulated gradients
    state.json                            the position, the training's description, and
                                          the SHA-256 of the other files

It is written into a temporary folder, flushed and renamed, so it appears whole or not
at all.
"""

import errno
import hashlib
import json
import re
import shutil
from pathlib import Path

import tensorflow as tf

from resnet50.atomic_io import create_folder, fsync, fsync_tree
from resnet50.errors import UserError
from resnet50.handoff.progress import Position
from resnet50.input_file import open_regular
from resnet50.network.model import ResNet50
from resnet50.training import checkpoint_folders as folders
from resnet50.training.description import (
    CheckpointError,
    MissingCheckpointError,
    has_same_variables,
    require_agreement,
    require_lists_of_names,
)
from resnet50.training.update.step import Training

_VARIABLES = "variables"  # prefix of the files that tf.train.Checkpoint writes

# What a missing state.json, or one with any content, may raise.
_NO_STATE = (
    *(FileNotFoundError, ValueError, LookupError, TypeError, AttributeError),
    RecursionError,
)

# The errors of open_regular for what is no file.
_NO_FILE = errno.EISDIR, errno.EINVAL


class DamagedCheckpointError(CheckpointError):
    """A checkpoint's files are not as they were written."""


class SaveError(UserError):
    """A checkpoint cannot be written; those of other positions are unchanged."""


def save(
    training: Training, run_folder: Path, position: Position, description: dict
) -> Path:
    """Saves a checkpoint before the batch of a position, and returns its folder.

    An intact one of this position stays as it is: of a run there is only one.

    Raises:
        SaveError: The disk is full or broken. The checkpoints that were there are
            unchanged. If only the last flush failed, which makes the new name durable,
            the new checkpoint exists.
    """
    path = folders.checkpoint_path(run_folder, position)
    temporary = folders.temporary_folder(run_folder)
    try:
        if path.exists() and _is_intact(path):  # But its name may not be durable.
            fsync(run_folder)
            return path
        create_folder(run_folder)
        temporary.mkdir()
        tf.train.Checkpoint(training=training).write(str(temporary / _VARIABLES))
        state = {
            "epoch": position.epoch,
            "batch": position.batch_index,
            "training": description,
            "sha256": {file.name: _sha256(file) for file in temporary.iterdir()},
        }
        state["state_sha256"] = _state_sha256(state)
        (temporary / "state.json").write_text(json.dumps(state, indent=2) + "\n")
        fsync_tree(temporary)
        if path.exists():  # It is damaged.
            folders.delete_checkpoint(path)
        temporary.rename(path)
        fsync(run_folder)
    except (OSError, CheckpointError) as error:
        raise SaveError(f"{path}: {error}") from None
    except tf.errors.OpError as error:
        raise SaveError(f"{path}: {_reason(error)}") from None
    finally:
        # It exists only if something went wrong.
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _is_intact(path: Path) -> bool:
    try:
        read_description(path)
    except DamagedCheckpointError:
        return False
    return True


def checkpoint_bytes(training: Training) -> int:
    """How many bytes a checkpoint takes on disk, to about a thousandth."""
    return sum(v.dtype.size * v.shape.num_elements() for v in training.variables)


def _reason(error: tf.errors.OpError) -> str:
    """An error's text, without TensorFlow's names for the operation."""
    return re.sub(r"\{\{.*?\}\} *| *\[Op:.*", "", error.message)


def _unreadable(path: Path, reason: str | None, checkpoint: Path) -> CheckpointError:
    """The error of a checkpoint that may be sound."""
    return CheckpointError(
        f"{path}: cannot be read: {reason} (try again; if it stays so, move "
        f"{checkpoint} away, and --resume takes the one before)"
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _state_sha256(state: dict) -> str:
    """The checksum of state.json's entries, in any order."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def read_description(path: Path) -> dict:
    """Verifies a checkpoint's checksums and returns its description.

    Raises:
        CheckpointError: It is missing or damaged, or cannot be read now.
    """
    if not path.is_dir():
        raise MissingCheckpointError(
            f"{path}: no such checkpoint (train the epoch before, or use --resume for "
            "the newest one)"
        )
    try:
        state = json.loads((path / "state.json").read_bytes())
        expected = state.pop("state_sha256", None)  # absent in old checkpoints
        checksums, description = dict(state["sha256"]), dict(state["training"])
        require_lists_of_names(description)
        if any(name != Path(name).name for name in checksums):
            raise ValueError("a checksum of a file in another folder")
        damaged = sorted(
            name for name, sha256 in checksums.items() if _sha256(path / name) != sha256
        )
        if expected is not None and expected != _state_sha256(state):
            damaged.append("state.json")
    except _NO_STATE as error:
        raise DamagedCheckpointError(f"{path}: is damaged: {error!r}") from None
    except OSError as error:
        if error.errno in _NO_FILE:
            raise DamagedCheckpointError(f"{path}: is damaged: {error!r}") from None
        raise _unreadable(error.filename or path, error.strerror, path) from None
    if damaged:
        raise DamagedCheckpointError(
            f"{path}: is damaged: {', '.join(damaged)} does not have the checksum in "
            "state.json (use an older checkpoint)"
        )
    return description


def load(training: Training, checkpoint: folders.Checkpoint, description: dict) -> bool:
    """Restores a training from a checkpoint, whose description must agree.

    Returns:
        Whether the optimizer's variables were restored; otherwise they are as they
        were.

    Raises:
        CheckpointError: It is missing, damaged, or belongs to another training.
    """
    path = checkpoint.path
    theirs = read_description(path)
    is_inside_epoch = checkpoint.position.batch_index > 0
    require_agreement(path, theirs, description, is_inside_epoch=is_inside_epoch)
    if has_average(path) != (training.average is not None):
        has, remedy = ("no", "to 0") if training.average else ("an", "above 0")
        raise CheckpointError(
            f"{path}: holds {has} average of the weights (set [train] "
            f"weight_average_decay {remedy}, or use another --run_folder)"
        )
    if has_same_variables(theirs, description):
        _read_variables(path, tf.train.Checkpoint(training=training), is_whole=True)
        return True
    # Between epochs no gradients are pending, and a new loss scale may start.
    has_same = has_same_variables(theirs, description, of_optimizer=True)
    parts = training.transferable(has_same_optimizer=has_same)
    _read_variables(path, tf.train.Checkpoint(training=parts))
    return has_same


def _read_variables(
    path: Path, holder: tf.train.Checkpoint, *, is_whole: bool = False
) -> None:
    """Restores all variables of a holder; a whole one has all of the checkpoint's."""
    try:
        status = holder.read(str(path / _VARIABLES))
        if is_whole:
            status.assert_consumed()
        else:
            status.assert_existing_objects_matched().expect_partial()
    except tf.errors.OpError as error:
        raise _unreadable(path, _reason(error), path) from None
    except (AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: has other variables than the network here (continue it with the "
            f"version of this program that saved it): {reason}"
        ) from None


def has_average(path: Path) -> bool:
    """Whether an undamaged checkpoint holds averaged weights."""
    try:
        names = [name for name, _ in tf.train.list_variables(str(path / _VARIABLES))]
    except tf.errors.OpError as error:
        raise _unreadable(path, _reason(error), path) from None
    return any(name.startswith("training/average/") for name in names)


def load_model(
    model: ResNet50, path: Path, description: dict, *, weights: str | None = None
) -> str:
    """Restores only the network's weights and moving statistics.

    The description, all or a part of one, must agree with the checkpoint's.
    ``weights`` is one of tables.WEIGHTS; None takes the averaged ones if there are any.

    Returns:
        Which of tables.WEIGHTS were restored.

    Raises:
        CheckpointError: It is missing, damaged, belongs to another network, or lacks
            the averaged weights that ``weights`` asks for.
    """
    require_agreement(path, read_description(path), description, is_inside_epoch=False)
    is_there = has_average(path)
    weights = weights or ("averaged" if is_there else "trained")
    holder = tf.train.Checkpoint(model=model)
    if weights == "averaged":
        if not is_there:
            raise CheckpointError(
                f"{path}: holds no average of the weights (it was trained with "
                "weight_average_decay = 0; evaluate the trained ones)"
            )
        holder = tf.train.Checkpoint(average=holder)
    _read_variables(path, tf.train.Checkpoint(training=holder))
    return weights
