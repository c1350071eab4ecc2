"""Collects the texts in the project's source, for tests of the docs."""

import ast
import functools
import re

from tests.settings import PROJECT

_HOLE = "\0"  # Marks where an f-string inserts a value.


def _text_of(node):
    """A string in the source, with holes; None if the node is no string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text_of(value) or _HOLE for value in node.values)
    return None


@functools.cache
def source_texts() -> tuple[str, ...]:
    """All strings in resnet50/, with holes where values are inserted."""
    texts = set()
    for path in (PROJECT / "resnet50").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = _text_of(node)
            if text:
                texts.add(" ".join(text.split()))
    return tuple(texts)


def is_quoted_from_source(quotation: str) -> bool:
    """Whether a string of the source contains a quotation, with "..." for any text."""
    parts = [re.escape(part.strip()) for part in quotation.split("...") if part.strip()]
    pattern = re.compile(".*".join(parts))
    return any(pattern.search(text) for text in source_texts())


@functools.cache
def _line_patterns() -> tuple[re.Pattern, ...]:
    """A pattern for each string of the source that has enough text."""
    patterns = []
    for text in source_texts():
        parts = [part.strip() for part in text.split(_HOLE) if part.strip()]
        if sum(map(len, parts)) >= 7:
            patterns.append(re.compile(".*".join(map(re.escape, parts))))
    return tuple(patterns)


def could_be_printed(line: str) -> bool:
    """Whether a line contains some string of the source, with values inserted."""
    line = " ".join(line.split())
    return any(pattern.search(line) for pattern in _line_patterns())
