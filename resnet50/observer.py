"""How the code that does the work reports to the program's user."""

from typing import Any


class Observer:
    """Receives news for the user; this base class ignores it.

    Each program derives a class and overrides what it shows. Several threads may call
    the methods.
    """

    def notify(self, line: str) -> None:
        """Takes a line of text."""

    def is_due(self) -> bool:
        """Whether ``show`` would show a status now; some are costly to compute."""
        return False

    def show(self, status: Any) -> None:
        """Takes the current status, a record of the caller's own type."""
