"""Checks the versions of Python and of the packages against pyproject.toml."""

from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

import tomli
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from resnet50.checks.findings import OK, PROBLEM, Finding
from resnet50.installation import DISTRIBUTION, PROJECT, is_checkout


def read_requirements() -> tuple[str, list[str]]:
    """The versions of Python that will do, and a requirement for each package.

    They come from the project's folder, or from where the project is installed.
    """
    if is_checkout():
        text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
        project = tomli.loads(text)["project"]
        return project["requires-python"], project["dependencies"]
    python = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    return python, metadata.requires(DISTRIBUTION) or []


def check_python(version: str, specifiers: str) -> Finding:
    """Checks the version of the running Python."""
    if SpecifierSet(specifiers).contains(version, prereleases=True):
        return Finding(OK, f"Python: {version}")
    what = f"Python: {version}, but {specifiers} is needed"
    return Finding(PROBLEM, what, f"make a .venv with Python {specifiers}")


def installed_version(name: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_packages(
    requirements: Iterable[str],
    version_of: Callable[[str], str | None] = installed_version,
) -> Iterator[Finding]:
    """Yields a finding for each wrong package, and one for all right ones.

    A requirement is a line such as "numpy>=1.26". Those of an extra are skipped.
    """
    right = []
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, specifiers = requirement.name, requirement.specifier
        version = version_of(name)
        if version and specifiers.contains(version, prereleases=True):
            right.append(f"{name} {version}")
            continue
        state = f"{version} is installed" if version else "is not installed"
        yield Finding(
            PROBLEM,
            f"packages: {name} {state}, but {specifiers or 'any version'} is needed",
            f"python3 -m pip install '{name}{specifiers}'",
        )
    if right:
        yield Finding(OK, f"packages: {', '.join(right)}")
