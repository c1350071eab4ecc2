"""Proves which limit and which remedy are named for given figures, and the clock."""

import dataclasses

import pytest

from resnet50.reports import speed
from resnet50.reports.speed import THIS_WORKER, Speed
from resnet50.training import training_observer
from resnet50.training.training_observer import Clock
from tests.settings import SETTINGS

# 1000 s with 6400 images; the settings as shipped have batches of 64 and 4 workers.
IN_TIME = Speed(
    num_images=6400,
    seconds=1000.0,
    waiting=10.0,
    saving=20.0,
    reading=100.0,
    absent=0.0,
    unattended=0.0,
)


def limit(figures, num_cores=16, preprocessing=None, **train):
    section = dataclasses.replace(
        SETTINGS.runtime_preprocessing, **(preprocessing or {})
    )
    config = dataclasses.replace(
        SETTINGS,
        train=dataclasses.replace(SETTINGS.train, **train),
        runtime_preprocessing=section,
    )
    return speed.limit(figures, config, num_cores)


def test_the_figures():
    figures = IN_TIME._replace(waiting=200.0)
    assert figures.images_per_second == 6.4
    assert figures.unhindered_images_per_second == 8.0
    assert figures.line() == (
        "6.4 images/s, 8.0 if batches were never late; waiting 20.0%, "
        "computing 78.0%, saving 2.0% of the time; reading 10.0%, in parallel"
    )


def test_no_time_and_nothing_but_waiting_have_figures():
    nothing = Speed(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert nothing.images_per_second == nothing.unhindered_images_per_second == 0
    waiting = IN_TIME._replace(waiting=1000.0, saving=0.0)
    assert "computing 0.0%" in waiting.line()


def test_the_trainer_limits():
    assert limit(IN_TIME).startswith("The trainer limits, batches are there in time")
    assert '[train] precision = "auto"' in limit(IN_TIME)
    half = limit(IN_TIME, precision="float16")
    assert "[train] batch_size (it is 64)" in half
    assert "deterministic = false" in limit(IN_TIME, deterministic=True)


def test_checkpoints_limit():
    saving = IN_TIME._replace(saving=100.0)
    sentence = limit(saving, checkpoint_minutes=1)
    assert sentence == (
        "The trainer limits: 10% of its time goes into checkpoints; raise [train] "
        "checkpoint_minutes (it is 1)."
    )
    for minutes in (0, 20):  # None within these 1000 s.
        sentence = limit(saving, checkpoint_minutes=minutes)
        assert "put [train] saved_models_folder on a faster disk" in sentence


LATE = IN_TIME._replace(waiting=500.0, absent=450.0)


def test_too_few_workers():
    assert limit(LATE, num_cores=16) == (
        "The preprocessing limits: [runtime_preprocessing] num_workers is 4 and this "
        "machine has 16 cores; raise it, up to 15."
    )


def test_as_many_workers_as_there_are_cores():
    sentence = limit(LATE, num_cores=5)
    assert sentence.startswith("The preprocessing limits")
    assert "more would not help" in sentence
    assert "[dataset] training_images" in sentence


@pytest.mark.parametrize(
    ("buffer_size", "sleep_time", "is_cause"),
    # 12.8 images or 0.2 batches per second, so 2 batches in 10 s; 0.8 * 2 are left.
    [(2, 10, True), (3, 10, False), (2, 7, False), (1000, 3600, False)],
)
def test_a_sleep_longer_than_the_buffer_lasts(buffer_size, sleep_time, is_cause):
    settings = {"sleep_time": sleep_time}
    sentence = limit(LATE, preprocessing=settings, buffer_size=buffer_size)
    assert ("buffer_size" in sentence and "sleep_time" in sentence) == is_cause
    assert sentence.startswith("The preprocessing limits")


def test_no_preprocessor():
    sentence = limit(LATE._replace(absent=10.0, unattended=440.0))
    assert "runtime_preprocessing.py was not running for 440 s" in sentence


def test_a_slow_disk():
    slow = LATE._replace(absent=10.0, reading=440.0)
    assert limit(slow).startswith("The hand-off limits")
    assert "[train] buffer_folder" in limit(slow)
    assert 'dtype = "uint8"' in limit(slow)
    assert "uint8" not in limit(slow, dtype="uint8")


class FakeReader:
    """Has the counters of a BatchReader."""

    waited_seconds = reading_seconds = absent_seconds = unattended_seconds = 0.0


def test_the_clock_counts_between_marks(monkeypatch):
    now = iter([100.0, 110.0, 112.0, 115.0, 120.0, 130.0])
    monkeypatch.setattr(training_observer.time, "monotonic", lambda: next(now))
    reader = FakeReader()
    subject = Clock(reader)  # At 100.
    subject.num_images += 5
    with pytest.raises(OSError), subject.saving():  # From 110 to 112.
        raise OSError
    mark = subject.mark()  # At 115.
    subject.num_images += 2
    reader.waited_seconds += 4.0
    reader.absent_seconds += 3.0
    assert subject.since(mark) == Speed(2, 5.0, 4.0, 0.0, 0.0, 3.0, 0.0)  # At 120.
    assert subject.speed() == Speed(7, 30.0, 4.0, 2.0, 0.0, 3.0, 0.0)  # At 130.


def test_the_clock_says_which_host_was_waited_for(monkeypatch):
    """It is the one with the most seconds between two marks, not since the start."""
    now = iter(range(0, 100, 10))
    monkeypatch.setattr(training_observer.time, "monotonic", lambda: next(now))
    reader = FakeReader()
    reader.waits = [7.0, 0.0]
    subject = Clock(reader, [THIS_WORKER, "worker 1, host1:4711"])  # At 0.
    assert subject.speed().slowest == ""
    reader.waits = [8.0, 3.0]
    reader.waited_seconds = 4.0
    speed = subject.speed()  # At 20.
    assert speed.waiting_text() == "waiting 20.0% for worker 1, host1:4711"
    assert "; waiting 20.0% for worker 1, host1:4711, computing 80.0%" in speed.line()
    assert limit(speed).startswith("The preprocessing of worker 1, host1:4711, limits;")


def test_the_slow_host_itself_hears_which_key_helps():
    late = LATE._replace(absent=450.0, slowest=THIS_WORKER)
    assert limit(late) == limit(late._replace(slowest=""))
    assert late.waiting_for().endswith("% for this worker")


def test_nobody_is_named_if_nobody_waits():
    in_time = IN_TIME._replace(waiting=0.9, seconds=100.0, slowest="worker 1, a:1")
    assert in_time.waiting_for() == ""
    assert in_time.waiting_text() == "waiting 0.9%"
