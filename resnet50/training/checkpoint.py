"""Checkpoints: everything a resumed run needs, in a run's folder, whole or not at all.

    saved_models/RUN/3/         after epoch 3
    saved_models/RUN/4_00120/   inside epoch 4; batch 120 is the next
    saved_models/RUN/0_00000/   before the first batch: imported weights
        variables.index, variables.data-...   written by tf.train.Checkpoint: weights,
                                              moving statistics, momentum, totals, the
                                              average of the weights, the loss scale,
                                              accumulated gradients
        state.json                            position, what was being trained, and
                                              the SHA-256 of the other files

A checkpoint is written into a temporary folder, flushed to the disk and renamed; to be
deleted it is renamed first. Checkpoints inside an epoch are deleted once a later
checkpoint is there.
"""

import hashlib
import json
import re
import shutil
import uuid
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from resnet50.atomic_io import fsync
from resnet50.errors import UserError
from resnet50.handoff.progress import Position
from resnet50.network.model import ResNet50
from resnet50.reports.tables import EVALUATION_FILE, best_epochs
from resnet50.training.update.step import Training

_NAME = re.compile(r"([0-9]+)(?:_([0-9]+))?")
_TEMPORARY_PREFIX = ".writing-"
_VARIABLES = "variables"  # prefix of the files that tf.train.Checkpoint writes

# What may change between two epochs; the last two change which variables there are.
_BETWEEN_EPOCHS = ("batches_per_epoch", "precision", "accumulate_batches")


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or of another training."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint's files are not what was written."""


class SaveError(UserError):
    """A checkpoint cannot be written; those of other positions are as they were."""


class Checkpoint(NamedTuple):
    """A checkpoint's folder, and the batch that comes next after it."""

    path: Path
    position: Position

    @property
    def is_after_epoch(self) -> bool:
        """Whether it was saved between two epochs."""
        return "_" not in self.path.name


def checkpoint_path(run_folder: Path, position: Position) -> Path:
    """The folder of the checkpoint before the batch of some position."""
    epoch, batch_index = position
    if batch_index or not epoch:
        return run_folder / f"{epoch}_{batch_index:05d}"
    return run_folder / str(epoch - 1)


def list_checkpoints(run_folder: Path) -> list[Checkpoint]:
    """All checkpoints of a run, oldest first."""
    found = []
    for path in run_folder.iterdir() if run_folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and path.is_dir():
            epoch, batch_index = int(match[1]), match[2]
            position = (
                Position(epoch + 1, 0)
                if batch_index is None
                else Position(epoch, int(batch_index))
            )
            found.append(Checkpoint(path, position))
    return sorted(found, key=lambda checkpoint: checkpoint.position)


def save(
    training: Training, run_folder: Path, position: Position, description: dict
) -> Path:
    """Saves a checkpoint, and deletes those inside an epoch that came before it.

    Args:
        training: What to save.
        run_folder: Created if missing.
        position: Of the next batch.
        description: What makes it this training and no other: num_classes, variant,
            normalization, seed, batches_per_epoch, ... See ``resume.describe``.

    Returns:
        The checkpoint's folder.

    Raises:
        SaveError: The disk is full or broken. The checkpoints of other positions are as
            they were. Where only the last step fails, which makes the new name last,
            the new checkpoint is there as well. One of this position that was there
            before may be gone; to save again makes it anew.
    """
    path = checkpoint_path(run_folder, position)
    temporary = run_folder / f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        tf.train.Checkpoint(training=training).write(str(temporary / _VARIABLES))
        state = {
            "epoch": position.epoch,
            "batch": position.batch_index,
            "training": description,
            "sha256": {file.name: _sha256(file) for file in temporary.iterdir()},
        }
        (temporary / "state.json").write_text(json.dumps(state, indent=2) + "\n")
        for file in temporary.iterdir():
            fsync(file)
        fsync(temporary)
        if path.exists():  # Saved before, with its name perhaps not yet on the disk.
            _delete(path)
        temporary.rename(path)
        fsync(run_folder)
    except (OSError, tf.errors.OpError) as error:
        raise SaveError(f"{path}: {error}") from None
    finally:
        # Gone by now, unless something went wrong.
        shutil.rmtree(temporary, ignore_errors=True)
    for checkpoint in list_checkpoints(run_folder):
        if not checkpoint.is_after_epoch and checkpoint.position < position:
            _delete(checkpoint.path)
    return path


