"""Writes docs/configuration.md from config.txt and the checks of its settings.

    python3 -m docs.make_configuration

The text is that of config.txt's comments. Types, ranges and choices come from the
checks in resnet50.config.settings, flags from the programs' parsers. A test compares
the page with the output of this module.
"""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from resnet50.command_line import make_parser
from resnet50.config.settings import Config

PROJECT = Path(__file__).parents[1]
DOCUMENT = PROJECT / "docs" / "configuration.md"

_INTRODUCTION = """\
# Configuration reference

<!-- Made by `python3 -m docs.make_configuration`; changes here are lost. -->

All settings are in [config.txt](../config.txt), a TOML file. This page is generated
from its comments and from the checks in resnet50/config/settings.py.

* Every key must be present, of its type and in its range. Otherwise, or with an unknown
  key, a program ends with one line that names the key, the value and what it must be.
* A relative path is relative to the folder of its file.
* A file may contain only some of the keys, below a line such as `base = "config.txt"`
  that names the file with the others. The [recipes](training-imagenet.md#recipes) are
  such files.
* Every program that reads it has the flags `--config=PATH` and
  [`--set SECTION.KEY=VALUE`](programs.md#settings-on-the-command-line).
* Below, each key has its value as shipped and, in brackets, the values that it may
  have; then the flag that overrides it, if there is one.
* The two programs must agree in all keys that determine a batch's content. Otherwise
  the second program refuses to start ([protocol](protocol.md#manifestjson)).
"""


class Group(NamedTuple):
    """Keys of config.txt that share a comment."""

    comment: list[str]  # lines
    values: dict[str, str]  # by key: the value as shipped, in TOML


def read_groups(text: str) -> dict[str, list[Group]]:
    """Reads config.txt's keys and comments, by section.

    Args:
        text: Sections, and keys of one line each, below their comments.
    """
    sections: dict[str, list[Group]] = {}
    comment: list[str] = []
    for line in text.splitlines():
        if line.startswith("# "):
            comment.append(line[2:])
        elif line.startswith("["):
            groups = sections.setdefault(line.strip("[]"), [])
            comment = []
        elif line:
            if comment:
                groups.append(Group(comment, {}))
                comment = []
            key, value = line.split(" = ", 1)
            groups[-1].values[key] = value
    return sections


def flags() -> dict[tuple[str, str], list[str]]:
    """For each (section, key) that a flag overrides, the programs with the flag."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted((PROJECT / "resnet50" / "commands").glob("*.py")):
        keys = [key for call in _parser_calls(path) for key in call]
        program = path.name if (PROJECT / path.name).exists() else path.stem
        # The parser knows the section that a flag belongs to.
        usage = " ".join(make_parser("", *keys).format_help().split())
        for key, section in re.findall(r"(\w+) in \[(\w+)\] of config.txt", usage):
            found.setdefault((section, key), []).append(program)
    return found


def _parser_calls(path: Path) -> Iterator[list[str]]:
    """The keys given to each call of make_parser in a module.

    The module is parsed, not imported: some need TensorFlow, which takes seconds.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and "make_parser" in ast.unparse(node.func):
            yield [a.value for a in node.args if isinstance(a, ast.Constant)]


def _in_markdown(line: str) -> str:
    """A comment in Markdown; an asterisk that is no product is escaped."""
    return re.sub(r"\*(?=\S)", r"\\*", line)


def _paragraphs(section: str, group: Group, checks: dict, programs: dict) -> str:
    """A group's heading, comment, and a line for each key."""
    lines = ["### " + ", ".join(group.values), ""]
    lines += [*map(_in_markdown, group.comment), ""]
    for key, value in group.values.items():
        lines.append(f"* `{key} = {value}` ({checks[key]['expects']})")
        if (section, key) in programs:
            lines.append(
                f"  or `--{key}` of {', '.join(programs[section, key])}",
            )
    return "\n".join([*lines, ""])


def make_document() -> str:
    """The whole page."""
    sections = read_groups((PROJECT / "config.txt").read_text(encoding="utf-8"))
    programs = flags()
    parts = [_INTRODUCTION]
    for section in dataclasses.fields(Config):
        checks = {f.name: f.metadata for f in dataclasses.fields(section.type)}
        parts.append(f"## [{section.name}]\n")
        for group in sections[section.name]:
            parts.append(_paragraphs(section.name, group, checks, programs))
    return "\n".join(parts)


if __name__ == "__main__":
    DOCUMENT.write_text(make_document(), encoding="utf-8")
