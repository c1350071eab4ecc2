"""Proves what a terminal and a log file get: lines, and bars with a line of text."""

import contextlib
import errno
import fcntl
import io
import itertools
import os
import re
import select
import struct
import subprocess
import sys
import termios

import pytest
import tqdm.std

from resnet50 import terminal
from resnet50.message_log import newest_messages
from resnet50.terminal import PatientStream, StatusBar, fit, progress_bar, say
from tests.processes import ROOT


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream):
    """What a status bar writes to stderr that is shown twice."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stderr", stream)
    with StatusBar(bar_width=4) as bar:
        assert bar.is_due()
        bar.show("epoch 1", 6, 8, ["loss 1.5", "waiting 0 %"])
        assert not bar.is_due()
        bar.show("epoch 2", 2, 8, ["loss 0.5", "waiting 0 %"])
    return stream.getvalue()


def test_a_bar_on_a_terminal_is_overwritten_and_goes(monkeypatch):
    states = [text.strip() for text in shown(monkeypatch, Terminal()).split("\r")]
    assert "epoch 1 6/8 |### | loss 1.5, waiting 0 %" in states
    assert "epoch 2 2/8 |#   | loss 0.5, waiting 0 %" in states
    assert states[-1] == ""


def test_a_bar_in_a_file_is_a_line_each_time(monkeypatch):
    lines = shown(monkeypatch, io.StringIO()).splitlines()
    assert "epoch 2 2/8 |#   | loss 0.5, waiting 0 %" in lines
    assert not [line for line in lines if not line.strip()]


def test_a_bar_that_is_never_shown_writes_nothing(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with StatusBar(bar_width=4):
        pass
    assert stream.getvalue() == ""


@pytest.mark.parametrize("jump", [-3600, 3600])
@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_clock_that_jumps_neither_stops_a_bar_nor_turns_its_time_back(
    monkeypatch, stream, jump
):
    seconds = itertools.count(1000.0)
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(seconds))
    wall = itertools.chain([0.0], itertools.repeat(jump))
    monkeypatch.setattr(tqdm.std, "time", lambda: next(wall))
    monkeypatch.setattr(sys, "stderr", stream())
    with progress_bar(total=100) as bar:
        for _ in range(100):
            bar.update()
    shown = re.findall(r"(\d+)/100 \[(.*?)<(.*?),", sys.stderr.getvalue())
    assert len(shown) >= 3
    for _, elapsed, left in shown:
        assert re.fullmatch("0[0-9]:[0-9][0-9]", elapsed), shown
        assert re.fullmatch(r"0[0-9]:[0-9][0-9]|\?", left), shown


@pytest.mark.parametrize(
    ("room", "width", "text"),
    [
        (60, 10, "loss 1.5, 8 images/s, buffer 3/4"),
        (42, 10, "loss 1.5, 8 images/s, buffer 3/4"),
        (41, 9, "loss 1.5, 8 images/s, buffer 3/4"),
        (36, 4, "loss 1.5, 8 images/s, buffer 3/4"),
        (35, 10, "loss 1.5, 8 images/s"),
        (11, 10, ""),
        (0, 4, ""),
    ],
)
def test_a_bar_is_shortened_before_a_part_is_left_out(room, width, text):
    parts = "loss 1.5", "8 images/s", "buffer 3/4"
    assert fit(parts, 10, room) == (width, text)
    assert room < 12 or width + len(text) <= room


@pytest.fixture
def open_terminal(monkeypatch):
    """Opens a terminal of some columns as stderr; returns its other end."""
    monkeypatch.setenv("TERM", "xterm")
    with contextlib.ExitStack() as stack:

        def open_it(columns):
            reading, writing = os.openpty()
            stack.callback(os.close, reading)
            size = struct.pack("HHHH", 24, columns, 0, 0)
            fcntl.ioctl(writing, termios.TIOCSWINSZ, size)
            stream = stack.enter_context(os.fdopen(writing, "w", buffering=1))
            monkeypatch.setattr(sys, "stderr", PatientStream(stream))
            return reading

        yield open_it


def written(terminal):
    """What was written; the kernel passes it on in pieces, a moment later."""
    data = b""
    while select.select([terminal], [], [], 0.2)[0]:
        data += os.read(terminal, 2**16)
    return data.decode()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_of_a_bar_wraps(open_terminal, columns):
    """The longest ones of a training on ImageNet."""
    terminal = open_terminal(columns)
    parts = ["waiting 10.0%", "loss 12.345", "12345.6 images/s", "buffer 1000/1000"]
    parts += ["top-1 100.0%"]
    with StatusBar(bar_width=10) as bar:
        bar.show("epoch 100", 20017, 20018, parts)
        say("a line")
    lines = re.split(r"[\r\n]+", written(terminal).replace("\x1b[K", ""))
    assert "a line" in lines
    bars = [line for line in lines if line.startswith("epoch 100 20017/20018 |")]
    assert bars
    assert all(len(line) <= columns for line in lines), lines
    assert all(line.endswith("top-1 100.0%") == (columns == 200) for line in bars)
    assert columns == 40 or all("12345.6 images/s" in line for line in bars)


def test_a_line_replaces_the_bar_of_another_program(open_terminal):
    """In one write, so that nothing comes between its parts."""
    terminal = open_terminal(80)
    say("a line")
    assert written(terminal) == "\r\x1b[Ka line\r\n"


@pytest.mark.parametrize("kind", ["dumb", ""])
def test_a_simple_terminal_gets_no_escape_codes(open_terminal, monkeypatch, kind):
    terminal = open_terminal(80)
    monkeypatch.setenv("TERM", kind)
    with StatusBar(bar_width=10) as bar:
        bar.show("epoch 1", 1, 2, ["loss 1.5"])
        say("a line")
    assert "\x1b" not in written(terminal)


TWO_PROGRAMS = """if True:
    import sys
    from resnet50.terminal import StatusBar, say
    with StatusBar(bar_width=10) as bar:
        for number in range(150):
            bar.show(sys.argv[1], number, 150, ["x" * (number % 40), "loss 1.5"])
            say(f"{sys.argv[1]} says line {number}")
