"""Collects the texts in the project's source, for tests of the docs. No test."""

import ast
import functools
import re

from tests.settings import PROJECT

_HOLE = "\0"  # Stands for what an f-string fills in.


def _text_of(node):
    """A string in the source, with holes; None if the node is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text_of(value) or _HOLE for value in node.values)
    return None


@functools.cache
def source_texts() -> tuple[str, ...]:
    """All strings in resnet50/, each with holes where values are put in."""
    texts = set()
    for path in (PROJECT / "resnet50").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = _text_of(node)
            if text:
                texts.add(" ".join(text.split()))
    return tuple(texts)


def is_quoted_from_source(quotation: str) -> bool:
    """Whether one string of the source has a quotation's parts in their order.

    Args:
        quotation: With "..." for what differs from case to case.
    """
    parts = [re.escape(part.strip()) for part in quotation.split("...") if part.strip()]
    pattern = re.compile(".*".join(parts))
    return any(pattern.search(text) for text in source_texts())


@functools.cache
def _line_patterns() -> tuple[re.Pattern, ...]:
    """A pattern for each string of the source with enough words of its own."""
    patterns = []
    for text in source_texts():
        parts = [part.strip() for part in text.split(_HOLE) if part.strip()]
        if sum(map(len, parts)) >= 7:
            patterns.append(re.compile(".*".join(map(re.escape, parts))))
    return tuple(patterns)


def could_be_printed(line: str) -> bool:
    """Whether some string of the source, filled in, is in a line."""
    line = " ".join(line.split())
    return any(pattern.search(line) for pattern in _line_patterns())
