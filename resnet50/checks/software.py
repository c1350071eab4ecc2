"""Versions of Python and of the packages, against the bounds in pyproject.toml."""

import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import tomli

import resnet50
from resnet50.checks.findings import OK, PROBLEM, Finding

_DISTRIBUTION = "resnet50-two-process"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?([^;()]*)\)?\s*$")
_BOUND = re.compile(r"(>=|<=|==|!=|<|>)\s*([0-9][0-9.]*)")


class Bounds(NamedTuple):
    """Which versions will do, such as ">=3.10,<3.14".

    Attributes:
        python: Of Python.
        packages: Of each package that is needed, by its name.
    """

    python: str
    packages: dict[str, str]


def parse_bounds(python: str, requirements: list[str]) -> Bounds:
    """Bounds from the fields of pyproject.toml or of an installed package.

    Those that only an extra needs, with a marker behind a semicolon, are left out.
    """
    matches = (_REQUIREMENT.match(line) for line in requirements)
    packages = {match[1]: match[2].strip() for match in matches if match}
    return Bounds(python, packages)


def read_bounds() -> Bounds:
    """The project's own bounds, from its folder or from where it is installed."""
    path = Path(resnet50.__file__).parent.parent / "pyproject.toml"
    if path.is_file():
        project = tomli.loads(path.read_text(encoding="utf-8"))["project"]
        return parse_bounds(project["requires-python"], project["dependencies"])
    installed = metadata.metadata(_DISTRIBUTION)
    return parse_bounds(
        installed["Requires-Python"], metadata.requires(_DISTRIBUTION) or []
    )


def _numbers(version: str) -> tuple[int, ...]:
    """1.26.4rc1 as (1, 26, 4), without zeros at its end."""
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def is_within(version: str, bounds: str) -> bool:
    """Whether a version is within bounds such as ">=1.26,<3"; "" allows all."""
    compare = {
        ">=": tuple.__ge__,
        "<=": tuple.__le__,
        "==": tuple.__eq__,
        "!=": tuple.__ne__,
        "<": tuple.__lt__,
        ">": tuple.__gt__,
    }
    return all(
        compare[sign](_numbers(version), _numbers(bound))
        for sign, bound in _BOUND.findall(bounds)
    )


def check_python(version: str, bounds: str) -> Finding:
    """Judges the version of Python that runs."""
    if is_within(version, bounds):
        return Finding(OK, f"Python: {version}")
    return Finding(
        PROBLEM, f"Python: {version}, needed is {bounds}", "make a .venv with that one"
    )


def installed_version(name: str) -> str | None:
    """The version of an installed package; None if it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_packages(
    bounds: dict[str, str],
    version_of: Callable[[str], str | None] = installed_version,
) -> Iterator[Finding]:
    """Judges the packages: a line for each that is wrong, one for all that are right.

    Args:
        bounds: For each package.
        version_of: Its version; None if it is not installed.
    """
    right = []
    for name, bound in bounds.items():
        version = version_of(name)
        if version is not None and is_within(version, bound):
            right.append(f"{name} {version}")
            continue
        state = "is not installed" if version is None else f"{version} is installed"
        yield Finding(
            PROBLEM,
            f"packages: {name} {state}, needed is {bound or 'any version'}",
            f"python3 -m pip install '{name}{bound}'",
        )
    if right:
        yield Finding(OK, f"packages: {', '.join(right)}")
