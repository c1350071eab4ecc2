"""Proves that the CSV tables keep one row per epoch, in order, after a resume."""

import os

import pytest

from resnet50.reports.tables import (
    TableError,
    best_epoch,
    best_epochs,
    early_stop,
    read_table,
    record_epoch,
    record_evaluation,
    write_table,
)


def test_an_epoch_trained_again_replaces_its_row_and_later_ones(tmp_path):
    path = tmp_path / "metrics.csv"
    for epoch, loss in ((0, "5"), (1, "4"), (2, "3"), (1, "3.5")):
        record_epoch(path, {"epoch": epoch, "loss": loss})
    assert path.read_text() == "epoch,loss\n0,5\n1,3.5\n"


def test_rows_of_an_older_version_keep_what_they_have(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss\n0,5\n")
    record_epoch(path, {"epoch": 1, "loss": "4", "seconds": "9"})
    rows = read_table(path)
    assert [row["loss"] for row in rows] == ["5", "4"]
    assert rows[1]["seconds"] == "9"


def test_trained_and_averaged_weights_have_a_row_each(tmp_path):
    path = tmp_path / "evaluation.csv"
    path.write_text("epoch,crops,top1\n0,1,0.1\n")  # From an older version.
    for weights, top1 in (("averaged", "0.3"), ("trained", "0.2"), ("averaged", "0.4")):
        row = {"epoch": 0, "crops": 1, "weights": weights, "top1": top1}
        record_evaluation(path, row)
    rows = [(row["weights"], row["top1"]) for row in read_table(path)]
    assert rows == [("averaged", "0.4"), ("trained", "0.2")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_evaluations_are_sorted_and_replaced(tmp_path, order):
    path = tmp_path / "evaluation.csv"
    rows = [
        {"epoch": 0, "crops": 10, "top1": "0.5"},
        {"epoch": 1, "crops": 1, "top1": "0.6"},
    ]
    for index in order:
        record_evaluation(path, rows[index])
    record_evaluation(path, {"epoch": 0, "crops": 1, "top1": "0.4"})
    record_evaluation(path, {"epoch": 0, "crops": 10, "top1": "0.7"})
    assert [(r["epoch"], r["crops"], r["top1"]) for r in read_table(path)] == [
        ("0", "1", "0.4"),
        ("0", "10", "0.7"),
        ("1", "1", "0.6"),
    ]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused(tmp_path, make):
    path = tmp_path / "metrics.csv"
    make(path)
    with pytest.raises(TableError, match=r"cannot be read: .*\(move it away\)"):
        read_table(path)


def evaluations(path, *, crops=1, **top1):
    """Writes rows with the top-1 of some epochs, such as e3=0.5."""
    rows = [
        {"epoch": int(name[1:]), "crops": crops, "weights": "trained", "top1": value}
        for name, value in top1.items()
    ]
    write_table(path, read_table(path) + rows)


@pytest.fixture
def table(tmp_path):
    return tmp_path / "evaluation.csv"


def test_the_best_epoch_is_the_earliest_with_the_highest_top1(table):
    assert best_epoch(table) is None
    assert best_epochs(table) == set()
    evaluations(table, e0=0.1, e1=0.6, e2=0.6, e3=0.5)
    assert best_epoch(table) == 1
    assert best_epochs(table) == {1}


def test_the_best_epoch_is_among_those_evaluated_alike(table):
    """Ten crops are more accurate than one, so they would win by their number."""
    evaluations(table, e0=0.1, e1=0.6, e2=0.5)
    evaluations(table, crops=10, e2=0.7)
    assert best_epoch(table) == 1
    assert best_epochs(table) == {1, 2}
    evaluations(table, crops=10, e0=0.2, e1=0.65)
    assert best_epoch(table) == 1  # As many of each: those with one crop.
    evaluations(table, crops=10, e3=0.6)
    assert best_epoch(table) == 2


def test_averaged_and_trained_weights_are_of_one_checkpoint(table):
    for weights, top1 in (("trained", 0.7), ("averaged", 0.3)):
        row = {"epoch": 4, "crops": 1, "weights": weights, "top1": top1}
        record_evaluation(table, row)
    evaluations(table, e5=0.6)
    assert best_epoch(table) == 4


def test_what_is_no_finite_number_is_not_the_best(table):
    evaluations(table, e0="nan", e1="0.6", e2="inf", e3="0.5")
    assert best_epoch(table) == 1
    assert best_epochs(table) == {1}
    assert early_stop(table, 2) == (1, 3)


def test_imported_weights_are_no_epoch(table):
    """The first checkpoint of their training replaces them."""
    table.write_text("epoch,crops,top1\n-1,1,0.9\n")
    assert best_epoch(table) is None
    evaluations(table, e0=0.1)
    assert best_epoch(table) == 0
    assert best_epochs(table) == {0}


def test_patience_counts_epochs_since_the_best(table):
    assert early_stop(table, 2) is None
    evaluations(table, e0=0.5, e1=0.6, e2=0.6)
    assert early_stop(table, 2) is None
    assert early_stop(table, 1) == (1, 2)  # As high is not higher.
    evaluations(table, e3=0.55)
    assert early_stop(table, 2) == (1, 3)
    assert early_stop(table, 3) is None
    assert early_stop(table, 0) is None


def test_a_late_evaluation_does_not_continue_a_training(table):
    """The trainer, which was ahead, has stopped; on a resume it must stop again."""
    evaluations(table, e0=0.5, e5=0.4, e6=0.9)
    assert early_stop(table, 5) == (0, 5)


def test_a_gap_counts_as_its_epochs_but_not_before_it_is_evaluated(table):
    evaluations(table, e0=0.5, e10=0.6)
    assert early_stop(table, 5) is None  # Epoch 10 is higher.
    evaluations(table, e15=0.5)
    assert early_stop(table, 5) == (10, 15)
