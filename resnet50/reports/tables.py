"""CSV tables of a run: metrics.csv and evaluation.csv, one row per epoch.

Every function that reads a table raises TableError if the file is no table, or a cell
of _KINDS is no number.

A table is replaced atomically, so a reader never sees half a row. An epoch that is
trained or evaluated again replaces its row.
"""

import csv
import io
from pathlib import Path

from resnet50.atomic_io import atomic_file
from resnet50.errors import UserError

METRICS_FILE, EVALUATION_FILE = "metrics.csv", "evaluation.csv"

# The weights that a checkpoint may hold; evaluation.csv says which were evaluated.
WEIGHTS = ("trained", "averaged")

# The columns that this module reads, with their types.
_KINDS = {"epoch": int, "crops": int, "top1": float}


class TableError(UserError):
    """A table was edited wrongly, or damaged."""


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table, by column name; none if there is no file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: is damaged: {error} (move it away)") from None
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


def best_epochs(path: Path) -> set[int]:
    """The epochs with the highest top-1 in evaluation.csv, one per number of crops."""
    best: dict[str, tuple[float, int]] = {}
    for row in read_table(path):
        if row.keys() >= _KINDS.keys():
            candidate = float(row["top1"]), int(row["epoch"])
            best[row["crops"]] = max(candidate, best.get(row["crops"], candidate))
    return {epoch for _, epoch in best.values()}
