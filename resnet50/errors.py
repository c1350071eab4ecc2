"""The base class of all errors that a user, a file or the other process causes."""

# A longer line, such as one with a damaged file's content, loses its middle.
_MAX_LENGTH = 4_000
_KEPT_AT_THE_END = 500

_SHORT = 80


def printable_line(text: str) -> str:
    """Returns a text with all control characters escaped, and not too long.

    The names of files and the values in them may contain line breaks and a terminal's
    commands.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if len(text) > _MAX_LENGTH:
        start = text[: _MAX_LENGTH - _KEPT_AT_THE_END - 5]
        text = f"{start} ... {text[-_KEPT_AT_THE_END:]}"
    return text


def short_line(text: str) -> str:
    """Returns a text as ``printable_line`` does, with at most 80 characters."""
    text = printable_line(text)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


class UserError(Exception):
    """Ends a program with one line on stderr instead of a traceback.

    The text has the form ``where: what is wrong, with the value (what to do)``. A
    module that raises such errors derives its own exceptions from this class. Further
    arguments are further lines.
    """

    def __str__(self) -> str:
        return "\n".join(printable_line(str(line)) for line in self.args)
