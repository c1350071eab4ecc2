"""Proves what predictions.csv and its tables contain, and that damage is reported."""

import csv
import os

import numpy as np
import pytest

from resnet50.reports.classes.predictions import (
    CLASSES_FILE,
    CONFUSION_FILE,
    PREDICTIONS_FILE,
    Evaluated,
    read_predictions,
    write_predictions,
)
from resnet50.reports.curves import RunError
from resnet50.reports.tables import TableError
from tests.reports.classes.examples import make_dataset, make_outcomes

EVALUATED = Evaluated(3, 10, "averaged")
LABELS, PREDICTED, SURE = [0, 0, 1, 2], [0, 2, 1, 2], [0.75, 0.5, 1.0, 1.0]
CLASSES = ["cat", "dog", 'ü, "x"\n']


@pytest.fixture
def folder(tmp_path):
    """Has the tables of four images; the last one is unreadable."""
    write(tmp_path)
    return tmp_path


def write(folder, evaluated=EVALUATED, classes=CLASSES, *, is_kept=False):
    outcomes = make_outcomes(LABELS, PREDICTED, SURE, [3])
    dataset = make_dataset(LABELS, classes)
    words = ("cat", "a dog, any", classes[2])
    write_predictions(folder, evaluated, dataset, words, outcomes, is_kept=is_kept)
    return outcomes


def test_the_tables_by_hand(folder):
    head = "epoch,crops,weights,"
    assert (folder / PREDICTIONS_FILE).read_text(encoding="utf-8").splitlines() == [
        head + "image,label,predicted,rank,probability,label_probability,unreadable",
        "3,10,averaged,cat/00.png,cat,cat,1,0.75,0.75,",
        '3,10,averaged,cat/01.png,cat,"ü, ""x""\\n",2,0.5,0.25,',
        "3,10,averaged,dog/02.png,dog,dog,1,1,1,",
        '3,10,averaged,"ü, ""x""\\n/03.png","ü, ""x""\\n",,,,,'
        "is no image that Pillow knows",
    ]
    assert (folder / CLASSES_FILE).read_text(encoding="utf-8").splitlines() == [
        head + "class,words,num_images,top1,top5",
        "3,10,averaged,cat,,2,0.500000,1.000000",
        '3,10,averaged,dog,"a dog, any",1,1.000000,1.000000',
        '3,10,averaged,"ü, ""x""\\n",,0,,',
    ]
    assert (folder / CONFUSION_FILE).read_text(encoding="utf-8").splitlines() == [
        head + "label,predicted,num_images",
        "3,10,averaged,cat,cat,1",
        '3,10,averaged,cat,"ü, ""x""\\n",1',
        "3,10,averaged,dog,dog,1",
    ]


