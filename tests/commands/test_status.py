"""Proves what status says about folders in each state, and that it changes nothing."""

import json

import numpy as np
import pytest

from resnet50.checks.health import UnhealthyError
from resnet50.commands import status
from resnet50.config.settings import ConfigError
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer, Rows
from resnet50.handoff.manifest import write_manifest
from resnet50.handoff.progress import Position, write_progress
from resnet50.handoff.waiting import write_waiting
from resnet50.preprocessing.buffer_folder import UnreadableLog
from tests.reports.runs import make_run
from tests.settings import write_small_config


@pytest.fixture
def run_status(tmp_path, monkeypatch, capsys):
    config = write_small_config(tmp_path)  # A buffer of 6 batches, 2 epochs.

    def call(*flags):
        words = ["status", f"--config={config}", "--seconds=0.01", *flags]
        monkeypatch.setattr("sys.argv", words)
        status.main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def buffer(tmp_path):
    """At epoch 1, batch 2 of 10 an epoch; three batches ahead and one behind."""
    buffer = BatchBuffer(tmp_path / "buffer")
    buffer.folder.mkdir()
    write_manifest(buffer.folder, {"num_images": 43, "batch_size": 4})
    write_progress(buffer.folder, Position(1, 2))
    for batch_index in (1, 2, 3, 4):
        images = np.zeros((4, 2, 2, 3), np.float16)
        buffer.write(Position(1, batch_index), images, np.zeros(4, np.int32))
    UnreadableLog(buffer.folder).add("broken.jpg", "no image")
    return buffer


def snapshot(folder):
    return {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


def test_nothing_has_ever_run(tmp_path, run_status):
    before = snapshot(tmp_path)
    output = run_status()
    assert "train.py does not run\n" in output
    assert "runtime_preprocessing.py does not run\n" in output
    assert "position    unknown: " in output
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "buffer").exists()


def test_a_pair_that_has_stopped(tmp_path, run_status, buffer):
    make_run(tmp_path / "saved_models" / "mytestrun", 2)
    before = snapshot(tmp_path)
    output = run_status("--run_folder=mytestrun")
    assert "position    epoch 1, batch 2 of 10; 60.0% of 2 epochs\n" in output
    assert "buffer      3 of 6 batches ready\n" in output
    assert "time left   unknown, nothing is being trained\n" in output
    assert "bad images  1 so far" in output
    assert f"disk        {buffer.folder}: 0.00 GB, " in output
    assert (
        "last epoch  1: loss 6.950, top-1 1.0%, top-5 6.0%, 200.0 images/s, " in output
    )
    assert snapshot(tmp_path) == before


def test_a_running_pair_has_a_speed_and_a_time_left(
    tmp_path, run_status, buffer, monkeypatch
):
    runs = [make_run(tmp_path / "saved_models" / name, 1) for name in ("other", "run")]
    monkeypatch.setattr(status, "steps_per_second", lambda read, seconds: 2.0)
    with (
        locks.exclusive_role(buffer.folder, locks.TRAINER),
        locks.exclusive_role(buffer.folder, locks.PREPROCESSOR),
        locks.exclusive_role(runs[1], locks.TRAINER),
    ):
        output = run_status()
    assert "train.py runs, process " in output
    assert "runtime_preprocessing.py runs, process " in output
    assert "speed       8.0 images/s, 2.00 batches/s (in the last 0.01 s)\n" in output
    assert "time left   4 s at this speed\n" in output  # 8 batches.
    assert f"disk        {runs[1]}: " in output  # The one that is being trained.


def test_the_buffer_may_be_emptied_while_the_trainer_is_watched(
    run_status, buffer, monkeypatch
):
    def empty_the_buffer(read_step, seconds):
        (buffer.folder / "manifest.json").unlink()
        return 2.0

    monkeypatch.setattr(status, "steps_per_second", empty_the_buffer)
    with locks.exclusive_role(buffer.folder, locks.TRAINER):
        assert "speed       8.0 images/s, 2.00 batches/s" in run_status()


def test_without_two_steps_to_see_the_last_epoch_has_the_speed(
    tmp_path, run_status, buffer
):
    folder = make_run(tmp_path / "saved_models" / "run", 1)
    with (
        locks.exclusive_role(buffer.folder, locks.TRAINER),
        locks.exclusive_role(folder, locks.TRAINER),
    ):
        output = run_status()
        assert "200.0 images/s, 50.00 batches/s (in the last epoch; no two" in output
        (folder / "metrics.csv").unlink()
        assert "speed       no two steps in 0.01 s\n" in run_status()


