"""The units of systemd/, and a home folder in which their commands run. No test."""

import configparser
import shlex
import sys
from pathlib import Path

from tests.settings import PROJECT, write_small_config

RUN = "mytestrun"
PREPROCESSOR = "resnet50-preprocessing.service"
TRAINER = "resnet50-train@.service"
FOLDER = PROJECT / "systemd"
ON_GPU = "--gpus=0"


def read_unit(name: str) -> configparser.ConfigParser:
    """Reads a unit as shipped."""
    unit = configparser.ConfigParser(
        delimiters=["="], comment_prefixes=["#"], interpolation=None
    )
    unit.optionxform = str
    unit.read_string((FOLDER / name).read_text(encoding="utf-8"))
    return unit


def expand(text: str, home: Path) -> str:
    """Replaces the specifiers of a unit as systemd does."""
    text = text.replace("%h", str(home)).replace("%i", RUN)
    assert "%" not in text, text
    return text


def command(name: str, home: Path) -> list[str]:
    """The words of a unit's ExecStart."""
    return shlex.split(expand(read_unit(name)["Service"]["ExecStart"], home))


def without_gpu(text: str) -> str:
    """A unit's command, or its whole text, as it would be for the CPU."""
    return text.replace(f" {ON_GPU}", "")


def make_home(home: Path, images: Path, **changes: dict) -> Path:
    """Makes a home folder with a small project in it; returns the project's folder."""
    project = home / "resnet50"
    project.mkdir(parents=True)
    for name in ("runtime_preprocessing.py", "train.py", "resnet50"):
        (project / name).symlink_to(PROJECT / name)
    (project / ".venv" / "bin").mkdir(parents=True)
    # A link to the interpreter would not find its packages.
    python = project / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (project / "images").symlink_to(images)
    write_small_config(project, **changes)
    return project
