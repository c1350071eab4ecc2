"""Proves that starts.jsonl keeps every start, and survives damage."""

import dataclasses
import json
import os
import subprocess

import pytest

from resnet50.reports.starts import (
    StartsError,
    find_commit,
    read_starts,
    record_start,
    recorded_settings,
)
from tests.settings import SETTINGS


def start(epoch, batch=0, **settings):
    return {
        "epoch": epoch,
        "batch": batch,
        "versions": {"numpy": "2"},
        "settings": {"train": settings},
    }


def positions(path):
    return [(record["epoch"], record["batch"]) for record in read_starts(path)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "starts.jsonl"


def test_each_start_is_a_line_with_its_time(path):
    record_start(path, start(0, seed=7))
    record_start(path, start(3, 120, seed=7))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 3]
    assert all(line["time"].endswith("+00:00") for line in lines)
    assert [s["settings"]["train"] for s in read_starts(path)] == [{"seed": 7}] * 2


def test_starts_from_an_earlier_position_replace_those_after_it(path):
    """So a crash at the start, or a resume from an earlier epoch, leaves no trace."""
    for position in (0, 0), (0, 0), (3, 5), (9, 0), (3, 5), (4, 0):
        record_start(path, start(*position))
    assert positions(path) == [(0, 0), (3, 5), (4, 0)]
    assert len(path.read_text().splitlines()) == 6


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe\x00",
        b"{",
        b"[1]",
        b"7",
        b'{"epoch": 1, "batch": null}',
        b'{"epoch": "1", "batch": 0, "versions": {}, "settings": {}}',
        b'{"epoch": 1, "batch": 0, "versions": {}, "settings": {"train": 5}}',
        b'{"epoch": 1, "batch": 0, "versions": [], "settings": {}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_hides_no_other(path, damage):
    record_start(path, start(0))
    with path.open("ab") as file:
        file.write(damage)  # Without a line break, as a torn line.
    record_start(path, start(2))
    assert positions(path) == [(0, 0), (2, 0)]
    assert damage in path.read_bytes()


def test_without_a_file_there_are_no_starts(path):
    assert read_starts(path) == []


def make_huge(path):
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, make_huge])
def test_a_pipe_or_a_huge_file_is_refused_and_stays(path, make):
    make(path)
    for use in read_starts, lambda path: record_start(path, start(0)):
        with pytest.raises(StartsError, match=r"cannot be read: .*\(move it away\)"):
            use(path)
    assert not path.is_file() or path.stat().st_size == 2**40


def git(folder, *words):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True)


def test_the_commit_says_whether_a_tracked_file_was_modified(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # As in a hook.
    (tmp_path / "untracked").touch()
    commit = find_commit(tmp_path)
    assert len(commit) == 12
    assert int(commit, 16) > 0
    (tmp_path / "code.py").write_text("2")
    assert find_commit(tmp_path) == f"{commit}, modified"


def test_there_is_no_commit_without_a_checkout_or_git(tmp_path, monkeypatch):
    assert find_commit(tmp_path / "missing") is None
    git(tmp_path, "init", "-q")
    assert find_commit(tmp_path) is None  # Nothing is committed yet.
    inside = tmp_path / "site-packages"
    inside.mkdir()
    git(tmp_path, "commit", "-qm", "first", "--allow-empty")
    assert find_commit(tmp_path) is not None
    assert find_commit(inside) is None
    monkeypatch.setenv("PATH", "")
    assert find_commit(tmp_path) is None


def test_settings_are_recorded_without_secrets():
    images = "https://me:secret@host/{a,b}.tar?X-Sig=secret"
    dataset = dataclasses.replace(SETTINGS.dataset, training_images=images)
    settings = recorded_settings(dataclasses.replace(SETTINGS, dataset=dataset))
    assert settings["dataset"]["training_images"] == "https://host/{a,b}.tar"
    assert settings["train"] == dataclasses.asdict(SETTINGS.train)
