"""Batch positions, and training_progress.txt, which holds the trainer's.

A batch is addressed by (epoch, batch_index), and inside the code by one integer,
``step = epoch * batches_per_epoch + batch_index``.

training_progress.txt has two lines: the epoch and the batch index of the next batch
that the trainer needs. After the last batch of the last epoch these are ``epoch_end``
and 0. The file is replaced as a whole.
"""

import re
from pathlib import Path
from typing import NamedTuple

from resnet50.atomic_io import atomic_file
from resnet50.errors import UserError
from resnet50.input_file import open_regular

FILE_NAME = "training_progress.txt"


class ProgressError(UserError):
    """training_progress.txt does not exist, or its content is wrong."""


class Position(NamedTuple):
    """Address of a batch."""

    epoch: int
    batch_index: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, batch {self.batch_index}"


def to_step(position: Position, batches_per_epoch: int) -> int:
    """The step of a position."""
    return position.epoch * batches_per_epoch + position.batch_index


def to_position(step: int, batches_per_epoch: int) -> Position:
    """The position of a step."""
    return Position(*divmod(step, batches_per_epoch))


class StepRange(NamedTuple):
    """The steps of a training, and how many of them make an epoch."""

    start: int
    end: int  # the step after the last
    batches_per_epoch: int

    @classmethod
    def between(
        cls, start: Position, end: Position, batches_per_epoch: int
    ) -> "StepRange":
        """The steps from one position to the one before another."""
        first, last = (to_step(p, batches_per_epoch) for p in (start, end))
        return cls(first, last, batches_per_epoch)

    def position(self, step: int) -> Position:
        """The position of a step."""
        return to_position(step, self.batches_per_epoch)

    def step(self, position: Position) -> int:
        """The step of a position."""
        return to_step(position, self.batches_per_epoch)


def _content(position: Position) -> bytes:
    return f"{position.epoch}\n{position.batch_index}\n".encode("ascii")


def write_progress(folder: Path, position: Position) -> None:
    """Replaces training_progress.txt in a buffer folder.

    Not durable, because it is written at each step. A reader that finds it empty after
    a power cut gets the position from elsewhere.
    """
    content = _content(position)
    path = folder / FILE_NAME
    try:
        with atomic_file(path, durable=False, whole=False) as file:
            file.write(content)
    except OSError as error:
        if not path.exists():
            raise
        # A full disk has no room for a second file. But without progress the
        # preprocessor never deletes a batch, and the disk stays full.
        with path.open("r+b", buffering=0) as file:
            if file.write(content) != len(content):
                raise error from None
            file.truncate()


def restore_progress(folder: Path, position: Position) -> None:
    """Writes training_progress.txt again unless it says this position."""
    path = folder / FILE_NAME
    if not path.exists() or path.read_bytes() != _content(position):
        write_progress(folder, position)


def read_position(folder: Path) -> Position:
    """Reads the position of the next batch that the trainer needs.

    Raises:
        ProgressError: The file does not exist or cannot be read, or does not hold two
            whole numbers.
    """
    path = folder / FILE_NAME
    try:
        with open_regular(path) as file:
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
    return Position(int(match[1]), int(match[2]))


def read_progress(folder: Path, batches_per_epoch: int, end_step: int) -> int:
    """Reads the step of the next batch that the trainer needs, from 0 to end_step.

    ``end_step`` is the step after the last one of the training.

    Raises:
        ProgressError: The position cannot be read, or is not one of the training.
    """
    position = read_position(folder)
    step = to_step(position, batches_per_epoch)
    if position.batch_index >= batches_per_epoch or step > end_step:
        end = to_position(end_step, batches_per_epoch)
        raise ProgressError(
            f"{folder / FILE_NAME}: says {position}, outside this training "
            f"({batches_per_epoch} batches an epoch, end at {end}; is --epoch_end the "
            "same in both terminals?)"
        )
    return step
