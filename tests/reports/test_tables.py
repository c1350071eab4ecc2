"""Proves that the CSV tables keep one row per epoch, in order, after a resume."""

import pytest

from resnet50.reports.tables import read_table, record_epoch, record_evaluation


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
