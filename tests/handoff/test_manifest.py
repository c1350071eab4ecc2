"""Proves that batches of other settings are never used.

The trainer refuses them. The preprocessor replaces them and says so, unless a running
trainer needs them.
"""

import errno
import os
import time
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest

from resnet50.handoff import locks, manifest
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import (
    FILE_NAME,
    ManifestCheck,
    ManifestError,
    adopt_buffer,
    differences,
    manifest_rows,
    open_buffer,
    read_manifest,
    require_same,
    write_manifest,
)
from resnet50.handoff.progress import Position
from tests import recorded_disk

OURS = {
    "batch_size": 32,
    "seed": 0,
    "dtype": "float16",
    "channel_mean": [0.1, 0.2, 0.3],
}
THEIRS = {**OURS, "batch_size": 64, "seed": 1}


@pytest.fixture
def buffer(tmp_path):
    """A buffer with two batches, half a batch and a temporary, and no manifest."""
    buffer = BatchBuffer(tmp_path)
    for batch_index in range(3):
        images = np.zeros((1, 2, 2, 3), np.float16)
        buffer.write(Position(0, batch_index), images, np.zeros(1, np.int32))
    buffer.images_path(Position(0, 2)).unlink()
    (tmp_path / ".writing-killed.npy.tmp").touch()
    return buffer


def adopt(buffer, manifest=OURS) -> list[str]:
    """Adopts a buffer and returns what was said."""
    said = []
    adopt_buffer(buffer, manifest, said.append)
    assert read_manifest(buffer.folder) == manifest
    assert list(buffer.folder.glob(".writing-*")) == []
    return said


def test_round_trip(tmp_path):
    assert read_manifest(tmp_path) is None
    write_manifest(tmp_path, OURS)
    assert read_manifest(tmp_path) == OURS
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_differences_name_both_values_in_our_order():
    assert differences(OURS, OURS) == []
    assert differences(THEIRS, OURS) == [
        "batch_size is 64 there and 32 here",
        "seed is 1 there and 0 here",
    ]
    assert differences({"old": 3, "seed": 0}, {"new": 4, "seed": 0}) == [
        "new is absent there and 4 here",
        "old is 3 there and absent here",
    ]


def test_tuples_equal_lists_as_in_json(tmp_path):
    write_manifest(tmp_path, OURS)
    assert require_same(tmp_path, {**OURS, "channel_mean": (0.1, 0.2, 0.3)})


def test_same_settings_keep_the_batches(buffer):
    write_manifest(buffer.folder, OURS)
    assert adopt(buffer) == []
    assert buffer.ready() == {(0, 0), (0, 1)}


def test_stale_batches_are_replaced_and_said(buffer):
    write_manifest(buffer.folder, THEIRS)
    assert adopt(buffer) == [
        f"{buffer.folder}: batch_size is 64 there and 32 here; seed is 1 there and 0 "
        "here; replacing 3 stale batches"
    ]
    assert buffer.files() == {}


@pytest.mark.parametrize(
    "content", [b"", b'{"batch_size": 32, "se', b"[]", b"null", b"\xff\x00"], ids=repr
)
def test_batches_under_a_torn_manifest_are_not_used(buffer, content):
    (buffer.folder / FILE_NAME).write_bytes(content)
    assert read_manifest(buffer.folder) == {}
    with pytest.raises(ManifestError, match="batch_size is absent there and 32 here"):
        require_same(buffer.folder, OURS)
    adopt(buffer)
    assert buffer.files() == {}


def test_batches_without_a_manifest_are_not_used(buffer):
    assert not require_same(buffer.folder, OURS)
    adopt(buffer)
    assert buffer.files() == {}