def _delete(path: Path) -> None:
    # Renamed first: killed half way, it must not look like a checkpoint.
    doomed = path.with_name(f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def prune(run_folder: Path, keep_checkpoints: int) -> None:
    """Deletes old per-epoch checkpoints.

    Args:
        run_folder: Of the run.
        keep_checkpoints: How many of the newest stay; 0 for all. The one with the
            highest top-1 in evaluation.csv, for each number of crops, stays as well.
    """
    if not keep_checkpoints:
        return
    best = best_epochs(run_folder / EVALUATION_FILE)
    after_epochs = [c for c in list_checkpoints(run_folder) if c.is_after_epoch]
    for checkpoint in after_epochs[:-keep_checkpoints]:
        if checkpoint.position.epoch - 1 not in best:
            _delete(checkpoint.path)


def checkpoint_bytes(training: Training) -> int:
    """How much of a disk one checkpoint takes, to about a thousandth."""
    return sum(v.dtype.size * v.shape.num_elements() for v in training.variables)


def remove_unfinished(run_folder: Path) -> None:
    """Deletes what a killed trainer was writing. For the only trainer of a run."""
    for path in run_folder.glob(f"{_TEMPORARY_PREFIX}*"):
        shutil.rmtree(path)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def read_description(path: Path) -> dict:
    """What a checkpoint was trained on, once each of its files is proven whole.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    if not path.is_dir():
        raise CheckpointError(
            f"{path}: no such checkpoint (train the epoch before, or use --resume for "
            "the newest one)"
        )
    try:
        state = json.loads((path / "state.json").read_bytes())
        checksums, description = dict(state["sha256"]), dict(state["training"])
        damaged = [
            name for name in checksums if _sha256(path / name) != checksums[name]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"{path}: is damaged: {error!r}") from None
    if damaged:
        raise DamagedCheckpointError(
            f"{path}: is damaged: {', '.join(sorted(damaged))} does not have the "
            "checksum in state.json (use an older checkpoint)"
        )
    return description


def _require_equal(path: Path, theirs: dict, ours: dict, keys) -> None:
    for key in keys:
        # The words are for people. The names are not in the oldest checkpoints.
        if key == "class_words" or (key == "class_names" and key not in theirs):
            continue
        if key == "class_names":
            _require_same_classes(path, theirs[key], ours[key])
        elif theirs.get(key) != ours[key]:
            remedy = (
                "restore the list of training images as it was"
                if key == "dataset_fingerprint"
                else "change that back"
            )
            raise CheckpointError(
                f"{path}: was trained with {key} = {theirs.get(key)}, here it is "
                f"{ours[key]} ({remedy}, or use another --run_folder)"
            )


def _require_same_classes(path: Path, theirs: list[str], ours: list[str]) -> None:
    """Compares classes of which there are as many in one list as in the other."""
    for label, (there, here) in enumerate(zip(theirs, ours)):
        # Classes of a list file have only their number for a name.
        if there != here and str(label) not in (there, here):
            raise CheckpointError(
                f"{path}: its class {label} is {there}, here it is {here} (are "
                "[dataset]'s images those that it was trained on?)"
            )


def load(training: Training, checkpoint: Checkpoint, description: dict) -> None:
    """Restores everything from a checkpoint.

    Args:
        training: Overwritten.
        checkpoint: Which one.
        description: Of the training here; the checkpoint's must agree. Between two
            epochs another batch size, and so another batches_per_epoch, will do, and
            another precision or accumulate_batches.

    Raises:
        CheckpointError: It is missing, damaged, or of another training.
    """
    theirs = read_description(checkpoint.path)
    free = () if checkpoint.position.batch_index else _BETWEEN_EPOCHS
    keys = [key for key in description if key not in free]
    _require_equal(checkpoint.path, theirs, description, keys)
    variables = str(checkpoint.path / _VARIABLES)
    if has_average(checkpoint.path) != (training.average is not None):
        has, remedy = ("no", "to 0") if training.average else ("an", "above 0")
        raise CheckpointError(
            f"{checkpoint.path}: holds {has} average of the weights (set [train] "
            f"weight_average_decay {remedy}, or use another --run_folder)"
        )
    if all(theirs.get(key) == description.get(key) for key in _BETWEEN_EPOCHS[1:]):
        tf.train.Checkpoint(training=training).read(variables).assert_consumed()
    else:
        # After an epoch no gradients are pending, and a loss scale can start anew.
        status = tf.train.Checkpoint(training=training.transferable).read(variables)
        status.assert_existing_objects_matched().expect_partial()


def has_average(path: Path) -> bool:
    """Whether a checkpoint, a whole one, holds an average of the weights."""
    names = (name for name, _ in tf.train.list_variables(str(path / _VARIABLES)))
    return any(name.startswith("training/average/") for name in names)


def load_model(
    model: ResNet50, path: Path, description: dict, *, weights: str | None = "trained"
) -> str:
    """Restores only the network's weights and moving statistics.

    Args:
        model: Overwritten.
        path: The checkpoint's folder.
        description: What the network's variables depend on; the checkpoint's must
            agree.
        weights: One of tables.WEIGHTS; None for the average where there is one.

    Returns:
        Which of them they are.

    Raises:
        CheckpointError: It is missing, damaged, of another network, or holds no average
            although that is asked for.
    """
    _require_equal(path, read_description(path), description, description)
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
    reader = tf.train.Checkpoint(training=holder)
    status = reader.read(str(path / _VARIABLES))
    status.assert_existing_objects_matched().expect_partial()
    return weights


def set_aside(run_folder: Path, checkpoints: list[Checkpoint]) -> Path:
    """Moves checkpoints into a new folder superseded-N of the run, and returns it."""
    number = 1
    while (run_folder / f"superseded-{number}").exists():
        number += 1
    folder = run_folder / f"superseded-{number}"
    folder.mkdir()
    for checkpoint in checkpoints:
        checkpoint.path.rename(folder / checkpoint.path.name)
    return folder
