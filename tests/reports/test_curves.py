"""Proves which curves a run's tables give, also if something is missing."""

import math

import pytest

from resnet50.reports.curves import (
    NEVER_LATE,
    TRAINING,
    RunError,
    distinguish,
    number,
    read_run,
)
from resnet50.reports.tables import METRICS_FILE, write_table
from tests.reports.runs import make_run, metrics_row


def test_training_and_each_kind_of_validation_have_a_curve(tmp_path):
    run = read_run(make_run(tmp_path / "run", 4, evaluated=[1, 3]))
    curves = {curve.kind: curve for curve in run.curves("top1")}
    assert list(curves) == [TRAINING, "validation, 1 crop", "validation, 10 crops"]
    assert curves[TRAINING].epochs == [0, 1, 2, 3]
    assert curves[TRAINING].values == [0, 0.01, 0.02, 0.03]
    assert curves["validation, 10 crops"].epochs == [1, 3]
    assert curves["validation, 10 crops"].values == pytest.approx([0.02, 0.04])
    assert [curve.kind for curve in run.curves("learning_rate")] == [TRAINING]


def test_averaged_weights_have_a_curve_of_their_own(tmp_path):
    run = read_run(make_run(tmp_path / "run", 2, [1], weights="averaged"))
    assert "validation, 1 crop, averaged weights" in run.evaluations_by_kind


def test_the_speed_without_waiting_is_derived(tmp_path):
    run = read_run(make_run(tmp_path / "run", 2))
    curves = {curve.kind: curve for curve in run.curves("images_per_second")}
    assert curves[NEVER_LATE].values == [250, 250]  # 200 / (1 - 0.2)


def test_a_cell_that_is_no_number_is_a_gap(tmp_path):
    folder = make_run(tmp_path / "run", 1)
    rows = [metrics_row(0), metrics_row(1, loss="nan"), metrics_row(2, loss="inf")]
    write_table(folder / METRICS_FILE, rows)
    (curve,) = read_run(folder).curves("loss")
    assert curve.values[0] == 7
    assert [math.isnan(value) for value in curve.values] == [False, True, True]
    assert all(math.isnan(number({"a": cell}, "a")) for cell in ("", "x", None))
    assert read_run(folder).curves("no_such_column") == []


def test_evaluations_of_a_superseded_training_are_left_out(tmp_path):
    run = read_run(make_run(tmp_path / "run", 3, evaluated=[1, 2, 5]))
    assert run.num_superseded == 2
    assert [row["epoch"] for row in run.evaluations] == ["1", "1", "2", "2"]


def test_a_run_may_have_evaluations_only(tmp_path):
    """Imported weights can be evaluated before their training."""
    folder = make_run(tmp_path / "run", 1, evaluated=[-1])
    (folder / METRICS_FILE).unlink()
    assert read_run(folder).curves("top1")[0].epochs == [-1]


def test_a_run_without_tables_is_an_error(tmp_path):
    with pytest.raises(RunError, match=r"has no metrics\.csv with a row"):
        read_run(tmp_path)


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    folders = [make_run(tmp_path / parent / "run", 1) for parent in "ab"]
    other = make_run(tmp_path / "other", 1)
    runs = distinguish([read_run(folder) for folder in [*folders, other]])
    assert [run.name for run in runs] == [*map(str, folders), "other"]