def test_a_finished_training(run_status, buffer):
    write_progress(buffer.folder, Position(2, 0))
    output = run_status()
    assert "position    epoch 2, batch 0 of 10; 100.0% of 2 epochs" in output
    assert "time left   none, all 2 epochs are trained" in output
    assert "of 10; 50.0% of 4 epochs" in run_status("--epoch_end=4")


@pytest.mark.parametrize("content", ["", "nonsense", "-1\n5\n", "1\n10\n"])
def test_an_invalid_position(run_status, buffer, content):
    (buffer.folder / "training_progress.txt").write_text(content)
    output = run_status()
    assert "position    unknown: " in output
    assert "bad images  1 so far" in output


@pytest.mark.parametrize("manifest", ["", "[]", json.dumps({"num_images": "x"})])
def test_a_manifest_that_says_nothing(run_status, buffer, manifest):
    (buffer.folder / "manifest.json").write_text(manifest)
    assert "position    unknown: " in run_status()


@pytest.mark.parametrize("flags", [(), ("--run_folder=run",)])
def test_follow_ends_when_all_epochs_are_trained(tmp_path, run_status, buffer, flags):
    """Without a terminal: a line with the state, and no escape codes."""
    folder = make_run(tmp_path / "saved_models" / "run", 1)
    write_progress(buffer.folder, Position(2, 0))
    with locks.exclusive_role(folder, locks.TRAINER):
        state, last = run_status("--follow", *flags).splitlines()
    assert state.startswith("run: epoch 2, batch 0 of 10; 100.0% of 2 epochs; buffer 0")
    assert last == "all 2 epochs are trained"


@pytest.mark.parametrize(
    "flag", ["--seconds=0", "--epoch_end=0", "--run_folder=none", "--run_folder=a/b"]
)
def test_wrong_flags(run_status, flag):
    with pytest.raises(ConfigError):
        run_status(flag)


def test_speed_is_that_between_the_first_and_the_last_change(monkeypatch):
    clock = iter(np.arange(0, 20, 0.5))
    monkeypatch.setattr(status.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(status.time, "sleep", lambda seconds: None)
    # Seen first at 1.5 s: 8. Then unreadable, 10 at 2.5 s, and 14 at 3.5 s.
    steps = iter([7, 7, 7, 8, None, 10, 10, 14, 14, 14, 14])
    # Polled at 0.5, 1.0, ..., after the start at 0.
    assert status.steps_per_second(lambda: next(steps), 4.6) == (14 - 8) / 2.0
    assert status.steps_per_second(lambda: 5, 2.0) == 0
    steps = iter([5, 6, 6, 6, 6, 6])  # One change has no duration.
    assert status.steps_per_second(lambda: next(steps), 2.0) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.4, "3 s"), (60, "0 h 01 min"), (7260, "2 h 01 min"), (180000, "2 d 2 h")],
)
def test_durations(seconds, text):
    assert status.duration(seconds) == text


def test_a_health_check_names_the_program_that_does_not_run(run_status, buffer):
    with locks.exclusive_role(buffer.folder, locks.TRAINER):
        assert "train.py runs, process " in run_status("--check=train")
        for flag in "--check", "--check=runtime_preprocessing":
            with pytest.raises(UnhealthyError, match=r"preprocessing\.py does not run"):
                run_status(flag)
        with locks.exclusive_role(buffer.folder, locks.PREPROCESSOR):
            *_, first, second = run_status("--check").splitlines()
    assert first.startswith("train.py runs, process ")
    assert second.startswith("runtime_preprocessing.py runs, process ")


def test_which_host_the_training_waits_for(buffer, run_status):
    """Only while a trainer runs; an earlier one may have left the file."""
    write_waiting(buffer.folder, "31.0% for worker 1, host1:4711")
    assert "host1" not in run_status()
    with locks.exclusive_role(buffer.folder, locks.TRAINER):
        line = "waiting     31.0% for worker 1, host1:4711, since the epoch's start\n"
        assert line in run_status()
        write_waiting(buffer.folder, "")
        assert "waiting " not in run_status()


def test_a_buffer_of_some_rows_of_each_batch(buffer, run_status):
    """Its manifest says which rows; other files do not count."""
    manifest = {"num_images": 43, "batch_size": 4, "rows": [2, 3]}
    write_manifest(buffer.folder, manifest)
    part = BatchBuffer(buffer.folder, Rows(2, 4))
    images = np.zeros((2, 2, 2, 3), np.float16)
    part.write(Position(1, 2), images, np.zeros(2, np.int32))
    assert "buffer      1 of 6 batches ready\n" in run_status()
