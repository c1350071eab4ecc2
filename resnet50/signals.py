"""What asks a program to stop: Ctrl-C, SIGTERM, and the end of its terminal (SIGHUP).

A signal that is ignored when the program starts stays ignored. So ``nohup`` keeps a
program alive when its terminal is gone, and Ctrl-C in a shell script does not reach
what the script has started in its background. SIGTERM always stops.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stop_signals_handled(handler: Callable | signal.Handlers) -> Iterator[None]:
    """Hands the stop signals that are not ignored to a handler inside the block."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    before = {n: h for n, h in handlers.items() if h != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old_handler in before.items():
            signal.signal(number, old_handler)


class StopRequest:
    """Whether a stop signal has come.

    A second Ctrl-C raises KeyboardInterrupt. Other signals do not: a terminal that goes
    may send SIGHUP twice.
    """

    def __init__(self, *, raises: bool = False):
        """None has come yet.

        Args:
            raises: Whether the first signal raises KeyboardInterrupt as well.
        """
        self.is_made = False
        self._raises = raises

    def _note(self, signal_number, frame) -> None:
        is_first, self.is_made = not self.is_made, True
        if self._raises if is_first else signal_number == signal.SIGINT:
            raise KeyboardInterrupt

    def caught(self) -> contextlib.AbstractContextManager[None]:
        """Catches the signals inside the block."""
        return stop_signals_handled(self._note)
