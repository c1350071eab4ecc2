"""What a setting of config.txt may be: one check for each kind of value.

Each function makes a field of a section's dataclass (see ``settings``) with its check,
and with what the check accepts in words.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet50.urls import is_url

# A check takes the raw TOML value and the folder of config.txt. It returns the value as
# the field's type, or raises ValueError with what the value must be.
Check = Callable[[Any, Path], Any]


def setting(check: Check, expects: str) -> Any:
    """A field with its check, and what the check accepts, for docs/configuration.md."""
    return dataclasses.field(metadata={"check": check, "expects": expects})


def _require(condition: bool, expected: str) -> None:
    if not condition:
        raise ValueError(expected)


def _span(
    minimum: float,
    maximum: float | None = None,
    *,
    above: bool = False,
    below: bool = False,
) -> str:
    """A range in words, such as "above 0, below 1"."""
    if maximum is None:
        return f"above {minimum:,}" if above else f"{minimum:,} or more"
    start = f"above {minimum:,}" if above else f"{minimum:,}"
    return f"{start} to {'below ' if below else ''}{maximum:,}"


def _require_range(value: float, minimum: float, maximum: float | None) -> None:
    _require(value >= minimum, f"must be at least {minimum}")
    _require(maximum is None or value <= maximum, f"must be at most {maximum}")


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def whole(minimum: int, maximum: int | None = None) -> Any:
    """A whole number from a minimum, up to a maximum if there is one."""

    def check(value: Any, folder: Path) -> int:
        _require(_is_number(value, int), "must be a whole number")
        _require_range(value, minimum, maximum)
        return int(value)

    return setting(check, f"whole number, {_span(minimum, maximum)}")


def _as_real(value: Any) -> float:
    _require(_is_number(value, int, float), "must be a number")
    is_huge = isinstance(value, int) and abs(value) > 2**63
    _require(not is_huge, "must be at most 2**63")
    _require(math.isfinite(value), "must be a finite number")
    return float(value)


def real(
    minimum: float,
    maximum: float | None = None,
    *,
    above: bool = False,
    below: bool = False,
) -> Any:
    """A number from (or above) a minimum to (or below) a maximum if there is one."""

    def check(value: Any, folder: Path) -> float:
        number = _as_real(value)
        _require(not above or number > minimum, f"must be above {minimum:g}")
        if below and maximum is not None:
            _require(number < maximum, f"must be below {maximum:g}")
        _require_range(number, minimum, maximum)
        return number

    span = _span(minimum, maximum, above=above, below=below)
    return setting(check, f"number, {span}")


def flag(*, or_auto: bool = False) -> Any:
    """True or false; or "auto", if that is allowed."""
    expected = 'true, false or "auto"' if or_auto else "true or false"

    def check(value: Any, folder: Path) -> Any:
        is_auto = or_auto and value == "auto"
        _require(is_auto or isinstance(value, bool), f"must be {expected}")
        return value

    return setting(check, expected)


def choice(*choices: str) -> Any:
    """One of the given words."""

    def check(value: Any, folder: Path) -> Any:
        _require(value in choices, f"must be one of {', '.join(choices)}")
        return value

    return setting(check, " or ".join(f'"{choice}"' for choice in choices))


def path(*, optional: bool = False) -> Any:
    """A path, made absolute; if optional, "" gives None."""

    def check(value: Any, folder: Path) -> Path | None:
        _require(isinstance(value, str), "must be a path in quotation marks")
        if optional and not value:
            return None
        _require(value and "\0" not in value, "must be the path of a folder")
        _require(not is_url(value), "must be a path, not a URL")
        try:
            return (folder / Path(value).expanduser()).absolute()
        except RuntimeError:
            raise ValueError("must not start with the ~ of an unknown user") from None

    return setting(check, 'path, or ""' if optional else "path")


def path_or_url() -> Any:
    """A path, made absolute; or a URL such as s3://bucket/train, as a text."""
    inner = path().metadata["check"]

    def check(value: Any, folder: Path) -> Path | str:
        scheme, separator, rest = str(value).partition("://")
        if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
            checked: Path = inner(value, folder)
            return checked
        _require(rest != "" and value.isprintable(), "must be a path or a URL")
        return f"{scheme.lower()}://{rest}"

    return setting(check, "path, or URL of .tar archives")


def per_channel(minimum: float, maximum: float) -> Any:
    """Three numbers: red, green, blue."""
    inner = real(minimum, maximum).metadata["check"]

    def check(value: Any, folder: Path) -> tuple[float, ...]:
        is_triple = isinstance(value, list) and len(value) == 3
        _require(is_triple, "must be three numbers: red, green, blue")
        return tuple(inner(number, folder) for number in value)

    span = _span(minimum, maximum)
    return setting(check, f"list of three numbers, each {span}")


def bounds(minimum: float, maximum: float) -> Any:
    """Two numbers: the least and the greatest value of a range."""
    inner = real(minimum, maximum).metadata["check"]

    def check(value: Any, folder: Path) -> tuple[float, float]:
        is_pair = isinstance(value, list) and len(value) == 2
        _require(is_pair, "must be two numbers: the least and the greatest")
        least, greatest = (inner(number, folder) for number in value)
        _require(least <= greatest, "must have the least number first")
        return least, greatest

    return setting(check, f"list of two numbers, each {_span(minimum, maximum)}")


def ascending_reals() -> Any:
    """A list of positive numbers in ascending order."""

    def check(value: Any, folder: Path) -> tuple[float, ...]:
        _require(isinstance(value, list), "must be a list of numbers")
        numbers = tuple(_as_real(number) for number in value)
        pairs = zip((0.0, *numbers), numbers)
        _require(all(a < b for a, b in pairs), "must be positive and ascending")
        return numbers

    return setting(check, "list of numbers above 0, ascending")


def crop_size_schedule() -> Any:
    """Pairs of an epoch and a crop size, the epochs ascending."""
    first, size = (whole(minimum).metadata["check"] for minimum in (0, 32))

    def check(value: Any, folder: Path) -> tuple[tuple[int, int], ...]:
        pairs: list[Any] = value if isinstance(value, list) else [None]
        are_pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
        _require(are_pairs, "must be a list of pairs, [first epoch, crop size]")
        sizes = {first(a, folder): size(b, folder) for a, b in pairs}
        is_ascending = len(sizes) == len(pairs) and list(sizes) == sorted(sizes)
        _require(is_ascending, "must have its epochs in ascending order")
        return tuple(sizes.items())

    return setting(check, "list of pairs of whole numbers: epoch, and size from 32")


SCHEDULER_ADDRESS = 'a dask scheduler\'s address, such as "tcp://10.0.0.1:8786"'


def scheduler() -> Any:
    """The address of a dask scheduler, or ""."""

    def check(value: Any, folder: Path) -> str:
        _require(isinstance(value, str), "must be an address in quotation marks")
        pattern = r"(?:tcp|tls)://(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})"
        match = re.fullmatch(pattern, value, re.ASCII)
        is_address = match is not None and 0 < int(match[1]) < 65_536
        _require(not value or is_address, f"must be {SCHEDULER_ADDRESS}")
        return str(value)

    return setting(check, f'"" or {SCHEDULER_ADDRESS}')
