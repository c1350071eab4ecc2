"""Proves what a host says about whom the training waits for, and when that counts."""

import pytest

from resnet50.handoff import locks
from resnet50.handoff.waiting import FILE_NAME, read_waiting, write_waiting


@pytest.mark.parametrize("text", ["31.0% for worker 1, host1:4711", ""])
def test_the_text_of_a_running_trainer_is_read(tmp_path, text):
    write_waiting(tmp_path, text)
    assert read_waiting(tmp_path) == ""
    with locks.exclusive_role(tmp_path, locks.TRAINER):
        assert read_waiting(tmp_path) == text


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 2000, None])
def test_another_file_says_nothing(tmp_path, content):
    with locks.exclusive_role(tmp_path, locks.TRAINER):
        if content is not None:
            (tmp_path / FILE_NAME).write_bytes(content)
        assert read_waiting(tmp_path) == ""


def test_a_file_cannot_control_the_terminal(tmp_path):
    with locks.exclusive_role(tmp_path, locks.TRAINER):
        (tmp_path / FILE_NAME).write_bytes(b"\x1b[2J1%\n2%")
        assert read_waiting(tmp_path).isprintable()
