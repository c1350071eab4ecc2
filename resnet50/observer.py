"""What a long-running program tells its user, as one object."""


class Observer:
    """Receives news from the code that does the work; this one ignores it.

    A program derives its own and overrides what it shows. The methods may be called
    from several threads.
    """

    def notify(self, line: str) -> None:
        """Takes a line for the user."""

    def is_due(self) -> bool:
        """Whether ``show`` would show anything now; a status may be costly to make."""
        return False

    def show(self, status: object) -> None:
        """Takes the current status, a record of the caller's own type."""
