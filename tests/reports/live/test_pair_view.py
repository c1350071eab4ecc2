"""Proves that the view of a pair fits every terminal, and needs none."""

import io
import re

import pytest
from rich.console import Console

from resnet50.handoff.locks import PREPROCESSOR, TRAINER
from resnet50.reports.live import pair_view, pair_watch
from resnet50.reports.live.pair_view import PairView, follow, is_live, plain_line
from resnet50.reports.live.pair_watch import PairWatch
from tests.reports.live.pairs import Pair


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """A pair in its sixth step, with a message that could not be shown as it is."""
    pair = Pair(tmp_path, num_epochs=30)
    monkeypatch.setattr(pair_watch.time, "monotonic", lambda: pair.seconds)
    pair.start(TRAINER, PREPROCESSOR)
    for number in range(15):
        pair.say(TRAINER, f"epoch {number}: [bold]loss[/bold] " + 10 * "long ")
    pair.say(PREPROCESSOR, "\x1b[2Jimage\n    of two lines")
    yield pair
    pair.stop()


@pytest.fixture
def state(pair):
    watch = PairWatch(pair.config, None, epoch_end=2)
    for step in range(6):
        pair.train_to(step)
        pair.make(step, step + 1)
        state = watch.poll()
        pair.seconds += 1
    return state


def shown(view, width, height, encoding="utf-8", **settings):
    """The lines of a view on a terminal."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(
        file=stream, width=width, height=height, force_terminal=True, **settings
    )
    console.print(view)
    stream.seek(0)
    return stream.read().splitlines()


def test_what_a_view_shows(state):
    text = "\n".join(shown(PairView(state), 80, 40, no_color=True, color_system=None))
    for words in (
        "mine: epoch 0, batch 5 of 10",
        "25.0% of 2 epochs, 15 s left",
        "2 of 6 batches ready",
        "trainer      4.0 images/s, 1.00 batches/s, process ",
        "preprocessor 4.0 images/s, 1.00 batches/s, process ",
        "last epoch   loss 5.550, top-1 29.0%, waiting 20.0% in epoch 29",
        "The trainer limits, batches are there in time; ",
        "loss of epochs 0 to 29",
        "\n7.000 ",
        "\n5.550 ",
        " trainer      epoch 14: [bold]loss[/bold] long",
        " preprocessor \\x1b[2Jimage\n",
    ):
        assert words in text, text
    assert "of two lines" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (40, 10), (20, 5)])
def test_a_view_fits_its_terminal(state, width, height):
    lines = shown(PairView(state), width, height, no_color=True, color_system=None)
    assert all(len(line) <= width for line in lines)
    assert len(lines) < height or height < 12
    assert len(shown(PairView(state, height=16), width, 60)) < 16 or width < 80


def test_a_view_in_ascii(state):
    """Messages excepted, which are as they were said."""
    view = PairView(state._replace(messages=[]))
    text = "\n".join(shown(view, 80, 40, encoding="ascii"))
    assert text.isascii()
    assert re.search("trained -+", re.sub(r"\x1b\[[0-9;]*m", "", text))
    assert "7.000" in text


@pytest.mark.parametrize("is_set", [True, False])
def test_no_color_is_honoured(state, monkeypatch, is_set):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if is_set:
        monkeypatch.setenv("NO_COLOR", "1")
    text = "\n".join(shown(PairView(state), 80, 24, color_system="standard"))
    colours = re.findall(r"\x1b\[(?:\d+;)*(?:3|9)[0-7]m", text)
    assert bool(colours) != is_set
    assert "mine: epoch 0, batch 5 of 10" in text


def test_a_pair_that_does_not_run(pair):
    pair.stop()
    state = PairWatch(pair.config, None, epoch_end=2).poll()
    text = "\n".join(shown(PairView(state), 80, 24, color_system=None))
    assert "no run: position unknown" in text
    assert "trainer      does not run" in text
    assert "last epoch   none yet" in text
    assert plain_line(state) == (
        "no run: position unknown; 0.0% of 2 epochs; buffer 0/0; trainer does not "
        "run; preprocessor does not run"
    )


def test_only_a_terminal_that_can_redraw_is_live(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert is_live(Console(force_terminal=True))
    assert not is_live(Console(file=io.StringIO()))
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live(Console(force_terminal=True))


@pytest.fixture
def sleep(pair, monkeypatch):
    """Each sleep of the view trains three steps; the first brings a message.

    The trainer ends a moment after its last step.
    """

    def train(seconds):
        if pair.seconds == 1000:
            pair.say(TRAINER, "epoch 0: new")
        pair.seconds += seconds
        if pair.seconds == 1010:
            pair.stop()
        pair.train_to(min(20, int(3 * (pair.seconds - 1000))))

    pair.train_to(0)
    monkeypatch.setattr(pair_view.time, "sleep", train)


def test_lines_without_a_terminal(pair, sleep, capsys):
    watch = PairWatch(pair.config, None, epoch_end=2)
    follow(watch, Console(file=io.StringIO()), line_seconds=3)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "epoch 0: new" in line] == [lines[1]]
    positions = [re.match(r"mine: (epoch \d, batch \d)", line) for line in lines]
    assert [match[1] for match in positions if match] == [
        "epoch 0, batch 0",
        "epoch 0, batch 9",
        "epoch 1, batch 8",
        "epoch 2, batch 0",
        "epoch 2, batch 0",
    ]
    assert lines[-1] == "all 2 epochs are trained"
    assert "\x1b" not in "".join(lines)


def test_a_terminal_is_drawn_until_all_is_trained(pair, sleep, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, height=24)
    follow(PairWatch(pair.config, None, epoch_end=2), console, line_seconds=3)
    output = stream.getvalue()
    assert output.count("mine: epoch") >= 7
    # The last state remains, outside the alternate screen.
    assert "mine: epoch 2, batch 0 of 10" in output.split("\x1b[?1049l")[1]
    assert capsys.readouterr().out == "all 2 epochs are trained\n"
