"""Inflates Snappy, which compresses Parquet shards, in plain Python.

Photographs are nearly incompressible: an image has about 80 elements, and most of its
bytes are in literals. So Python is fast enough, and workers need no library.
"""

import errno
from typing import NamedTuple

# A literal's distance.
LITERAL = -1


def damaged_stream() -> OSError:
    """Returns the error for compressed bytes that do not inflate."""
    return OSError(errno.ENODATA, "the shard's compressed bytes are damaged")


class SnappyElement(NamedTuple):
    """One element of a Snappy stream: a literal, or a copy of earlier bytes."""

    data: int  # where a literal's bytes begin, or where a copy ends
    length: int  # bytes that it inflates to
    distance: int  # how far back a copy begins; LITERAL: its bytes are in the stream


def snappy_element(stream: bytes | memoryview, position: int) -> SnappyElement:
    """Reads an element's head (google/snappy, format_description.txt, section 2)."""
    tag = stream[position]
    kind, position = tag & 3, position + 1
    if kind == 0:
        length = tag >> 2
        if length >= 60:
            width = length - 59
            length = int.from_bytes(stream[position : position + width], "little")
            position += width
        return SnappyElement(position, length + 1, LITERAL)
    if kind == 1:
        distance = (tag >> 5) << 8 | stream[position]
        return SnappyElement(position + 1, 4 + (tag >> 2 & 7), distance)
    width = 2 * kind - 2
    distance = int.from_bytes(stream[position : position + width], "little")
    return SnappyElement(position + width, 1 + (tag >> 2), distance)


def inflate_snappy(stream: bytes | memoryview) -> bytearray:
    """Inflates elements of a Snappy stream, without the stream's leading length.

    Raises:
        OSError: ENODATA: the stream is damaged.
    """
    inflated, position = bytearray(), 0
    while position < len(stream):
        try:
            position, length, distance = snappy_element(stream, position)
        except IndexError:
            raise damaged_stream() from None
        if distance == LITERAL:
            inflated += stream[position : position + length]
            position += length
        elif 0 < distance <= len(inflated):
            start = len(inflated) - distance
            pattern = bytes(inflated[start : start + length])
            # A copy that reaches its own output repeats it.
            inflated += (pattern * -(-length // len(pattern)))[:length]
        else:
            raise damaged_stream()
    if position > len(stream):
        raise damaged_stream()
    return inflated
