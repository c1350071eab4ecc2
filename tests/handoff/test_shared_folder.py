"""Proves what a shared buffer knows beyond its listing, which can be old on NFS.

A listing that lags is simulated by an earlier one.
"""

import json
import pickle

import numpy as np
import pytest

from resnet50.atomic_io import remove_temporaries
from resnet50.handoff import shared_folder
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import write_manifest
from resnet50.handoff.progress import Position
from resnet50.handoff.shared_folder import NotSharedError, SharedBuffer

MANIFEST = {"batch_size": 2, "channel_mean": (0.5, 0.5, 0.5)}
FIRST, SECOND = Position(0, 0), Position(0, 1)
BOTH = {"images", "labels"}


@pytest.fixture
def buffer(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    return SharedBuffer(tmp_path, MANIFEST)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(shared_folder, "time", clock)
    return clock


@pytest.fixture
def old_listing(monkeypatch):
    """Returns a function that freezes the listing."""

    def freeze(buffer):
        found = BatchBuffer.files(buffer)
        monkeypatch.setattr(
            BatchBuffer, "files", lambda self: {p: set(k) for p, k in found.items()}
        )

    return freeze


def write(buffer, position):
    images = np.zeros((2, 4, 4, 3), np.float32)
    buffer.write(position, images, np.zeros(2, np.int32))


def test_confirmed_batch_is_there_until_the_listing_must_have_it(
    buffer, clock, old_listing
):
    write(buffer, FIRST)
    old_listing(buffer)
    write(buffer, SECOND)
    assert buffer.files() == {FIRST: BOTH}
    buffer.confirm(SECOND)
    assert buffer.files() == {FIRST: BOTH, SECOND: BOTH}
    clock.now += 59
    assert buffer.ready() == {FIRST, SECOND}
    clock.now += 2
    assert buffer.ready() == {FIRST}


def test_deleted_batch_is_gone_at_once(buffer, clock, old_listing):
    old_listing(buffer)
    write(buffer, FIRST)
    buffer.confirm(FIRST)
    buffer.delete(FIRST)
    assert buffer.files() == {}


def test_batch_that_was_deleted_before_its_worker_reports_is_no_error(buffer, clock):
    write(buffer, FIRST)
    buffer.delete(FIRST)
    buffer.confirm(FIRST)
    assert buffer.files() == {}


def test_batch_that_never_appears_is_an_error(buffer, clock):
    with pytest.raises(NotSharedError, match="a worker has written it, and it is not"):
        buffer.confirm(FIRST)
    write(buffer, FIRST)
    buffer.labels_path(FIRST).unlink()
    with pytest.raises(NotSharedError, match="labels_0000_00000"):
        buffer.confirm(FIRST)


def test_worker_gets_the_manifest_and_nothing_that_grows(buffer, clock):
    empty = len(pickle.dumps(buffer))
    for batch_index in range(50):
        write(buffer, Position(0, batch_index))
        buffer.confirm(Position(0, batch_index))
    assert len(pickle.dumps(buffer)) == empty
    copy = pickle.loads(pickle.dumps(buffer))
    copy.require_same_folder()
    assert copy.folder == buffer.folder


def test_worker_left_behind_by_its_preprocessor_writes_nothing(buffer):
    write_manifest(buffer.folder, {**MANIFEST, "batch_size": 4})
    with pytest.raises(NotSharedError, match="batch_size is 4 there and 2 here"):
        write(buffer, FIRST)
    (buffer.folder / "manifest.json").unlink()
    with pytest.raises(NotSharedError, match="it has no manifest"):
        write(buffer, FIRST)
    assert list(buffer.folder.iterdir()) == []


def test_probe_is_found_and_removed(buffer):
    probe = buffer.leave_probe()
    assert buffer.find_probe(probe)
    assert not probe.exists()


def test_probe_of_another_folder_is_not_found(buffer, tmp_path, clock):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_manifest(elsewhere, MANIFEST)
    probe = SharedBuffer(elsewhere, MANIFEST).leave_probe()
    assert not buffer.find_probe(buffer.folder / probe.name)


def test_probe_that_nobody_waited_for_is_deleted_with_the_temporaries(buffer):
    probe = buffer.leave_probe()
    remove_temporaries(buffer.folder, ".npy")
    assert not probe.exists()


def test_worker_waits_for_the_manifest(buffer, clock, monkeypatch):
    there = json.loads(json.dumps(MANIFEST))
    answers = [None, None, there]
    monkeypatch.setattr(shared_folder, "read_manifest", lambda folder: answers.pop(0))
    assert buffer.leave_probe().exists()
    assert answers == []
