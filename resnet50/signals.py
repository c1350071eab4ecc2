"""The signals that stop a program: Ctrl-C, SIGTERM, and a closed terminal (SIGHUP).

A signal that is ignored when the program starts stays ignored. So ``nohup`` keeps a
program alive after its terminal is closed, and Ctrl-C in a shell script does not stop
the script's background programs. SIGTERM always stops.
"""

import contextlib
import signal
from collections.abc import Callable, Collection, Iterator

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


class StopRequest:
    """Notes whether a stop signal has come.

    If ``raises``, the first signal also raises KeyboardInterrupt. A second Ctrl-C
    always does. Other signals do not: a terminal may send SIGHUP twice when it closes.
    """

    def __init__(self, *, raises: bool = False):
        self.is_made = False
        self._raises = raises

    def _note(self, signal_number, frame) -> None:
        is_first, self.is_made = not self.is_made, True
        if self._raises if is_first else signal_number == signal.SIGINT:
            raise KeyboardInterrupt

    def caught(self) -> contextlib.AbstractContextManager[None]:
        """Catches the stop signals inside the block."""
        return stop_signals_handled(self._note)
