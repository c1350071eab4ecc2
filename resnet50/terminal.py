"""What the programs show on the terminal: lines on stderr, and bars."""

import contextlib
import sys
import time
from typing import TextIO

from tqdm import tqdm


def say(line: str) -> None:
    """Prints a line for the user on stderr, above the bar if there is one."""
    tqdm.write(line, file=sys.stderr)


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
    """A tqdm bar whose bar_format may contain {text}, a line of the program.

    Unlike tqdm's, its time is that of the monotonic clock: after the wall clock was set
    back, the bar would not move, and show a negative time.
    """

    text = ""
    monitor_interval = 0  # The monitor, a thread, has the wall clock.

    def __init__(self, **settings):
        # With miniters, each update looks at the time; no monitor is needed.
        super().__init__(miniters=1, **settings)
        self._time = time.monotonic
        self.start_t = self.last_print_t = self._time()

    @property
    def format_dict(self) -> dict:
        return {**super().format_dict, "text": self.text}


def progress_bar(**settings) -> tqdm:
    """A tqdm bar; if stderr is no terminal, it prints a line every half minute."""
    if sys.stderr.isatty():
        return _Bar(mininterval=0.2, dynamic_ncols=True, **settings)
    # The delay keeps the empty bar at the start out of the file.
    lines = _LogLines(sys.stderr)
    return _Bar(
        mininterval=30, maxinterval=60, delay=1, file=lines, ncols=120, **settings
    )


class StatusBar(contextlib.AbstractContextManager):
    """A bar that may move in both directions, followed by a line of text.

    The bar is ``bar_width`` characters wide.
    """

    def __init__(self, bar_width: int):
        self._format = (
            f"{{desc}} {{n_fmt}}/{{total_fmt}} |{{bar:{bar_width}}}| {{text}}"
        )
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

    def show(self, description: str, done: int, total: int, text: str) -> None:
        """Shows the bar, whether it is due or not."""
        self._shown_at = time.monotonic()
        if self._bar is None:
            self._bar = progress_bar(bar_format=self._format, total=total)
        self._bar.n, self._bar.total, self._bar.text = done, total, text
        self._bar.set_description_str(description)
