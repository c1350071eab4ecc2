"""Proves that training_progress.txt returns the position that was written.

Any other content is rejected.
"""

import errno
import os

import pytest

from resnet50.handoff.progress import (
    FILE_NAME,
    Position,
    ProgressError,
    read_progress,
    to_position,
    to_step,
    write_progress,
)

BATCHES_PER_EPOCH = 5
END_STEP = 15


def raise_disk_full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_positions_and_steps_are_one_to_one():
    positions = [to_position(step, BATCHES_PER_EPOCH) for step in range(END_STEP)]
    assert positions[:6] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]
    assert positions == sorted(set(positions))
    steps = [to_step(position, BATCHES_PER_EPOCH) for position in positions]
    assert steps == list(range(END_STEP))
    assert to_step(Position(3, 4), 20_018) == 3 * 20_018 + 4


def test_position_reads_as_words():
    assert str(Position(3, 120)) == "epoch 3, batch 120"


def test_round_trip_of_every_position_up_to_the_end(tmp_path):
    for step in range(END_STEP + 1):
        write_progress(tmp_path, to_position(step, BATCHES_PER_EPOCH))
        assert read_progress(tmp_path, BATCHES_PER_EPOCH, END_STEP) == step
    assert (tmp_path / FILE_NAME).read_bytes() == b"3\n0\n"
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(
    "content", [b"2\n4", b"2\n4\n", b"2\r\n4\r\n", b"02\n004\n\n"], ids=repr
)
def test_what_an_editor_may_leave_is_read(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    assert read_progress(tmp_path, BATCHES_PER_EPOCH, END_STEP) == 14


TWO_LINES = "expected two lines, the epoch and the batch index"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"\n", TWO_LINES),
        (b"2", TWO_LINES),
        (b"2\n", TWO_LINES),
        (b"2\n\n", TWO_LINES),
        (b"2 4\n", TWO_LINES),
        (b"2\n4\n1\n", TWO_LINES),
        (b"-1\n4\n", TWO_LINES),
        (b"2\n-4\n", TWO_LINES),
        (b"+2\n4\n", TWO_LINES),
        (b"2.0\n4\n", TWO_LINES),
        (b"1_0\n4\n", TWO_LINES),
        (b"two\nfour\n", TWO_LINES),
        ("\u0662\n\u0664\n".encode(), TWO_LINES),
        (b"\x00" * 4, TWO_LINES),
        (bytes(range(256)), TWO_LINES),
        (b"1" * 19 + b"\n0\n", TWO_LINES),
        (b"0\n" + b"0" * 10_000_000, TWO_LINES),
        (b"2\n5\n", "says epoch 2, batch 5, outside this training"),
        (b"0\n15\n", "says epoch 0, batch 15, outside this training"),
        (b"3\n1\n", "says epoch 3, batch 1, outside this training"),
        (b"4\n0\n", "says epoch 4, batch 0, outside this training"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_garbage_is_refused_and_named(tmp_path, content, expected):
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    with pytest.raises(ProgressError) as caught:
        read_progress(tmp_path, BATCHES_PER_EPOCH, END_STEP)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message
    assert len(message) < 300 + len(str(path))


def test_absent_file_and_folder_in_its_place(tmp_path):
    path = tmp_path / FILE_NAME
    with pytest.raises(ProgressError) as caught:
        read_progress(tmp_path, BATCHES_PER_EPOCH, END_STEP)
    assert str(caught.value) == f"{path}: does not exist (train.py writes it)"
    path.mkdir()
    with pytest.raises(ProgressError) as caught:
        read_progress(tmp_path, BATCHES_PER_EPOCH, END_STEP)
    assert str(caught.value) == f"{path}: cannot be read: Is a directory"


@pytest.mark.parametrize("old", [b"2\n4\n", b"0\n12345\n", b"garbage " * 9])
def test_full_disk_has_room_for_the_old_file_changed_in_place(
    tmp_path, monkeypatch, old
):
    """Otherwise no batch would be deleted, and the disk would stay full."""
    path = tmp_path / FILE_NAME
    path.write_bytes(old)
    monkeypatch.setattr(type(path), "replace", raise_disk_full)
    write_progress(tmp_path, Position(1, 2))
    assert path.read_bytes() == b"1\n2\n"
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


def test_full_disk_without_a_file_to_change_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(type(tmp_path), "replace", raise_disk_full)
    with pytest.raises(OSError):
        write_progress(tmp_path, Position(1, 2))
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_in_its_place_does_not_block(tmp_path):
    os.mkfifo(tmp_path / FILE_NAME)
    with pytest.raises(ProgressError, match="is not a regular file"):
        read_progress(tmp_path, BATCHES_PER_EPOCH, END_STEP)
