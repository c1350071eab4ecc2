"""Proves that each command, link and extra in README.md and docs/ exists.

The program's own parser must accept a command; the program does nothing more.
"""

import argparse
import importlib
import re
import runpy
import shlex
import sys

import pytest
import tomli

from resnet50.commands import COMMANDS as NAMES
from resnet50.installation import module_of
from tests.docs.documents import (
    PAGES,
    code_lines,
    commands,
    inline_code,
    outside_fences,
    read,
)
from tests.settings import PROJECT


def as_module(command):
    """A command with resnet50 as a module of Python, and without redirection."""
    command = command.partition(" > ")[0]
    is_console = command.startswith("resnet50 ")
    return f"python3 -m {command}" if is_console else command


COMMANDS = sorted({as_module(c) for path in PAGES for c in commands(read(path.name))})


class ParsedError(Exception):
    """Ends a program after it has read its command line."""


def run_until_parsed(words, monkeypatch):
    """Starts the program of a command line; its parser may refuse it."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(self, *arguments):
        parse(self, *arguments)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
    if words[1] != "-m":
        module, words = f"resnet50.commands.{words[1].removesuffix('.py')}", words[1:]
    elif words[2] == "resnet50":
        module, words = f"resnet50.commands.{module_of(words[3])}", words[3:]
    else:
        monkeypatch.setattr(sys, "argv", words[2:])
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        return
    monkeypatch.setattr(sys, "argv", words)
    importlib.import_module(module).main()


def is_of_the_project(words):
    """Whether a command starts one of the project's programs with its arguments."""
    is_script = words[1] in {path.name for path in PROJECT.glob("*.py")}
    package = words[2].split(".")[0] if words[1] == "-m" else ""
    return is_script or package in ("resnet50", "benchmarks", "tests")


OURS = [c for c in COMMANDS if is_of_the_project(shlex.split(c))]


@pytest.mark.parametrize("command", OURS)
def test_a_program_takes_the_command(command, monkeypatch):
    words = shlex.split(command)
    if words[1:3] == ["-m", "resnet50"] and len(words) == 4:
        assert words[3] in NAMES  # The name alone, in a sentence.
        return
    with pytest.raises(ParsedError):
        run_until_parsed(words, monkeypatch)


def test_a_flag_that_does_not_exist_is_refused(monkeypatch):
    words = ["python3", "train.py", "--run_folder=a", "--epochs_start=0"]
    with pytest.raises(SystemExit):
        run_until_parsed(words, monkeypatch)


def test_all_other_commands_are_known():
    of_python = re.compile(".* -m (pip|venv) ")
    others = {c for c in COMMANDS if c not in OURS and not of_python.match(c)}
    made = "configuration", "notebook", "pictures"
    assert others == {f"python3 -m docs.make_{name}" for name in made}


def test_the_scripts_and_all_named_commands_are_shown():
    text = "\n".join(OURS)
    for program in ("train.py", "runtime_preprocessing.py", "compute_channel_stats.py"):
        assert program in text
    for name in NAMES:
        assert name == "demo" or f"-m resnet50 {name}" in text


def test_make_targets_and_extras_exist():
    project = tomli.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    extras = project["project"]["optional-dependencies"]
    for path in PAGES:
        text = read(path.name)
        for code in code_lines(text) + inline_code(text):
            for name in re.findall(r"pip install -e '\.\[(\w+)\]'", code):
                assert name in extras, (path.name, name)
            if match := re.match(r"make (\w+)$", code):
                assert f"\n{match[1]}:" in makefile, (path.name, code)


def anchor_of(heading):
    """A heading's anchor, as GitHub makes it."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def require_target(target, page):
    """Demands that a link on a page leads to a file, and to one of its headings."""
    name, _, anchor = target.partition("#")
    file = (page.parent / name) if name else page
    assert file.exists(), target
    if anchor:
        text = outside_fences(file.read_text(encoding="utf-8"))
        headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        assert [anchor_of(heading) for heading in headings].count(anchor) == 1, target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("https://"):
            require_target(target, path)
    defined = re.findall(r"^\[(\w+)\]: ", text, flags=re.MULTILINE)
    used = re.findall(r"\]\[(\w+)\]", text)
    assert set(used) == set(defined)


@pytest.mark.parametrize("target", ["no-such.md", "code.md#no-such", "#no-such"])
def test_a_link_that_leads_nowhere_is_found(target):
    with pytest.raises(AssertionError):
        require_target(target, PROJECT / "docs" / "gpu.md")
