"""Reads the project's pages for other tests. No test."""

import re

from tests.settings import PROJECT

PAGES = [
    PROJECT / "README.md",
    *(PROJECT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((PROJECT / "docs").glob("*.md")),
]


def read(name: str) -> str:
    """The text of one of the pages."""
    (path,) = [path for path in PAGES if path.name == name]
    return path.read_text(encoding="utf-8")


def code_lines(text: str) -> list[str]:
    """The lines of a page's code blocks, fenced or indented, without indent.

    A command continued after a backslash is one line.
    """
    lines, is_fenced = [], False
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or line.startswith("    "):
            lines.append(line.strip())
    return lines


def outside_fences(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def inline_code(text: str) -> list[str]:
    """The text in backticks outside fenced blocks; a line end becomes a space."""
    prose = outside_fences(text)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def python_blocks(text: str) -> list[str]:
    """The fenced blocks of Python."""
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """The commands that start Python or resnet50, as a user types them."""
    found = [line.removeprefix("$ ") for line in code_lines(text)]
    starts = ("python3 ", "python -m ", "resnet50 ")
    return [c for c in found + inline_code(text) if c.startswith(starts)]