"""


def screen_lines(output):
    """The lines that a terminal shows after some output."""
    lines = []
    for line in output.split("\n"):
        shown = ""
        for text in line.split("\r"):  # Each begins at the left.
            erased = text.split("\x1b[K")
            rest = "" if erased[1:] else shown[len(text) :]
            shown = "".join(erased) + rest
        lines.append(shown.rstrip())
    return lines


def test_two_programs_in_one_terminal_tear_no_line(open_terminal):
    terminal = open_terminal(80)
    names = "first", "second"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROGRAMS, name], cwd=ROOT, stderr=sys.stderr
        )
        for name in names
    ]
    output = b""
    while (
        any(process.poll() is None for process in processes)
        or select.select([terminal], [], [], 0.1)[0]
    ):
        if select.select([terminal], [], [], 0.1)[0]:
            output += os.read(terminal, 2**16)
    lines = screen_lines(output.decode())
    for name in names:
        said = [line for line in lines if line.startswith(f"{name} says")]
        assert said == [f"{name} says line {number}" for number in range(150)]


def test_without_a_program_nothing_is_logged(tmp_path, capsys):
    terminal.keep_messages(tmp_path / "train.log")
    say("a line")
    assert capsys.readouterr().err == "a line\n"
    assert not list(tmp_path.iterdir())


def test_what_a_program_says_is_logged_without_its_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["resnet50 train", "--config=a b.txt"])
    path = tmp_path / "train.log"
    with terminal.messages_logged(), StatusBar(bar_width=4) as bar:
        say("early")
        terminal.keep_messages(path)
        bar.show("epoch 1", 6, 8, ["loss 1.5"])
        terminal.log_only("not for the user")
        say("late")
    texts = [message.text for message in newest_messages(path, 9)]
    command = "resnet50 train '--config=a b.txt'"
    assert texts[0] == f"starts as process {os.getpid()}: {command}"
    assert texts[1:] == ["early", "not for the user", "late"]
    assert "not for the user" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.EIO, "gone")])
def test_a_stream_without_a_reader_does_no_harm(error):
    class Gone(io.StringIO):
        def write(self, text):
            raise error

        def flush(self):
            raise error

    stream = PatientStream(Gone())
    print("a line", file=stream, flush=True)
    assert not stream.isatty()


def test_a_stream_with_a_reader_gets_all():
    text = io.StringIO()
    print("a line", file=PatientStream(text), flush=True)
    assert text.getvalue() == "a line\n"
