"""What the programs show on the terminal: lines on stderr, and bars.

Both programs may share a terminal: what one writes replaces the other's bar, and never
a part of it.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from resnet50.installation import typed_command_line
from resnet50.message_log import MessageLog

# Erases the terminal's line from the cursor on (ECMA-48, EL).
_ERASE = "\x1b[K"

_DEFAULT_COLUMNS = 80
_SHORTEST_BAR = 4

_log: MessageLog | None = None  # of the program that runs


@contextlib.contextmanager
def messages_logged() -> Iterator[None]:
    """Logs what is said in the block; see ``keep_messages``."""
    global _log
    outer, _log = _log, MessageLog()
    _log.add(f"starts as process {os.getpid()}: {typed_command_line()}")
    try:
        yield
    finally:
        _log = outer


def keep_messages(path: Path) -> None:
    """Keeps the messages in a file, earlier and later ones; see ``MessageLog``."""
    if _log is not None:
        _log.keep_in(path)


def log_only(text: str) -> None:
    """Adds a message to the program's log that its user need not see."""
    if _log is not None:
        _log.add(text)


def say(line: str) -> None:
    """Prints a line for the user on stderr, above the bar if there is one."""
    log_only(line)
    # In one piece, so that another program's bar cannot come between.
    text = ("\r" + _ERASE if _can_erase() else "") + line + "\n"
    tqdm.write(text, file=sys.stderr, end="")


def _can_erase() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


class PatientStream:
    """A stream that ignores errors of writing, such as a closed terminal or full disk.

    A terminal that is gone must not keep a training from being saved.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text if possible."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes if possible."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


class _LogLines(PatientStream):
    """Turns each state of a bar into a line, for a stderr that is a file."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        return super().write(line + "\n") if line else 0


class _Bar(tqdm):
    """A tqdm bar whose time is that of the monotonic clock.

    With tqdm's, after the wall clock was set back, the bar would not move, and show a
    negative time.
    """

    monitor_interval = 0  # The monitor, a thread, has the wall clock.

    def __init__(self, **settings):
        # With miniters, each update looks at the time; no monitor is needed.
        super().__init__(miniters=1, **settings)
        self._time = time.monotonic
        self.start_t = self.last_print_t = self._time()

    def __str__(self) -> str:
        # Another program's bar may be in this line.
        return (_ERASE if _can_erase() else "") + super().__str__()


def progress_bar(**settings) -> tqdm:
    """A tqdm bar; if stderr is no terminal, it prints a line every half minute."""
    if sys.stderr.isatty():
        return _Bar(mininterval=0.2, dynamic_ncols=True, **settings)
    settings["delay"] = 1  # Keeps the empty bar at the start out of the file.
    lines = _LogLines(sys.stderr)
    return _Bar(mininterval=30, maxinterval=60, file=lines, ncols=120, **settings)


def fit(parts: Sequence[str], bar_width: int, room: int) -> tuple[int, str]:
    """What fits into a number of columns: the width of a bar, and the first parts.

    The bar is shortened before a part is left out.
    """
    text = ""
    for part in parts:
        longer = f"{text}, {part}" if text else part
        if _SHORTEST_BAR + len(longer) > room:
            break
        text = longer
    return max(_SHORTEST_BAR, min(bar_width, room - len(text))), text


class StatusBar(contextlib.AbstractContextManager):
    """A bar that may move in both directions, followed by words.

    The bar is ``bar_width`` characters wide, or less if the terminal is narrow.
    """

    def __init__(self, bar_width: int):
        self._bar_width = bar_width
        self._bar: tqdm | None = None
        self._shown_at = float("-inf")

    def __exit__(self, *exception) -> None:
        if self._bar is not None:
            # Otherwise tqdm would show the outdated bar once more.
            self._bar.leave = False
            self._bar.close()

    def is_due(self) -> bool:
        """Whether it is time for another ``show``; a status may be costly to make."""
        seconds = 1.0 if self._bar is None else max(1.0, self._bar.mininterval)
        return time.monotonic() - self._shown_at >= seconds

    def show(
        self, description: str, done: int, total: int, parts: Sequence[str]
    ) -> None:
        """Shows the bar, whether it is due or not.

        Args:
            description: What the bar is about.
            done: How much of ``total`` is done.
            total: How much there is.
            parts: What follows the bar. On a narrow terminal the last ones are left
                out.
        """
        self._shown_at = time.monotonic()
        if self._bar is None:
            # Drawn only below, but erased at the end even if that is soon.
            self._bar = progress_bar(total=total, delay=1)
            self._bar.delay = 0
        bar, start = self._bar, f"{description} {done}/{total} |"
        # None: the size of the terminal is unknown.
        columns = bar.format_dict["ncols"] or _DEFAULT_COLUMNS
        width, text = fit(parts, self._bar_width, columns - len(f"{start}| "))
        bar.bar_format = f"{start}{{bar:{width}}}| {text}"
        bar.n, bar.total = done, total
        bar.refresh()
