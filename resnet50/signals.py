"""The signals that stop a program: Ctrl-C, SIGTERM, and a closed terminal (SIGHUP).

A signal that is ignored when the program starts stays ignored. So ``nohup`` keeps a
program alive after its terminal is closed, and Ctrl-C in a shell script does not stop
the script's background programs. SIGTERM always stops.
"""

import contextlib
import signal
from collections.abc import Callable, Collection, Iterator
from typing import ClassVar

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stop_signals_handled(
    handler: Callable | signal.Handlers,
    numbers: Collection[signal.Signals] = STOP_SIGNALS,
) -> Iterator[None]:
    """Handles, inside the block, those of some stop signals that are not ignored."""
    handlers = {number: signal.getsignal(number) for number in numbers}
    before = {n: h for n, h in handlers.items() if h != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old_handler in before.items():
            signal.signal(number, old_handler)


def stop_line(number: int = signal.SIGINT) -> str:
    """The last line of a program that a signal has stopped."""
    if number == signal.SIGINT:
        return "stopped"
    if number == signal.SIGHUP:
        return (
            "stopped by SIGHUP: a terminal or an ssh connection was closed (tmux or "
            "nohup keeps a program running)"
        )
    return f"stopped by {signal.Signals(number).name}"


class StopRequest:
    """Notes the first stop signal.

    If ``raises``, the first signal also raises KeyboardInterrupt, with its number. A
    second Ctrl-C always does. Other signals do not: a terminal may send SIGHUP twice
    when it closes.

    Python drops an exception that is raised while it runs a destructor. So a request
    that is caught inside another one's block begins as made if that one is, and loops
    call ``raise_if_stopped``.

    Attributes:
        number: Of the first signal; None until it comes.
    """

    _current: ClassVar["StopRequest | None"] = None  # of the innermost block

    def __init__(self, *, raises: bool = False):
        self.number: int | None = None
        self._raises = raises

    @property
    def is_made(self) -> bool:
        """Whether a stop signal has come."""
        return self.number is not None

    def _note(self, signal_number, frame) -> None:
        is_first = not self.is_made
        if is_first:
            self.number = signal_number
        if self._raises if is_first else signal_number == signal.SIGINT:
            raise KeyboardInterrupt(signal_number)

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catches the stop signals inside the block."""
        outer, StopRequest._current = StopRequest._current, self
        if outer is not None:
            self.number = outer.number
        try:
            with stop_signals_handled(self._note):
                yield
        finally:
            StopRequest._current = outer


def raise_if_stopped() -> None:
    """Raises KeyboardInterrupt if a stop signal has come that should have raised it."""
    current = StopRequest._current
    if current is not None and current.is_made:
        raise KeyboardInterrupt(current.number)
