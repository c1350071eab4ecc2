"""Proves that a program's messages are kept in a file, and never stop the program."""

import os
from pathlib import Path

import pytest

from resnet50 import message_log
from resnet50.message_log import MessageLog, newest_messages
from tests.processes import python_process


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train.log"


@pytest.fixture
def log(path):
    log = MessageLog()
    log.keep_in(path)
    return log


def texts(path, number=100):
    return [message.text for message in newest_messages(path, number)]


def test_messages_of_several_lines_are_read_as_they_were_said(log, path):
    said = ["epoch 0: loss 2.706", "stopped; resume with:\n    python3 train.py", ""]
    for text in said:
        log.add(text)
    assert texts(path) == said
    assert texts(path, 2) == said[1:]
    first, _, third, _ = path.read_text().splitlines()
    assert first.endswith(" epoch 0: loss 2.706")
    assert third == "        python3 train.py"
    (message, *_) = newest_messages(path, 3)
    assert message.time.isoformat(" ") == first.removesuffix(" epoch 0: loss 2.706")
    assert message.time.utcoffset() is not None


def test_messages_from_before_the_file_is_known_are_kept(path):
    log = MessageLog()
    for number in range(150):
        log.add(f"early {number}")
    log.keep_in(path)
    log.add("late")
    assert texts(path) == [*(f"early {number}" for number in range(51, 150)), "late"]
    assert len(path.read_text().splitlines()) == 101


def test_a_restart_adds_to_the_file(log, path):
    log.add("first")
    again = MessageLog()
    again.keep_in(path)
    again.add("second")
    assert texts(path) == ["first", "second"]


def test_a_large_file_is_put_aside_once(log, path, monkeypatch):
    monkeypatch.setattr(message_log, "_MAX_BYTES", 1000)
    for number in range(100):
        log.add(f"message {number}")
    assert sorted(p.name for p in path.parent.iterdir()) == ["train.log", "train.log.1"]
    older = path.with_name("train.log.1")
    assert 0 < path.stat().st_size <= 1000 and older.stat().st_size <= 1000
    numbers = [int(text.split()[1]) for text in texts(older) + texts(path)]
    assert numbers == list(range(numbers[0], 100)) and len(numbers) > 20


def test_a_message_after_a_torn_one_begins_a_line(log, path):
    log.add("whole")
    with path.open("a") as file:
        file.write("2026-11-26 12:00")  # Then the power went.
    log.add("after")
    assert texts(path) == ["whole\n2026-11-26 12:00", "after"]


@pytest.mark.parametrize("obstacle", ["no folder", "a folder", "a pipe", "read-only"])
def test_what_cannot_be_written_is_dropped(path, obstacle):
    target = path.parent / "gone" / "train.log" if obstacle == "no folder" else path
    if obstacle == "a folder":
        path.mkdir()
    elif obstacle == "a pipe":  # Nobody reads it, so opening it would block.
        os.mkfifo(path)
    elif obstacle == "read-only":
        target = Path("/proc/version")
    log = MessageLog()
    log.add("early")
    log.keep_in(target)
    log.add("late")
    assert newest_messages(target, 5) == []


def test_a_file_that_was_deleted_begins_anew(log, path):
    log.add("lost")
    path.unlink()
    log.add("kept")
    assert texts(path) == ["kept"]


@pytest.mark.parametrize(
    "content", [b"", b"no log\n", b"\xff\xfe\x00", b"2026-13-99 00:00:00+00:00 x\n"]
)
def test_a_file_that_is_no_log_has_no_messages(path, content):
    path.write_bytes(content)
    assert newest_messages(path, 5) == []


def test_only_the_end_of_a_long_log_is_read(log, path):
    for number in range(2000):
        log.add(f"{number} " + "x" * 100)
    assert texts(path, 3)[-1].startswith("1999 ")
    assert len(texts(path, 10_000)) < 600


def test_a_killed_program_leaves_whole_messages(path):
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from resnet50 import terminal\n"
        "with terminal.messages_logged():\n"
        "    terminal.keep_messages(Path(sys.argv[1]))\n"
        "    terminal.say('epoch 0')\n"
        "    terminal.log_only('of no interest')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    with python_process(program, path) as process:
        assert process.wait(60) == -9
    start, *others = texts(path)
    assert start == f"starts as process {process.pid}: -c {path}"
    assert others == ["epoch 0", "of no interest"]
