"""Proves that README.md names every key of config.txt and every file of the project."""

import dataclasses
import subprocess
import sys

import pytest

from resnet50.config import SECTIONS
from tests.settings import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_named(section):
    rows = [line for line in README.splitlines() if line.startswith(f"| `[{section}]`")]
    assert rows
    for field in dataclasses.fields(SECTIONS[section]):
        assert any(f"`{field.name}`" in row for row in rows), field.name


def test_the_tree_lists_every_module_and_nothing_else():
    tree = README.split("## Files")[1]
    listed = {line.split()[0] for line in tree.splitlines() if line.startswith("    ")}
    modules = {p.name for p in (PROJECT / "resnet50").rglob("*.py")} - {"__init__.py"}
    scripts = {path.name for path in PROJECT.glob("*.py")}
    named = {name for name in listed if name.endswith(".py")}
    assert named == modules | scripts


def commands():
    """The command lines of the step-by-step part, without the installation."""
    lines = [line.strip() for line in README.splitlines() if line.startswith("       ")]
    return [line for line in lines if line.startswith("python")]


@pytest.mark.parametrize("command", commands())
def test_every_flag_of_the_commands_exists(command):
    words = command.split()
    program = words[1:4] if words[1] == "-m" else words[1:2]
    usage = subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    flags = {word.split("=")[0] for word in words[1 + len(program) :]}
    assert {flag for flag in flags if flag not in usage} == set()


def test_there_are_commands():
    assert len(commands()) >= 5