def test_what_is_read_is_what_was_written(tmp_path):
    outcomes = write(tmp_path)
    found = read_predictions(tmp_path, None, "")
    assert (found.path, found.evaluated) == (tmp_path / PREDICTIONS_FILE, EVALUATED)
    assert found.class_names == ("cat", "dog", 'ü, "x"\\n')
    assert found.class_words == ("", "a dog, any", "")
    assert found.image_names[:2] == ["cat/00.png", "cat/01.png"]
    for ours, theirs in zip(found.outcomes[:-1], outcomes[:-1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert found.outcomes.unreadable == outcomes.unreadable


def test_names_that_are_no_text_are_written_as_escapes(tmp_path):
    write(tmp_path, classes=["a", "b\r", os.fsdecode(b"\xe9")])
    found = read_predictions(tmp_path, None, "")
    assert found.class_names == ("a", "b\\r", "\\udce9")
    assert found.image_names[3] == "\\udce9/03.png"


def test_outputs_that_are_no_numbers_are_read_again(tmp_path):
    outcomes = make_outcomes([0, 1], [0, 1], [np.nan, np.nan])
    outcomes.ranks[:] = 3  # One more than there are classes.
    dataset = make_dataset([0, 1], ["a", "b"])
    write_predictions(tmp_path, EVALUATED, dataset, ("a", "b"), outcomes, is_kept=False)
    found = read_predictions(tmp_path, None, "").outcomes
    assert np.isnan(found.probabilities).all()
    assert found.ranks.tolist() == [3, 3]


def test_an_epoch_has_the_predictions_that_were_kept(tmp_path):
    write(tmp_path, is_kept=True)
    write(tmp_path, Evaluated(4, 1, "trained"))
    assert read_predictions(tmp_path, None, "").evaluated.epoch == 4
    assert read_predictions(tmp_path, 4, "").path == tmp_path / PREDICTIONS_FILE
    assert read_predictions(tmp_path, 3, "").path == tmp_path / "predictions_3.csv"
    with pytest.raises(RunError, match=r"predictions.csv: is of epoch 4, not 5 \(do\)"):
        read_predictions(tmp_path, 5, "do")


def test_no_predictions_yet_is_an_error_with_the_remedy(tmp_path, folder):
    (folder / CLASSES_FILE).unlink()
    with pytest.raises(RunError, match=r"classes.csv: does not exist yet \(do this\)"):
        read_predictions(folder, None, "do this")
    (folder / PREDICTIONS_FILE).unlink()
    with pytest.raises(RunError, match=r"predictions.csv: does not exist yet \(do"):
        read_predictions(folder, None, "do this")


DAMAGE = {
    "is damaged: it has no row": lambda lines: lines[:1],
    "is damaged: it has no image, rank": lambda lines: [
        line.replace("image", "x").replace("rank", "y") for line in lines
    ],
    "row 2: has too many or too few cells": lambda lines: [*lines[:2], "3,10"],
    "row 1: has too many or too few cells": lambda lines: [lines[0], lines[1] + ",1"],
    "is damaged: it is not of one evaluation": lambda lines: [
        *lines[:2],
        lines[3].replace("3,10", "4,10", 1),
    ],
    "is damaged: all images are unreadable": lambda lines: [lines[0], lines[4]],
    "row 1: label is 'cow', not in classes.csv": lambda lines: [
        lines[0],
        lines[1].replace(",cat,", ",cow,"),
    ],
    "row 3: a wrong class has rank 1": lambda lines: [
        *lines[:3],
        lines[3].replace("dog,dog", "dog,cat"),
    ],
    "row 1: rank is '0'": lambda lines: [lines[0], lines[1].replace(",1,", ",0,")],
    "row 1: rank is '5'": lambda lines: [lines[0], lines[1].replace(",1,", ",5,")],
    "row 1: rank is ''": lambda lines: [lines[0], lines[1].replace(",1,", ",,")],
    "row 1: probability is '1.5'": lambda lines: [
        lines[0],
        lines[1].replace("0.75", "1.5", 1),
    ],
    "row 1: label_probability is 'x'": lambda lines: [
        lines[0],
        lines[1].replace("0.75,0.75", "0.75,x", 1),
    ],
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damage_is_named_with_its_row(folder, message):
    path = folder / PREDICTIONS_FILE
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(DAMAGE[message](lines)), encoding="utf-8")
    with pytest.raises(TableError) as caught:
        read_predictions(folder, None, "do this")
    assert str(caught.value) == f"{path}{found(message)} (do this)"


def found(message):
    return f", {message}" if message.startswith("row") else f": {message}"


@pytest.mark.parametrize("name", [PREDICTIONS_FILE, CLASSES_FILE])
def test_bytes_that_are_no_text_are_an_error(folder, name):
    (folder / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match=rf"{name}: is damaged: .*\(do this\)"):
        read_predictions(folder, None, "do this")


def test_a_run_with_other_classes_is_an_error(folder):
    """For example, predictions that were kept before a class was renamed."""
    path = folder / CLASSES_FILE
    rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
    rows[1][3] = "lion"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(TableError, match=r"label is 'cat', not in classes"):
        read_predictions(folder, None, "do this")


def test_a_pipe_is_refused(folder):
    (folder / PREDICTIONS_FILE).unlink()
    os.mkfifo(folder / PREDICTIONS_FILE)
    with pytest.raises(TableError, match=r"cannot be read: .* \(do this\)"):
        read_predictions(folder, None, "do this")
