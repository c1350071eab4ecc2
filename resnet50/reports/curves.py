"""The curves of a run, from its metrics.csv and evaluation.csv."""

import math
from pathlib import Path
from typing import NamedTuple

from resnet50.errors import UserError
from resnet50.reports.tables import EVALUATION_FILE, METRICS_FILE, read_table

TRAINING, NEVER_LATE = "training", "if batches were never late"


class RunError(UserError):
    """A run does not exist or has no tables."""


class Curve(NamedTuple):
    """One number of each epoch."""

    kind: str  # TRAINING, NEVER_LATE, or which validation
    epochs: list[int]
    values: list[float]  # one per epoch; NaN where a row has none


class Panel(NamedTuple):
    """One diagram: a column of the tables, and its axis."""

    title: str
    column: str
    is_share: bool = False  # 0..1, shown as a percentage
    starts_at_zero: bool = False
    is_logarithmic: bool = False  # if the values span more than a decade


PANELS = (
    Panel("Loss", "loss"),
    Panel("Top-1 accuracy", "top1", is_share=True),
    Panel("Top-5 accuracy", "top5", is_share=True),
    Panel("Learning rate", "learning_rate", is_logarithmic=True),
    Panel("Images per second", "images_per_second", starts_at_zero=True),
    Panel("Time spent waiting", "waiting", is_share=True, starts_at_zero=True),
)


def number(row: dict[str, str], column: str) -> float:
    """A cell as a number; NaN if it is empty, missing or not a finite number."""
    try:
        value = float(row.get(column) or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def never_late(row: dict[str, str]) -> float:
    """Images per second without the time spent waiting; NaN if a row has none."""
    waiting = number(row, "waiting")
    return number(row, "images_per_second") / (1 - waiting) if waiting < 1 else math.nan


def _validation_kind(row: dict[str, str]) -> str:
    crops = row.get("crops") or "1"
    kind = f"validation, {crops} {'crop' if crops == '1' else 'crops'}"
    weights = row.get("weights") or "trained"
    return kind if weights == "trained" else f"{kind}, {weights} weights"


class RunRecord(NamedTuple):
    """A run's tables."""

    name: str
    folder: Path
    metrics: list[dict[str, str]]
    evaluations: list[dict[str, str]]
    num_superseded: int  # rows of evaluation.csv that are left out

    @property
    def evaluations_by_kind(self) -> dict[str, list[dict[str, str]]]:
        """The rows of evaluation.csv, by number of crops and weights."""
        found: dict[str, list[dict[str, str]]] = {}
        for row in self.evaluations:
            found.setdefault(_validation_kind(row), []).append(row)
        return found

    def curves(self, column: str) -> list[Curve]:
        """The curves of a column, without those that have no value."""
        groups = {TRAINING: self.metrics, **self.evaluations_by_kind}
        curves = [
            Curve(kind, _epochs(rows), [number(row, column) for row in rows])
            for kind, rows in groups.items()
        ]
        if column == "images_per_second":
            values = [never_late(row) for row in self.metrics]
            curves.append(Curve(NEVER_LATE, _epochs(self.metrics), values))
        return [c for c in curves if not all(map(math.isnan, c.values))]


def _epochs(rows: list[dict[str, str]]) -> list[int]:
    return [int(row["epoch"]) for row in rows]


def read_run(folder: Path) -> RunRecord:
    """Reads the tables of a run's folder.

    Rows of evaluation.csv for epochs after the last one of metrics.csv are left out:
    their checkpoints were superseded when a training resumed from an earlier one.

    Raises:
        RunError: There are no tables yet.
        TableError: One is damaged.
    """
    metrics = [r for r in read_table(folder / METRICS_FILE) if r.get("epoch")]
    evaluations = [r for r in read_table(folder / EVALUATION_FILE) if r.get("epoch")]
    if not metrics and not evaluations:
        raise RunError(
            f"{folder}: has no {METRICS_FILE} with a row (train.py writes one after "
            "each epoch)"
        )
    last = int(metrics[-1]["epoch"]) if metrics else math.inf
    current = [row for row in evaluations if int(row["epoch"]) <= last]
    num_superseded = len(evaluations) - len(current)
    name = folder.absolute().name
    return RunRecord(name, folder, metrics, current, num_superseded)


def distinguish(runs: list[RunRecord]) -> list[RunRecord]:
    """The runs; those that share a name get their folder as name."""
    names = [run.name for run in runs]
    return [
        run._replace(name=str(run.folder)) if names.count(run.name) > 1 else run
        for run in runs
    ]
