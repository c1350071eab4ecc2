"""A curve in text, for a terminal."""

import itertools
import math
from collections.abc import Sequence

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ASCII = " .:#"

# A value is at most so many columns wide.
_MAX_COLUMNS = 3


def _to_columns(values: Sequence[float], width: int) -> list[float]:
    """As many values as columns: each repeated, or the mean of some neighbours."""
    if len(values) <= width:
        repeats = min(_MAX_COLUMNS, width // len(values))
        return [value for value in values for _ in range(repeats)]
    edges = [len(values) * column // width for column in range(width + 1)]
    parts = (values[start:end] for start, end in itertools.pairwise(edges))
    return [sum(part) / len(part) for part in parts]


def draw_curve(
    values: Sequence[float], width: int, height: int, *, is_ascii: bool
) -> list[str]:
    """Draws values as columns, from the smallest to the largest one.

    Args:
        values: Those that are not finite are left out.
        width: Columns, with those of the two numbers at the left.
        height: Lines, at least 2.
        is_ascii: Draws with ASCII characters only, in steps of a third of a line.

    Returns:
        The lines, highest values first; none without two values, or without room.
    """
    values = [value for value in values if math.isfinite(value)]
    if len(values) < 2:
        return []
    low, high = min(values), max(values)
    labels = [f"{high:.3f}", *[""] * (height - 2), f"{low:.3f}"]
    indent = max(map(len, labels))
    if width - indent - 1 < 2:
        return []
    symbols = _ASCII if is_ascii else _EIGHTHS
    per_line = len(symbols) - 1
    top = height * per_line
    levels = [
        1 + round((top - 1) * (value - low) / ((high - low) or 1))
        for value in _to_columns(values, width - indent - 1)
    ]
    lines = []
    for line, label in enumerate(labels):
        below = (height - 1 - line) * per_line
        columns = (symbols[min(per_line, max(0, n - below))] for n in levels)
        lines.append(f"{label:>{indent}} {''.join(columns)}".rstrip())
    return lines
