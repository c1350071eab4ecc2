"""What a setting of config.txt may be: one check for each kind of value.

Each function makes a field of a section's dataclass (see ``config``) that carries its
check, and in words what the check accepts.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A check takes the raw TOML value and the folder of config.txt. It returns the value as
# the field's type, or raises ValueError with what would have been right.
Check = Callable[[Any, Path], Any]


def setting(check: Check, expects: str) -> Any:
    """A field with its check, and what the check accepts, for docs/configuration.md."""
    return dataclasses.field(metadata={"check": check, "expects": expects})


def _span(minimum, maximum=None, *, above=False, below=False) -> str:
    """A range in words, such as "above 0, below 1"."""
    if maximum is None:
        return f"above {minimum:,}" if above else f"{minimum:,} or more"
    if not (above or below):
        return f"{minimum:,} to {maximum:,}"
    start = f"above {minimum:,}" if above else f"{minimum:,}"
    return f"{start} to {'below ' if below else ''}{maximum:,}"


def _in_range(value, minimum, maximum):
    if minimum is not None and value < minimum:
        raise ValueError(f"must be at least {minimum}")
    if maximum is not None and value > maximum:
        raise ValueError(f"must be at most {maximum}")
    return value


def whole(minimum: int, maximum: int | None = None) -> Any:
    """A whole number, from a minimum to a maximum if there is one."""

    def check(value, folder):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("must be a whole number")
        return _in_range(value, minimum, maximum)

    return setting(check, f"whole number, {_span(minimum, maximum)}")


def _as_real(value) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("must be a number")
    if isinstance(value, int) and abs(value) > 2**63:
        raise ValueError("must be at most 2**63")
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return float(value)


def real(
    minimum: float, maximum: float | None = None, *, above=False, below=False
) -> Any:
    """A number from, or above, a minimum to, or below, a maximum if there is one."""

    def check(value, folder):
        number = _as_real(value)
        if above and number <= minimum:
            raise ValueError(f"must be above {minimum:g}")
        if below and number >= maximum:
            raise ValueError(f"must be below {maximum:g}")
        return _in_range(number, minimum, maximum)

    span = _span(minimum, maximum, above=above, below=below)
    return setting(check, f"number, {span}")


def flag() -> Any:
    """True or false."""

    def check(value, folder):
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value

    return setting(check, "true or false")


def choice(*choices: str) -> Any:
    """One of some words."""

    def check(value, folder):
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return setting(check, " or ".join(f'"{choice}"' for choice in choices))


def path(*, optional: bool = False) -> Any:
    """A path, made absolute; with optional, "" for None."""

    def check(value, folder):
        if not isinstance(value, str):
            raise ValueError("must be a path in quotation marks")
        if optional and not value:
            return None
        if not value or "\0" in value:
            raise ValueError("must be the path of a folder")
        try:
            return (folder / Path(value).expanduser()).absolute()
        except RuntimeError:
            raise ValueError("must not start with the ~ of an unknown user") from None

    return setting(check, 'path, or ""' if optional else "path")


def per_channel(minimum: float, maximum: float, *, above: bool = False) -> Any:
    """Three numbers: red, green, blue."""
    inner = real(minimum, maximum, above=above).metadata["check"]

    def check(value, folder):
        if not isinstance(value, list) or len(value) != 3:
            raise ValueError("must be three numbers: red, green, blue")
        return tuple(inner(number, folder) for number in value)

    span = _span(minimum, maximum, above=above)
    return setting(check, f"list of three numbers, each {span}")


def ascending_reals() -> Any:
    """A list of positive numbers, each above the one before."""

    def check(value, folder):
        if not isinstance(value, list):
            raise ValueError("must be a list of numbers")
        numbers = tuple(_as_real(number) for number in value)
        if any(later <= earlier for earlier, later in zip((0.0, *numbers), numbers)):
            raise ValueError("must be positive and ascending")
        return numbers

    return setting(check, "list of numbers above 0, ascending")


def crop_size_schedule() -> Any:
    """Pairs of an epoch and a crop size, the epochs ascending."""
    first, size = (whole(m).metadata["check"] for m in (0, 32))

    def check(value, folder):
        pairs = value if isinstance(value, list) else [None]
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise ValueError("must be a list of pairs, [first epoch, crop size]")
        schedule = tuple((first(e, folder), size(s, folder)) for e, s in pairs)
        epochs = [epoch for epoch, _ in schedule]
        if epochs != sorted(set(epochs)):
            raise ValueError("must have its epochs in ascending order")
        return schedule

    return setting(check, "list of pairs of whole numbers: epoch, and size from 32")


SCHEDULER_ADDRESS = 'a dask scheduler\'s address, such as "tcp://10.0.0.1:8786"'


def scheduler() -> Any:
    """The address of a dask scheduler, or ""."""

    def check(value, folder):
        if not isinstance(value, str):
            raise ValueError("must be an address in quotation marks")
        pattern = r"(?:tcp|tls)://(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})"
        match = re.fullmatch(pattern, value, re.ASCII)
        if value and not (match and 0 < int(match[1]) < 65_536):
            raise ValueError(f"must be {SCHEDULER_ADDRESS}")
        return value

    return setting(check, f'"" or {SCHEDULER_ADDRESS}')
