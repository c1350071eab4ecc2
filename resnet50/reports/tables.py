"""CSV tables of a run: metrics.csv and evaluation.csv, one row per epoch.

Every function that reads a table raises TableError if it is no file, such as a pipe, if
the file is no table, or if a cell of _KINDS is no number.

A table is replaced atomically, so a reader never sees half a row. An epoch that is
trained or evaluated again replaces its row.
"""

import contextlib
import csv
import errno
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from resnet50.atomic_io import atomic_file
from resnet50.errors import UserError
from resnet50.input_file import open_regular

METRICS_FILE, EVALUATION_FILE = "metrics.csv", "evaluation.csv"

# Stands for the epoch with the highest top-1, where an epoch is expected.
BEST = "best"

# The weights that a checkpoint may hold; evaluation.csv says which were evaluated.
WEIGHTS = ("trained", "averaged")

# The columns that this module reads, with their types.
_KINDS = {"epoch": int, "crops": int, "top1": float}


_REMEDY = "move it away"


class TableError(UserError):
    """A table was edited wrongly, or damaged."""


@contextlib.contextmanager
def open_table(path: Path, remedy: str = _REMEDY) -> Iterator[csv.DictReader]:
    """Opens a table, to read its rows in the block.

    Raises:
        TableError: It is no file, or damaged.
        OSError: It does not exist, or cannot be read now.
    """
    try:
        with open_regular(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            yield csv.DictReader(text)
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: is damaged: {error} ({remedy})") from None
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EINVAL):
            raise
        reason = f"cannot be read: {error.strerror}"
        raise TableError(f"{path}: {reason} ({remedy})") from None


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table, by column name; none if there is no file."""
    try:
        with open_table(path) as table:
            rows = list(table)
    except FileNotFoundError:
        return []
    for number, row in enumerate(rows, start=1):
        for column, kind in _KINDS.items():
            try:
                kind(row.get(column, 0))
            except (ValueError, TypeError):
                raise TableError(
                    f"{path}, row {number}: {column} is {row[column]!r} (correct it, "
                    "or move the file away)"
                ) from None
    return rows


def write_table(path: Path, rows: list[dict]) -> None:
    """Replaces a table; where a row lacks a column, the cell stays empty."""
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())


def record_epoch(path: Path, row: dict) -> None:
    """Adds an epoch's row to metrics.csv; removes old rows from that epoch on."""
    earlier = [r for r in read_table(path) if int(r.get("epoch", 0)) < row["epoch"]]
    write_table(path, [*earlier, row])


def record_evaluation(path: Path, row: dict) -> None:
    """Adds a row to evaluation.csv.

    It replaces the row with the same epoch, number of crops and weights, which are
    "trained" if a row does not say.
    """

    def key(row):
        weights = row.get("weights") or "trained"
        return int(row.get("epoch", 0)), int(row.get("crops", 0)), weights

    others = [r for r in read_table(path) if key(r) != key(row)]
    write_table(path, sorted([*others, row], key=key))


def _top1_by_crops(path: Path) -> dict[str, dict[int, float]]:
    """For each number of crops in evaluation.csv, the top-1 of each trained epoch.

    It is that of the averaged or of the trained weights, whichever is higher.
    """
    found: dict[str, dict[int, float]] = {}
    for row in read_table(path):
        if row.keys() >= _KINDS.keys():
            epoch, top1 = int(row["epoch"]), float(row["top1"])
            if epoch < 0 or not math.isfinite(top1):
                continue
            epochs = found.setdefault(row["crops"], {})
            epochs[epoch] = max(top1, epochs.get(epoch, top1))
    return found


def _comparable_top1(path: Path) -> dict[int, float]:
    """The top-1 of epochs with the number of crops that most of them have."""
    by_crops = _top1_by_crops(path)
    most = max(by_crops, key=lambda c: (len(by_crops[c]), -int(c)), default=None)
    return {} if most is None else by_crops[most]


def _earliest_best(top1: dict[int, float]) -> int:
    return min(top1, key=lambda epoch: (-top1[epoch], epoch))


def best_epochs(path: Path) -> set[int]:
    """The epochs with the highest top-1 in evaluation.csv, one per number of crops."""
    return {_earliest_best(top1) for top1 in _top1_by_crops(path).values()}


def best_epoch(path: Path) -> int | None:
    """The epoch with the highest top-1, the earliest of equal ones; None without any.

    Compares epochs that were evaluated with the same number of crops: the one that most
    epochs have, the smaller one if two have as many.
    """
    top1 = _comparable_top1(path)
    return _earliest_best(top1) if top1 else None


class EarlyStop(NamedTuple):
    """Why a training ends early."""

    best: int  # the epoch with the highest top-1 until then
    epoch: int  # the evaluated epoch with which the patience ended


def early_stop(path: Path, patience: int) -> EarlyStop | None:
    """The first time that a number of epochs has brought no higher top-1, if any.

    Depends on evaluation.csv alone, and a later, higher top-1 changes nothing: the
    trainer and the evaluation, which may lag behind it, must find the same. With a
    patience of 0 returns None.
    """
    top1 = _comparable_top1(path)
    best = None
    for epoch in sorted(top1) if patience else ():
        if best is None or top1[epoch] > top1[best]:
            best = epoch
        elif epoch - best >= patience:
            return EarlyStop(best, epoch)
    return None
