"""Proves what a terminal and a log file get: lines, and bars with a line of text."""

import errno
import io
import itertools
import re
import sys

import pytest
import tqdm.std

from resnet50 import terminal
from resnet50.terminal import PatientStream, StatusBar, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream):
    """What a status bar writes to stderr that is shown twice."""
    monkeypatch.setattr(sys, "stderr", stream)
    with StatusBar(bar_width=4) as bar:
        assert bar.is_due()
        bar.show("epoch 1", 6, 8, "loss 1.5, waiting 0 %")
        assert not bar.is_due()
        bar.show("epoch 2", 2, 8, "loss 0.5, waiting 0 %")
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
