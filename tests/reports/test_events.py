"""Proves that TensorBoard's own reader finds the tables' numbers in the event files."""

import os

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resnet50.reports import events
from resnet50.reports.curves import read_run
from resnet50.reports.events import write_events
from resnet50.reports.tables import METRICS_FILE, write_table
from tests.reports.runs import make_run, metrics_row


def read(folder):
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def scalars(accumulator, tag):
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_scalars_and_the_picture_are_those_of_the_run(tmp_path):
    run = read_run(make_run(tmp_path / "run", 3, evaluated=[1, 2]))
    os.utime(run.folder / METRICS_FILE, (5000, 5000))
    folder = write_events(run, Image.new("RGB", (20, 10), "red"))
    assert folder == tmp_path / "run" / "tensorboard"
    training = read(folder / "training")
    assert scalars(training, "loss") == [
        (epoch, pytest.approx(7 - 0.05 * epoch)) for epoch in range(3)
    ]
    assert [event.wall_time for event in training.Scalars("loss")] == [4880, 4940, 5000]
    speeds = scalars(training, "images_per_second_if_never_late")
    assert speeds == [(epoch, pytest.approx(250)) for epoch in range(3)]
    (image,) = training.Images("first batch")
    assert (image.width, image.height) == (20, 10)
    validation = read(folder / "validation, 10 crops")
    assert scalars(validation, "top1") == [
        (1, pytest.approx(0.02)),
        (2, pytest.approx(0.03)),
    ]


def test_a_running_reader_forgets_what_a_resumed_training_replaces(tmp_path):
    folder = make_run(tmp_path / "run", 3)
    running = read(write_events(read_run(folder), None) / "training")
    assert len(scalars(running, "loss")) == 3
    rows = [metrics_row(0), metrics_row(1, loss=1.5, waiting="nan")]
    write_table(folder / METRICS_FILE, rows)
    write_events(read_run(folder), None)
    running.Reload()
    for reader in (running, read(folder / "tensorboard" / "training")):
        assert scalars(reader, "loss") == [(0, 7), (1, 1.5)]
        assert scalars(reader, "waiting") == [(0, pytest.approx(0.2))]
    assert len(list((folder / "tensorboard" / "training").iterdir())) == 1


def test_a_running_reader_sees_what_is_written_after_the_clock_was_set_back(
    tmp_path, monkeypatch
):
    """It reads the files of a folder in the order of their names."""
    folder = make_run(tmp_path / "run", 1)
    running = read(write_events(read_run(folder), None) / "training")
    monkeypatch.setattr(events.time, "time_ns", lambda: 10**18)
    for num_epochs in 2, 3:
        write_table(folder / METRICS_FILE, [metrics_row(e) for e in range(num_epochs)])
        write_events(read_run(folder), None)
        running.Reload()
        assert len(scalars(running, "loss")) == num_epochs
