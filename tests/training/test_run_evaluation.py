"""Proves which tables an evaluation writes, and what it does if they are in the way."""

import dataclasses
import errno
import os
import shutil
import types

import numpy as np
import pytest

from resnet50.handoff import locks
from resnet50.reports.classes import predictions
from resnet50.reports.classes.outcomes import Outcomes
from resnet50.reports.classes.predictions import read_predictions
from resnet50.reports.tables import EVALUATION_FILE, TableError, read_table
from resnet50.training import run_evaluation
from resnet50.training.description import CheckpointError
from resnet50.training.evaluation import Accuracy
from resnet50.training.run_evaluation import EvaluationRequest, evaluate_run
from tests.doubles import RecordingObserver
from tests.settings import SETTINGS


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Returns a function that evaluates epochs 0 to 2 with a fake network.

    It takes the second image for the class that is the number of calls so far, or 2.
    """
    labels = np.array([0, 1], np.int32)
    for epoch in range(3):
        (tmp_path / str(epoch)).mkdir()

    class Evaluator:
        def __init__(self, *arguments):
            pass

        calls = 0

        def evaluate(self, dataset, show):
            outcomes = Outcomes.unknown(labels)
            predicted = np.array([0, min(self.calls, 2)])
            self.calls += 1
            ones = np.ones(2)
            outcomes.put([0, 1], predicted, 1 + (predicted != labels), ones, ones)
            return Accuracy(0.5, 1.0, 0.1, 10, [], outcomes)

    network = types.SimpleNamespace
    monkeypatch.setattr(run_evaluation, "ResNet50", lambda *arguments: network())
    monkeypatch.setattr(run_evaluation, "Evaluator", Evaluator)
    monkeypatch.setattr(run_evaluation, "prepare_device", lambda **settings: None)
    monkeypatch.setattr(run_evaluation, "describe_model", lambda *arguments: {})

    def evaluate(
        load_model,
        observer=None,
        *,
        keeps=False,
        epochs=range(3),
        waits=False,
        patience=0,
    ):
        monkeypatch.setattr(run_evaluation, "load_model", load_model)
        dataset = types.SimpleNamespace(
            num_classes=3,
            num_images=2,
            names=["one.JPEG", "two.JPEG"],
            labels=labels,
            class_names=("a", "b", "c"),
            class_words=("a", "bee", "c"),
        )
        request = EvaluationRequest(tmp_path, epochs, 1, None, waits, keeps)
        observer = observer or RecordingObserver()
        train = dataclasses.replace(SETTINGS.train, patience=patience)
        config = dataclasses.replace(SETTINGS, train=train)
        return evaluate_run(config, dataset, dataset, request, observer)

    return evaluate


def test_a_checkpoint_that_is_deleted_while_it_is_loaded_is_skipped(evaluate, tmp_path):
    """By a training that runs at the same time, with keep_checkpoints."""

    def load_model(model, path, *arguments, **options):
        if path.name == "1":
            shutil.rmtree(path)
            raise CheckpointError(f"{path}: is damaged")
        return "trained"

    observer = RecordingObserver()
    results = evaluate(load_model, observer)
    assert [next(results).evaluated.epoch for _ in range(2)] == [0, 2]
    with pytest.raises(CheckpointError, match=r"epochs 0 to 2 have no checkpoint: 1 "):
        next(results)
    assert observer.lines == []
    assert len(read_table(tmp_path / EVALUATION_FILE)) == 2


def test_the_epochs_that_are_still_to_come_are_one_line(evaluate, tmp_path):
    """For example, of an evaluation in the middle of a training."""
    for epoch in 0, 2:
        (tmp_path / str(epoch)).rmdir()
    observer = RecordingObserver()
    results = evaluate(lambda *arguments, **options: "trained", observer)
    assert next(results).evaluated.epoch == 1
    with pytest.raises(CheckpointError) as caught:
        next(results)
    assert observer.lines == []
    assert str(caught.value) == (
        f"{tmp_path}: 2 of the epochs 0 to 2 have no checkpoint: 0, 2 (--wait waits "
        "for those to come)"
    )


def test_a_damaged_checkpoint_ends_the_evaluation(evaluate):
    def load_model(model, path, *arguments, **options):
        raise CheckpointError(f"{path}: is damaged")

    with pytest.raises(CheckpointError, match="is damaged"):
        next(evaluate(load_model))


def load_nothing(*arguments, **options):
    return "trained"


def test_the_predictions_of_the_last_epoch_stay(evaluate, tmp_path):
    *_, last = evaluate(load_nothing)
    assert last.evaluated == (2, 1, "trained")
    found = read_predictions(tmp_path, None, "")
    assert found.evaluated == last.evaluated
    assert found.class_words == ("", "bee", "")
    assert found.outcomes.predicted.tolist() == [0, 2]
    assert not list(tmp_path.glob("predictions_*"))


def test_the_predictions_of_each_epoch_are_kept_on_request(evaluate, tmp_path):
    assert len(list(evaluate(load_nothing, keeps=True))) == 3
    for epoch in range(3):
        found = read_predictions(tmp_path, epoch, "")
        assert found.path.name == f"predictions_{epoch}.csv"
        assert found.evaluated.epoch == epoch
        assert found.outcomes.predicted.tolist() == [0, epoch]
    last = (tmp_path / "predictions_2.csv").read_bytes()
    assert (tmp_path / "predictions.csv").read_bytes() == last


def test_predictions_that_cannot_be_written_do_not_hide_the_result(
    evaluate, tmp_path, monkeypatch
):
    def fail(path, rows):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(predictions, "write_table", fail)
    results = evaluate(load_nothing)
    assert next(results).evaluated.epoch == 0
    with pytest.raises(TableError, match=r"classes.csv: cannot be written: No space"):
        next(results)
    assert len(read_table(tmp_path / EVALUATION_FILE)) == 1


def test_a_result_that_cannot_be_written_is_shown(evaluate, tmp_path, monkeypatch):
    def fail(path, row):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_evaluation, "record_evaluation", fail)
    with pytest.raises(TableError) as caught:
        next(evaluate(lambda *arguments, **options: "trained"))
    assert str(caught.value) == (
        f"{tmp_path / EVALUATION_FILE}: cannot be written: No space left on device "
        "(the result is not in it: epoch 0: top-1 50.00%, top-5 100.00% (10 images, "
        "1 crop, trained weights))"
    )


def test_waiting_ends_when_the_training_has_stopped_early(
    evaluate, tmp_path, monkeypatch
):
    """Not before the trainer has ended: it may be ahead, and save another one."""
    observer, polls = RecordingObserver(), []

    def poll(seconds):
        polls.append(seconds)
        if len(polls) == 2:
            (tmp_path / "3").mkdir()
        if len(polls) == 4:
            trainer.close()

    monkeypatch.setattr(run_evaluation.time, "sleep", poll)
    trainer = locks.Role(tmp_path, locks.TRAINER)
    results = evaluate(
        lambda *arguments, **options: "trained",
        observer,
        epochs=range(30),
        waits=True,
        patience=2,
    )
    # The top-1 is 50 % in all epochs, so the patience ends with epoch 2.
    assert [result.evaluated.epoch for result in results] == [0, 1, 2, 3]
    assert len(polls) == 4
    assert observer.lines == [
        f"{tmp_path / '3'}: waiting for it",
        f"{tmp_path / '4'}: waiting for it",
        f"{tmp_path}: the training has stopped early",
    ]
