"""Proves which rows the comparison of some runs has."""

import pytest

from resnet50.reports.comparison import (
    comparison_lines,
    read_compared,
    result_rows,
    settings_rows,
)
from resnet50.reports.curves import RunError
from resnet50.reports.starts import STARTS_FILE, record_start
from tests.reports.runs import make_run, metrics_row
from tests.reports.test_starts import start


@pytest.fixture
def make(tmp_path):
    """Returns a function that makes a run with some starts."""

    def make(name, starts, num_epochs=3, **evaluations):
        folder = make_run(tmp_path / name, num_epochs, **evaluations)
        for record in starts:
            record_start(folder / STARTS_FILE, record)
        return read_compared(folder)

    return make


def rows_of(rows):
    return {row.name: row.cells for row in rows}


def test_only_what_differs_is_a_row(make):
    same = {"versions": {"numpy": "2"}, "commit": "a", "device": "the CPU"}
    one = {**start(0, seed=0, xla=True, epochs=3), **same}
    two = {**start(0, seed=1, xla=True, epochs=3), **same, "commit": "b, modified"}
    assert rows_of(settings_rows([make("one", [one]), make("two", [two])])) == {
        "commit": ["a", "b, modified"],
        "[train] seed": ["0", "1"],
    }


def test_a_run_that_was_continued_with_other_values_shows_all(make):
    rates = 0.1, 0.1, 0.01
    changed = [start(epoch, learning_rate=r) for epoch, r in enumerate(rates)]
    runs = make("one", changed), make("two", [start(0, learning_rate=0.1)])
    assert rows_of(settings_rows(runs)) == {
        "[train] learning_rate": ["0.1, then 0.01", "0.1"]
    }


def test_values_look_as_in_config_txt(make):
    one = start(0, xla=True, decay=[30, 60], list=None, schedule="step", of_old=1)
    two = start(0, xla=False, decay=[], list="a.txt", schedule="cosine")
    assert rows_of(settings_rows([make("one", [one]), make("two", [two])])) == {
        "[train] xla": ["true", "false"],
        "[train] decay": ["[30, 60]", "[]"],
        "[train] list": ['""', "a.txt"],
        "[train] schedule": ["step", "cosine"],
        "[train] of_old": ["1", "-"],
    }


def test_a_run_of_an_old_version_differs_from_none(make):
    runs = [make("old", []), make("one", [start(0, seed=0)])]
    assert settings_rows(runs) == []
    runs.append(make("two", [start(0, seed=1)]))
    assert rows_of(settings_rows(runs)) == {"[train] seed": ["?", "0", "1"]}


def test_results_are_the_best_and_the_last(make):
    """The top-1 of the epochs rises by 1 %; see ``make_run``."""
    runs = make("one", [], 4, evaluated=[0, 1]), make("two", [], 3)
    rows = rows_of(result_rows(runs))
    assert rows["epochs trained"] == ["4", "3"]
    assert rows["training, last epoch: top-1, top-5, loss"] == [
        "3.00%, 8.00%, 6.85 (epoch 3)",
        "2.00%, 7.00%, 6.9 (epoch 2)",
    ]
    for which in "best", "last":
        assert rows[f"validation, 10 crops, {which}: top-1, top-5, loss"] == [
            "2.00%, 7.00%, 6.5 (epoch 1)",
            "-",
        ]
    assert len(rows) == 8


def test_what_is_no_number_is_not_the_best(make):
    run = make("one", [], 3, evaluated=[0, 1, 2])
    rows = [dict(row) for row in run.tables.evaluations]
    for row in rows[:2] + rows[-2:]:
        row["top1"] = "nan"
    run = run._replace(tables=run.tables._replace(evaluations=rows))
    best = rows_of(result_rows([run]))["validation, 10 crops, best: top-1, top-5, loss"]
    assert best == ["2.00%, 7.00%, 6.5 (epoch 1)"]


def test_an_epoch_that_was_resumed_counts_as_a_whole_one(make):
    run = make("one", [], 4)
    rows = [metrics_row(0, seconds=3600), metrics_row(1, seconds=100)]
    rows.append(metrics_row(2, seconds=7200, images_per_second=100))
    run = run._replace(tables=run.tables._replace(metrics=rows))
    results = rows_of(result_rows([run]))
    # 720,000 images an epoch, at 200, 200 and 100 images/s.
    assert results["hours"] == ["4.00"]
    assert results["images/s"] == ["150.0"]


def test_a_run_without_rows_has_no_results_yet(make, tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(RunError, match=r"has no metrics\.csv with a row"):
        read_compared(tmp_path / "new")
    record_start(tmp_path / "new" / STARTS_FILE, start(0))
    rows = rows_of(result_rows([read_compared(tmp_path / "new")]))
    assert rows == {"epochs trained": ["0"], "images/s": ["-"], "hours": ["-"]}


def test_the_table_is_aligned_and_says_if_nothing_differs(make):
    one, two = make("one", [start(0)], 1), make("two", [start(0)], 1)
    last = "training, last epoch: top-1, top-5, loss"
    result = "0.00%, 5.00%, 7 (epoch 0)"
    widths = len(last), len(result)

    def line(name, first, second):
        return f"{name:{widths[0]}}  {first:{widths[1]}}  {second}"

    assert list(comparison_lines([one, two])) == [
        line("", "one", "two"),
        "no setting, version or commit differs",
        "",
        line("epochs trained", "1", "1"),
        line("images/s", "200.0", "200.0"),
        line("hours", "0.02", "0.02"),
        line(last, result, result),
    ]
    long = make("three", [start(0, path="/start" + "x" * 80 + "end")], 1)
    text = "\n".join(comparison_lines([one, long]))
    assert f"/start{'x' * 12}...{'x' * 15}end" in text