def test_stale_batches_are_deleted_before_the_new_manifest_is_written(
    buffer, monkeypatch
):
    """If the preprocessor is killed in between, nobody uses the rest."""
    write_manifest(buffer.folder, THEIRS)

    def die(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(buffer, "clear", lambda: die(buffer.folder))
    with pytest.raises(KeyboardInterrupt):
        adopt_buffer(buffer, OURS, lambda line: None)
    assert read_manifest(buffer.folder) is None


def test_after_a_power_cut_no_manifest_is_beside_other_batches(buffer, monkeypatch):
    """Each of the three steps reaches the disk before the next one starts."""
    write_manifest(buffer.folder, THEIRS)
    calls = recorded_disk.record(monkeypatch)
    adopt(buffer)
    folder = buffer.folder.name
    calls = [call for call in calls if not call[1].startswith(".writing-killed")]
    deleted, flushed, *_ = [list(group) for _, group in groupby(calls, lambda c: c[0])]
    assert deleted[0] == ("delete", FILE_NAME) and len(deleted) > 1
    assert flushed[0] == ("flush", folder)
    assert calls[-2:] == [("name", FILE_NAME), ("flush", folder)]


def test_living_trainer_keeps_its_batches(buffer):
    write_manifest(buffer.folder, THEIRS)
    with locks.exclusive_role(buffer.folder, locks.TRAINER):
        with pytest.raises(ManifestError) as caught:
            adopt_buffer(buffer, OURS, lambda line: None)
        trainer = locks.owner(buffer.folder, locks.TRAINER)
    assert str(caught.value) == (
        f"{buffer.folder}: batch_size is 64 there and 32 here; seed is 1 there and 0 "
        f"here (there: the train.py that is running, process {trainer}; start this "
        "with its settings, or stop it)"
    )
    assert buffer.ready() == {(0, 0), (0, 1)}
    assert read_manifest(buffer.folder) == THEIRS


def test_living_trainer_of_the_same_settings_is_no_obstacle(buffer):
    write_manifest(buffer.folder, OURS)
    with locks.exclusive_role(buffer.folder, locks.TRAINER):
        assert adopt(buffer) == []
    assert buffer.ready() == {(0, 0), (0, 1)}


def test_living_trainer_that_waits_for_a_first_manifest_is_no_obstacle(buffer):
    with locks.exclusive_role(buffer.folder, locks.TRAINER):
        adopt(buffer)


def test_trainer_refuses_other_settings_and_says_where_to_change_them(tmp_path):
    write_manifest(tmp_path, THEIRS)
    differences = "batch_size is 64 there and 32 here; seed is 1 there and 0 here"
    with pytest.raises(ManifestError) as caught:
        require_same(tmp_path, OURS)
    assert str(caught.value) == (
        f"{tmp_path}: {differences} (there: the batches of an earlier "
        "runtime_preprocessing.py; start it with the settings of this terminal, and "
        "it replaces them, then start this one again)"
    )
    with (
        locks.exclusive_role(tmp_path, locks.PREPROCESSOR),
        pytest.raises(ManifestError) as caught,
    ):
        require_same(tmp_path, OURS)
    assert str(caught.value) == (
        f"{tmp_path}: {differences} (there: the batches of runtime_preprocessing.py; "
        "restart that one with the settings of this terminal, and it replaces them, or "
        "this one with those)"
    )


def test_trainer_waits_for_a_preprocessor_that_replaces_the_manifest(
    buffer, monkeypatch
):
    """After a change of the settings both may start at the same moment."""
    write_manifest(buffer.folder, THEIRS)
    lines = []
    monkeypatch.setattr(
        manifest.time, "sleep", lambda _: adopt_buffer(buffer, OURS, lines.append)
    )
    assert require_same(buffer.folder, OURS, wait_seconds=60)
    assert len(lines) == 1 and "replacing 3 stale batches" in lines[0]


def test_trainer_does_not_wait_longer(tmp_path, clock, monkeypatch):
    write_manifest(tmp_path, THEIRS)

    def sleep(seconds):
        clock.now += seconds

    monkeypatch.setattr(manifest.time, "sleep", sleep)
    with pytest.raises(ManifestError):
        require_same(tmp_path, OURS, wait_seconds=5)
    assert clock.now == pytest.approx(1005, abs=0.2)


@pytest.mark.parametrize("read", [read_manifest, lambda f: require_same(f, OURS)])
def test_a_pipe_in_its_place_does_not_block(tmp_path, read):
    os.mkfifo(tmp_path / FILE_NAME)
    with pytest.raises((OSError, ManifestError), match="is not a regular file"):
        read(tmp_path)


def test_a_manifest_that_never_ends_is_refused(tmp_path):
    with (tmp_path / FILE_NAME).open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ManifestError, match="1,073,741,824 bytes, more than"):
        require_same(tmp_path, OURS)


@pytest.fixture
def parsed(monkeypatch):
    """Gets every manifest that is parsed."""
    found, parse = [], manifest._parse
    monkeypatch.setattr(
        manifest, "_parse", lambda content: found.append(content) or parse(content)
    )
    return found


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock; the test moves it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(manifest.time, "monotonic", lambda: clock.now)
    return clock


