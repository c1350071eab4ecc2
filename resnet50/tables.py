"""CSV tables of a run: metrics.csv and evaluation.csv, one row an epoch.

A table is replaced whole, so a reader never sees half a row, and an epoch that is
trained or evaluated again replaces its row.
"""

import csv
import io
from pathlib import Path

from resnet50.handoff.atomic_io import atomic_file

METRICS_FILE, EVALUATION_FILE = "metrics.csv", "evaluation.csv"


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a table, by column name; none if there is no file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def write_table(path: Path, rows: list[dict]) -> None:
    """Replaces a table; a cell whose row lacks the column stays empty."""
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())


def record_epoch(path: Path, row: dict) -> None:
    """Adds an epoch's row to metrics.csv; its and later epochs' old rows go."""
    earlier = [r for r in read_table(path) if int(r["epoch"]) < row["epoch"]]
    write_table(path, [*earlier, row])


def record_evaluation(path: Path, row: dict) -> None:
    """Adds a row to evaluation.csv, in place of that epoch's with as many crops."""

    def key(row):
        return int(row["epoch"]), int(row["crops"])

    others = [r for r in read_table(path) if key(r) != key(row)]
    write_table(path, sorted([*others, row], key=key))


def best_epochs(path: Path) -> set[int]:
    """Epochs with the highest top-1 in evaluation.csv, one for each number of crops."""
    best: dict[str, tuple[float, int]] = {}
    for row in read_table(path):
        candidate = float(row["top1"]), int(row["epoch"])
        best[row["crops"]] = max(candidate, best.get(row["crops"], candidate))
    return {epoch for _, epoch in best.values()}
