"""Finds out on which platforms all packages of the project can be installed.

    python -m tests.platforms

Needs uv, and asks PyPI, but installs nothing. Resolves the project's packages, and all
that these need, to wheels for each platform and Python. Prints a line for each, with
the versions of the largest packages, or with what is missing.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tests.settings import PROJECT

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
_SHOWN = ("tensorflow", "numba", "simplejpeg", "nvidia-nvimgcodec-cu12")


class Platform(NamedTuple):
    """A system and its processor.

    Attributes:
        triple: uv's name of it.
        markers: Those that the requirements in pyproject.toml use.
    """

    triple: str
    markers: Mapping[str, str]


def _platform(triple: str, system: str, machine: str) -> Platform:
    markers = {"sys_platform": system, "platform_machine": machine}
    return Platform(triple, MappingProxyType(markers))


PLATFORMS = {
    "Linux, x86-64": _platform("x86_64-unknown-linux-gnu", "linux", "x86_64"),
    "Linux, arm64": _platform("aarch64-unknown-linux-gnu", "linux", "aarch64"),
    "macOS, Apple silicon": _platform("aarch64-apple-darwin", "darwin", "arm64"),
    "macOS, Intel": _platform("x86_64-apple-darwin", "darwin", "x86_64"),
}


def missing_wheel(text: str) -> str:
    """What uv says is missing; its whole first line if it does not say that."""
    match = re.search(r"Because (\S+ has no wheels)", text)
    return match[1] if match else text.strip().partition("\n")[0]


def resolve(platform: Platform, python: str) -> subprocess.CompletedProcess:
    """Lets uv choose a wheel for each package."""
    words = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    words += ["--only-binary=:all:", "--python-platform", platform.triple]
    return subprocess.run(
        [*words, "--python-version", python, PROJECT / "pyproject.toml"],
        capture_output=True,
        text=True,
    )


def main() -> None:
    """Prints a line for each platform and Python; the exit status is 1 on a failure."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if shutil.which("uv") is None:
        sys.exit("uv: is not installed (python3 -m pip install uv)")
    failed = False
    for name, platform in PLATFORMS.items():
        for python in PYTHONS:
            result = resolve(platform, python)
            versions = dict(re.findall(r"^(\S+)==(\S+)", result.stdout, re.MULTILINE))
            found = [f"{p} {versions[p]}" for p in _SHOWN if p in versions]
            failed |= bool(result.returncode)
            outcome = missing_wheel(result.stderr) if result.returncode else found
            text = outcome if isinstance(outcome, str) else ", ".join(outcome)
            print(f"{name:21} Python {python:5} {text}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