@pytest.mark.parametrize("hours", [0, -1, 1])
def test_a_manifest_is_soon_parsed_once_for_many_batches(
    tmp_path, parsed, clock, monkeypatch, hours
):
    """Whatever the wall clock says about the file's time."""
    check = ManifestCheck(tmp_path, OURS)
    assert not check.is_same()
    write_manifest(tmp_path, OURS)
    at = time.time() + 3600 * hours
    os.utime(tmp_path / FILE_NAME, (at, at))
    for seconds in 0, 1, 1.5:
        clock.now += seconds
        assert check.is_same()
    assert len(parsed) == 3
    assert all(check.is_same() for _ in range(100))
    assert len(parsed) == 3


def test_a_replaced_or_deleted_manifest_is_noticed_at_once(tmp_path, parsed, clock):
    check = ManifestCheck(tmp_path, OURS)
    for content in OURS, {**OURS, "seed": 1}, OURS, {**OURS, "seed": 2}:
        write_manifest(tmp_path, content)
        if content == OURS:
            for _ in range(5):
                assert check.is_same()
                clock.now += 3
        else:
            with pytest.raises(ManifestError, match=r"seed is [12] there and 0 here"):
                check.is_same()
    assert len(parsed) == 6
    (tmp_path / FILE_NAME).unlink()
    assert not check.is_same()


@pytest.mark.parametrize("hours", [0, 1])
def test_a_change_within_one_tick_of_the_clock_is_noticed(tmp_path, monkeypatch, hours):
    """The new file has the size, the time and even the inode of the old one.

    Also if the wall clock is set forward meanwhile, so that the file looks old.
    """
    check = ManifestCheck(tmp_path, OURS)
    write_manifest(tmp_path, OURS)
    later = time.time_ns() + hours * 3600 * 10**9
    monkeypatch.setattr(manifest.time, "time_ns", lambda: later)
    before = (tmp_path / FILE_NAME).stat()
    assert check.is_same()
    content = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(content.replace(b'"seed": 0', b'"seed": 1'))
    os.utime(tmp_path / FILE_NAME, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = (tmp_path / FILE_NAME).stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_size,
    )
    with pytest.raises(ManifestError, match="seed is 1 there and 0 here"):
        check.is_same()


def test_a_manifest_that_cannot_be_read_or_written_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / FILE_NAME
    path.mkdir()
    with pytest.raises(ManifestError) as caught:
        require_same(tmp_path, OURS)
    assert str(caught.value) == f"{path}: cannot be read: Is a directory"
    path.rmdir()

    def fail(folder, manifest):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(manifest, "write_manifest", fail)
    with pytest.raises(ManifestError) as caught:
        adopt_buffer(BatchBuffer(tmp_path), OURS, print)
    assert str(caught.value) == (
        f"{tmp_path}: cannot be prepared: [Errno 28] No space left on device (see "
        "[train] buffer_folder)"
    )


def test_a_damaged_manifest_gives_one_line_per_value():
    theirs = {"seed": "a\nb\x1b", "new\nline": "x" * 9_000}
    lines = differences(theirs, {"seed": 0})
    assert lines[0] == r"seed is a\nb\x1b there and 0 here"
    assert lines[1].startswith(r"new\nline is xxx")
    assert len(lines[1]) == 4_000


def test_a_buffer_of_another_share_is_replaced_or_refused(tmp_path):
    """By the preprocessor and by the trainer, each in one line."""
    theirs, ours = OURS | {"rows": [0, 1]}, OURS | {"rows": [2, 3]}
    buffers = [BatchBuffer(tmp_path, manifest_rows(m)) for m in (theirs, ours)]
    images, labels = np.zeros((2, 4, 4, 3), np.float16), np.zeros(2, np.int32)
    buffers[0].write(Position(0, 1), images, labels)
    write_manifest(tmp_path, theirs)
    with pytest.raises(ManifestError) as caught:
        require_same(tmp_path, ours)
    line = (
        f"{tmp_path}: rows is [0, 1] there and [2, 3] here (both programs of a host "
        "need its TF_CONFIG)"
    )
    assert str(caught.value).startswith(f"{line} (there: the batches of an earlier ")
    said = []
    adopt_buffer(buffers[1], ours, said.append)
    assert said == [f"{line}; replacing 1 stale batches"]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert open_buffer(tmp_path).images_path(Position(0, 1)).name == (
        "images_0000_00001_rows_2_3.npy"
    )


@pytest.mark.parametrize("rows", [None, [1], [1, 2, 3], ["0", "1"], "01", {}])
def test_wrong_rows_of_a_manifest_count_as_all(rows):
    assert manifest_rows({"rows": rows}) is None
