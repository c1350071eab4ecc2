"""Proves what a terminal and a log file get: lines, and bars with a line of text."""

import errno
import io
import sys

import pytest

from resnet50.terminal import PatientStream, StatusBar


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
