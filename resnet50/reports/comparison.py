"""A table of what differs between runs: their settings and their results.

The settings come from starts.jsonl, the results from metrics.csv and evaluation.csv.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from resnet50.reports.curves import RunError, RunRecord, distinguish, number, read_run
from resnet50.reports.starts import STARTS_FILE, read_starts

_CELL_WIDTH = 40


class ComparedRun(NamedTuple):
    """What is known about a run."""

    tables: RunRecord
    starts: list[dict]  # see ``starts.read_starts``; none for a run of an old version


class ComparedValue(NamedTuple):
    """A line of the table: the value of each run."""

    name: str
    cells: list[str]


def read_compared(folder: Path) -> ComparedRun:
    """Reads all about a run.

    Raises:
        RunError: There is nothing yet.
        TableError: A table is damaged.
    """
    starts = read_starts(folder / STARTS_FILE)
    try:
        return ComparedRun(read_run(folder), starts)
    except RunError:
        if not starts:
            raise
        name = folder.absolute().name
        return ComparedRun(RunRecord(name, folder, [], [], 0), starts)


def read_runs(folders: list[Path]) -> list[ComparedRun]:
    """Reads all about some runs, and gives each a name of its own.

    Raises:
        RunError, TableError: See ``read_compared``.
    """
    found = [read_compared(folder) for folder in folders]
    tables = distinguish([run.tables for run in found])
    return [ComparedRun(named, run.starts) for named, run in zip(tables, found)]


def _facts(start: dict) -> dict[str, str]:
    """All that a start was made with, by name, as text."""
    names = "device", "commit", "images", "epoch_end"
    facts = {name: start[name] for name in names if start.get(name) is not None}
    facts |= start["versions"]
    for section, keys in start["settings"].items():
        facts |= {f"[{section}] {key}": value for key, value in keys.items()}
    # A path that is "" in config.txt is null in starts.jsonl.
    texts = {name: "" if value is None else value for name, value in facts.items()}
    return {
        name: value if value and isinstance(value, str) else json.dumps(value)
        for name, value in texts.items()
    }


def _without_repeats(texts: Iterable[str]) -> list[str]:
    different: list[str] = []
    for text in texts:
        if different[-1:] != [text]:
            different.append(text)
    return different


def facts_of_starts(starts: list[dict]) -> dict[str, str]:
    """By name, what all starts of a run were made with.

    If there were other values later, all of them in order, such as "0.1, then 0.01".
    "-" stands for the value of a start that does not say.
    """
    facts = [_facts(start) for start in starts]
    return {
        name: ", then ".join(_without_repeats(f.get(name, "-") for f in facts))
        for name in dict.fromkeys(name for f in facts for name in f)
    }


def settings_rows(runs: list[ComparedRun]) -> list[ComparedValue]:
    """A row for each setting, version or commit that differs between runs.

    A run without starts has "?" everywhere and differs from none.
    """
    facts = [facts_of_starts(run.starts) for run in runs]
    rows = []
    for name in dict.fromkeys(name for found in facts for name in found):
        cells = [found.get(name, "-") if found else "?" for found in facts]
        if len(set(cells) - {"?"}) > 1:
            rows.append(ComparedValue(name, cells))
    return rows


def _speed_and_hours(metrics: list[dict[str, str]]) -> tuple[float, float]:
    """Images per second over all epochs, and the hours they take; NaN if unknown.

    ``seconds`` of an epoch in which the training was resumed are only those since then,
    so the number of images of an epoch is that of the largest row.
    """
    speeds = [number(row, "images_per_second") for row in metrics]
    if not speeds or not all(speed > 0 for speed in speeds):
        return math.nan, math.nan
    mean = len(speeds) / sum(1 / speed for speed in speeds)
    num_images = max(s * number(row, "seconds") for s, row in zip(speeds, metrics))
    return mean, len(speeds) * num_images / mean / 3600


def _results(run: RunRecord) -> dict[str, str]:
    """By name, the last epoch's accuracy, and in each validation also the best."""
    rows = {"training, last epoch": run.metrics[-1]} if run.metrics else {}
    for kind, evaluations in run.evaluations_by_kind.items():
        known = [row for row in evaluations if not math.isnan(number(row, "top1"))]
        best = max(known or evaluations, key=lambda row: number(row, "top1"))
        rows |= {f"{kind}, best": best, f"{kind}, last": evaluations[-1]}
    texts = {}
    for name, row in rows.items():
        top1, top5, loss = (number(row, c) for c in ("top1", "top5", "loss"))
        text = f"{top1:.2%}, {top5:.2%}, {loss:.4g} (epoch {row['epoch']})"
        texts[f"{name}: top-1, top-5, loss"] = text
    return texts


def result_rows(runs: list[ComparedRun]) -> list[ComparedValue]:
    """A row for each result."""

    def row(
        name: str, value: Callable[[RunRecord], float], form: str = ""
    ) -> ComparedValue:
        values = [value(run.tables) for run in runs]
        return ComparedValue(
            name, ["-" if math.isnan(v) else f"{v:{form}}" for v in values]
        )

    rows = [
        row("epochs trained", lambda run: len(run.metrics)),
        row("images/s", lambda run: _speed_and_hours(run.metrics)[0], ",.1f"),
        row("hours", lambda run: _speed_and_hours(run.metrics)[1], ",.2f"),
    ]
    found = [_results(run.tables) for run in runs]
    for name in dict.fromkeys(name for results in found for name in results):
        rows.append(ComparedValue(name, [results.get(name, "-") for results in found]))
    return rows


def _shortened(text: str) -> str:
    """A text with at most _CELL_WIDTH characters; its start and end remain."""
    half = (_CELL_WIDTH - 3) // 2
    return text if len(text) <= _CELL_WIDTH else f"{text[:half]}...{text[-half:]}"


def comparison_lines(runs: list[ComparedRun]) -> Iterator[str]:
    """The lines of the table, first what differs, then the results."""
    settings, results = settings_rows(runs), result_rows(runs)
    table = [["", *(run.tables.name for run in runs)]]
    table += [[row.name, *map(_shortened, row.cells)] for row in settings + results]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(cells, widths)).rstrip()
        for cells in table
    ]
    yield lines[0]
    if settings:
        yield from lines[1 : 1 + len(settings)]
    elif sum(bool(run.starts) for run in runs) > 1:
        yield "no setting, version or commit differs"
    yield ""
    yield from lines[1 + len(settings) :]
