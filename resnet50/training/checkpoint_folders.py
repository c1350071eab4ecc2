"""The folders of a run's checkpoints: their names, order and deletion.

saved_models/RUN/3/         after epoch 3
saved_models/RUN/4_00120/   inside epoch 4; batch 120 is next
saved_models/RUN/0_00000/   before the first batch: imported weights
saved_models/RUN/.writing-* being written or deleted; no checkpoint
"""

import itertools
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from resnet50.atomic_io import fsync
from resnet50.handoff.progress import Position
from resnet50.installation import typed
from resnet50.reports.tables import (
    BEST,
    EVALUATION_FILE,
    TableError,
    best_epoch,
    best_epochs,
    read_table,
    write_table,
)
from resnet50.training.description import CheckpointError

_NAME = re.compile(r"([0-9]+)(?:_([0-9]+))?")
_TEMPORARY_PREFIX = ".writing-"


class Checkpoint(NamedTuple):
    """A checkpoint's folder, and the position of the batch that follows it."""

    path: Path
    position: Position

    @property
    def is_after_epoch(self) -> bool:
        """Whether it was saved between two epochs."""
        return "_" not in self.path.name


def checkpoint_path(run_folder: Path, position: Position) -> Path:
    """The folder of the checkpoint before the batch of a position."""
    epoch, batch_index = position
    if batch_index or not epoch:
        return run_folder / f"{epoch}_{batch_index:05d}"
    return run_folder / str(epoch - 1)


def list_checkpoints(run_folder: Path) -> list[Checkpoint]:
    """All checkpoints of a run, oldest first; none if there is no folder."""
    found = []
    for path in run_folder.iterdir() if run_folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and path.is_dir():
            epoch, batch_index = int(match[1]), match[2]
            if batch_index is None:
                epoch, batch_index = epoch + 1, 0
            found.append(Checkpoint(path, Position(epoch, int(batch_index))))
    return sorted(found, key=lambda checkpoint: checkpoint.position)


def temporary_folder(run_folder: Path) -> Path:
    """A new name for a folder that does not count as a checkpoint."""
    return run_folder / f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}"


def delete_checkpoint(path: Path) -> None:
    """Renames a checkpoint's folder, so that no half of it counts, and deletes it.

    Raises:
        OSError: It cannot be renamed, and is still there; or its disk is broken.
    """
    doomed = temporary_folder(path.parent)
    path.rename(doomed)
    fsync(path.parent)  # Before the files go: half a checkpoint would be damaged.
    shutil.rmtree(doomed, ignore_errors=True)


def prune(run_folder: Path, keep_checkpoints: int) -> None:
    """Deletes old checkpoints: inside an epoch all but the newest checkpoint.

    Of those after an epoch, it keeps the ``keep_checkpoints`` newest, or all if that is
    0, and for each number of crops the one with the highest top-1 in evaluation.csv.

    Raises:
        OSError: One cannot be deleted.
        TableError: evaluation.csv is damaged.
    """
    checkpoints = list_checkpoints(run_folder)
    old = [c for c in checkpoints[:-1] if not c.is_after_epoch]
    if keep_checkpoints:
        best = best_epochs(run_folder / EVALUATION_FILE)
        after_epochs = [c for c in checkpoints if c.is_after_epoch][:-keep_checkpoints]
        old += [c for c in after_epochs if c.position.epoch - 1 not in best]
    for checkpoint in old:
        delete_checkpoint(checkpoint.path)


def resolve_epoch(run_folder: Path, epoch: int | str) -> int:
    """Returns the epoch with the highest top-1 for BEST, a number as it is.

    Raises:
        CheckpointError: No epoch has been evaluated.
        TableError: evaluation.csv is damaged.
    """
    if epoch != BEST:
        return int(epoch)
    found = best_epoch(run_folder / EVALUATION_FILE)
    if found is None:
        raise CheckpointError(
            f"{run_folder}: no epoch has been evaluated, so none is the best "
            f"(run `{typed('evaluate')}` first)"
        )
    return found


def remove_unfinished(run_folder: Path) -> None:
    """Deletes what a killed trainer left, if possible; only the run's trainer may."""
    for path in run_folder.glob(f"{_TEMPORARY_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def set_aside(
    run_folder: Path, position: Position, notify: Callable[[str], None]
) -> None:
    """Moves what is later than a position into a new folder superseded-N of the run.

    That is checkpoints, and rows of evaluation.csv, which would make another training's
    epoch the best one.
    """
    later = [c for c in list_checkpoints(run_folder) if c.position > position]
    table = run_folder / EVALUATION_FILE
    try:
        rows = read_table(table)
    except TableError as error:
        notify(str(error))
        rows = []
    stale = [row for row in rows if int(row.get("epoch", -1)) >= position.epoch]
    if not later and not stale:
        return
    candidates = (run_folder / f"superseded-{n}" for n in itertools.count(1))
    folder = next(path for path in candidates if not path.exists())
    folder.mkdir()
    for checkpoint in later:
        checkpoint.path.rename(folder / checkpoint.path.name)
    if stale:
        write_table(folder / EVALUATION_FILE, stale)
        write_table(table, [row for row in rows if row not in stale])
    fsync(folder)
    fsync(run_folder)
    if later:
        notify(f"{folder}: holds the {len(later)} later checkpoints now")
    if stale:
        notify(f"{folder}: holds the {len(stale)} later rows of {EVALUATION_FILE} now")
