"""Proves that the speeds and the limit of a pair are found from its files alone."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from resnet50.handoff import locks
from resnet50.handoff.locks import PREPROCESSOR, TRAINER
from resnet50.handoff.manifest import write_manifest
from resnet50.handoff.progress import Position
from resnet50.handoff.waiting import write_waiting
from resnet50.reports.live import pair_watch
from resnet50.reports.live.pair_watch import PairWatch
from tests.reports.live.pairs import Pair


@pytest.fixture
def pair(tmp_path, monkeypatch):
    pair = Pair(tmp_path)
    monkeypatch.setattr(pair_watch.time, "monotonic", lambda: pair.seconds)
    yield pair
    pair.stop()


@pytest.fixture
def watch(pair):
    return PairWatch(pair.config, None, epoch_end=2)


def snapshot(folder):
    paths = [folder, *folder.rglob("*")]
    return {path: path.stat().st_mtime_ns for path in paths}


def test_a_pair_that_has_never_run(pair, watch):
    before = snapshot(pair.config_path.parent)
    state = watch.poll()
    assert (state.run_name, state.position, state.processes) == ("", None, {})
    assert (state.limit, state.seconds_left, state.is_finished) == ("", None, False)
    assert snapshot(pair.config_path.parent) == before


def test_both_speeds_and_the_time_left(pair, watch):
    """In 4 s two batches are trained and five are made, two of them trained."""
    pair.start(TRAINER, PREPROCESSOR)
    pair.train_to(3)
    pair.make(3)
    assert set(watch.poll().speeds.values()) == {None}
    pair.seconds += 2
    pair.make(4, 5)
    watch.poll()
    pair.seconds += 2
    pair.make(6, 7)
    pair.train_to(5)
    state = watch.poll()
    assert state.speeds == {TRAINER: 2 / 4, PREPROCESSOR: 4 / 4}
    assert state.seconds_left == (20 - 5) / 0.5
    assert (state.position, state.share) == (Position(0, 5), 0.25)
    assert (state.num_ready, state.num_wanted) == (3, 6)
    assert state.run_name == "mine"  # The one that is being trained.
    assert state.processes[TRAINER] == locks.owner(pair.buffer.folder, TRAINER)
    assert [row["epoch"] for row in state.metrics] == ["0", "1"]


def test_speeds_are_those_of_the_last_minute(pair, watch):
    pair.start(TRAINER)
    for second in range(100):  # A step a second, then one in 10 s.
        pair.train_to(second // 10 if second < 30 else 3)
        watch.poll()
        pair.seconds += 1
    assert watch.poll().speeds[TRAINER] == 0
    assert len(watch._polls) <= 62


def watched_for_10_seconds(pair, watch, *, is_ready):
    """The state after ten steps; the next batch is always or never ready."""
    for step in range(10):
        pair.train_to(step)
        if is_ready:
            pair.make(step)
        state = watch.poll()
        pair.seconds += 1
    return state


def test_what_limits(pair, watch):
    pair.start(TRAINER, PREPROCESSOR)
    state = watched_for_10_seconds(pair, watch, is_ready=True)
    assert state.limit.startswith("The trainer limits, batches are there in time; ")


def test_a_preprocessor_that_is_too_slow_limits(pair, watch):
    pair.start(TRAINER, PREPROCESSOR)
    state = watched_for_10_seconds(pair, watch, is_ready=False)
    assert state.limit.startswith("The preprocessing limits: [runtime_preprocessing]")


def test_a_preprocessor_that_sleeps_too_long_limits(pair):
    """The buffer was full, and then empty."""
    section = dataclasses.replace(pair.config.runtime_preprocessing, sleep_time=60.0)
    config = dataclasses.replace(pair.config, runtime_preprocessing=section)
    watch = PairWatch(config, None, epoch_end=2)
    pair.start(TRAINER, PREPROCESSOR)
    pair.train_to(0)
    pair.make(*range(6))
    watch.poll()
    state = watched_for_10_seconds(pair, watch, is_ready=False)
    assert "it may sleep longer than the buffer lasts" in state.limit


def test_a_preprocessor_that_does_not_run_limits(pair, watch):
    pair.start(TRAINER)
    state = watched_for_10_seconds(pair, watch, is_ready=False)
    assert "runtime_preprocessing.py was not running for 9 s" in state.limit


def test_nothing_limits_a_trainer_that_has_just_started_or_is_gone(pair, watch):
    pair.start(TRAINER, PREPROCESSOR)
    pair.train_to(0)
    watch.poll()
    pair.seconds += 30  # It compiles.
    assert watch.poll().limit == ""
    pair.train_to(5)
    assert watch.poll().limit != ""
    pair.stop()
    assert watch.poll().limit == ""


@pytest.mark.parametrize("lost", ["position", "earlier", "folder"])
def test_the_watch_begins_again(pair, watch, lost):
    pair.start(TRAINER)
    pair.train_to(5)
    watch.poll()
    pair.seconds += 1
    if lost == "position":
        (pair.buffer.folder / "training_progress.txt").unlink()
    elif lost == "earlier":
        pair.train_to(1)
    else:
        shutil.rmtree(pair.buffer.folder)
    assert watch.poll().speeds[TRAINER] is None
    pair.seconds += 1
    pair.buffer.folder.mkdir(exist_ok=True)
    pair.train_to(7)
    watch.poll()
    pair.seconds += 1
    pair.train_to(8)
    assert watch.poll().speeds[TRAINER] == (1.0 if lost != "earlier" else 3.5)


def test_a_damaged_table_does_not_end_the_watch(pair, watch):
    (pair.run_folder / "metrics.csv").write_text("epoch,loss\nx,y\n")
    pair.start(TRAINER)
    assert watch.poll().metrics == []


def test_the_messages_of_both_in_the_order_of_their_time(pair, watch):
    pair.start(TRAINER)
    pair.say(PREPROCESSOR, "first")
    pair.say(TRAINER, "second")
    messages = [(role, message.text) for role, message in watch.poll().messages]
    assert messages == [(PREPROCESSOR, "first"), (TRAINER, "second")]


def test_a_trainer_that_runs_has_not_finished(pair, watch):
    """Until it reads its first batch, the position is that of an earlier training."""
    pair.start(TRAINER)
    pair.train_to(20)
    assert not watch.poll().is_finished
    pair.stop()
    assert watch.poll().is_finished


@pytest.mark.parametrize("num_images", [float("inf"), float("nan"), 100.5, -43, 3])
def test_a_manifest_with_an_impossible_number(pair, watch, num_images):
    manifest = {"num_images": num_images, "batch_size": 4}
    write_manifest(pair.buffer.folder, manifest)
    pair.train_to(5)
    state = watch.poll()
    assert (state.position, state.batches_per_epoch) == (None, 0)


def test_a_folder_that_cannot_be_listed_does_not_end_the_watch(watch, monkeypatch):
    def fail(path):
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", fail)
    assert watch.poll().run_name == ""


def test_all_epochs_are_trained(pair, watch):
    pair.train_to(20)
    state = watch.poll()
    assert state.is_finished
    assert (state.num_ready, state.num_wanted, state.seconds_left) == (0, 0, None)


@pytest.mark.parametrize(
    ("slowest", "expected"),
    [
        ("worker 1, host1:4711", ""),
        ("this worker", " The preprocessing limits: [runtime_preprocessing] num_"),
    ],
)
def test_the_host_that_the_training_waits_for_is_named(pair, watch, slowest, expected):
    """Which key helps is said only on that host."""
    pair.start(TRAINER, PREPROCESSOR)
    write_waiting(pair.config.train.buffer_folder, f"31.0% for {slowest}")
    limit = watched_for_10_seconds(pair, watch, is_ready=False).limit
    start = f"Waiting 31.0% for {slowest}, since the epoch's start."
    assert limit.startswith(start + expected)
    assert (limit == start) == (not expected)
