"""Batch positions, and training_progress.txt in which the trainer tells its own.

A batch is addressed by (epoch, batch_index), and inside the code by one integer,
``step = epoch * batches_per_epoch + batch_index``.

training_progress.txt has two lines: the epoch, and the batch index, of the next batch
that the trainer needs. After the last batch of the last epoch these are
``epoch_end`` and 0. The file is replaced whole. Its readers say clearly what is wrong
with it and then do not believe it.
"""

import re
from pathlib import Path
from typing import NamedTuple

from resnet50.atomic_io import atomic_file
from resnet50.errors import UserError

FILE_NAME = "training_progress.txt"


class ProgressError(UserError):
    """training_progress.txt is absent, or says nothing that can be believed."""


class Position(NamedTuple):
    """Address of a batch."""

    epoch: int
    batch_index: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, batch {self.batch_index}"


def to_step(position: Position, batches_per_epoch: int) -> int:
    """The one integer that stands for a position."""
    return position.epoch * batches_per_epoch + position.batch_index


def to_position(step: int, batches_per_epoch: int) -> Position:
    """The position that one integer stands for."""
    return Position(*divmod(step, batches_per_epoch))


def _content(position: Position) -> bytes:
    return f"{position.epoch}\n{position.batch_index}\n".encode("ascii")


def write_progress(folder: Path, position: Position) -> None:
    """Replaces training_progress.txt in a buffer folder.

    Not durable: written at each step, and after a power cut a reader that finds it
    empty takes the position from elsewhere.

    Raises:
        OSError: It cannot be written.
    """
    content = _content(position)
    path = folder / FILE_NAME
    try:
        with atomic_file(path, durable=False) as file:
            file.write(content)
    except OSError as error:
        if not path.exists():
            raise
        # A full disk has no room for a second file, but without progress the
        # preprocessor would never delete a batch and the disk would stay full.
        with path.open("r+b", buffering=0) as file:
            if file.write(content) != len(content):
                raise error from None
            file.truncate()


def restore_progress(folder: Path, position: Position) -> None:
    """Writes training_progress.txt again unless it says this position.

    Raises:
        OSError: It cannot be written.
    """
    path = folder / FILE_NAME
    if not path.exists() or path.read_bytes() != _content(position):
        write_progress(folder, position)


def read_progress(folder: Path, batches_per_epoch: int, end_step: int) -> int:
    """Reads the step of the next batch that the trainer needs.

    Args:
        folder: The buffer folder.
        batches_per_epoch: Batches in one epoch.
        end_step: The step after the last one of the training.

    Returns:
        The step, from 0 to end_step inclusive.

    Raises:
        ProgressError: The file is absent, empty, no two whole numbers, or they are no
            position in the training.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            content = file.read(100)
    except FileNotFoundError:
        raise ProgressError(f"{path}: does not exist (train.py writes it)") from None
    except OSError as error:
        raise ProgressError(f"{path}: cannot be read: {error.strerror}") from None
    if not content:
        raise ProgressError(f"{path}: is empty (train.py will replace it)")
    match = re.fullmatch(rb"([0-9]{1,18})\r?\n([0-9]{1,18})\s*", content)
    if match is None:
        raise ProgressError(
            f"{path}: holds {content[:30]!r} (expected two lines, the epoch and the "
            "batch index; train.py will replace it)"
        )
    position = Position(int(match[1]), int(match[2]))
    step = to_step(position, batches_per_epoch)
    if position.batch_index >= batches_per_epoch or step > end_step:
        end = to_position(end_step, batches_per_epoch)
        raise ProgressError(
            f"{path}: says {position}, outside this training ({batches_per_epoch} "
            f"batches an epoch, end at {end}; is --epoch_end the same in both "
            "terminals?)"
        )
    return step
