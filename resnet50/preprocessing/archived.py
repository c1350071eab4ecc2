"""Images that lie inside larger files: where each one is, and how its bytes are read.

An image in a tar archive or a Parquet shard is a range of that file's bytes, taken by
one positioned read. Where the shard is compressed by Snappy, the range holds the image
compressed, with up to 64 KiB before and after it. Finding the ranges is the task of
tar_index.py and parquet_index.py.
"""

import errno
import functools
import os
from typing import NamedTuple

import numpy as np

# Archives that a process keeps open at once; the usual limit is 1,024 open files.
_MAX_OPEN = 128


class SnappyRange(NamedTuple):
    """What a range of a Snappy stream inflates to, and which part of that is an image.

    The range consists of whole elements, none of which refers to bytes before it.
    """

    inflated: int  # bytes
    start: int  # of the image in them
    size: int  # of the image, bytes


class ArchivedImage(str):
    """The name of an image in an archive, that knows where its bytes are.

    As a text it is ``archive/name``, for messages; there is no such file.

    Attributes:
        archive: Path of the file that the image is in.
        offset: Of the image's range in it, bytes.
        size: Of the range, bytes.
        snappy: What the range inflates to; None: the range is the image.
    """

    __slots__ = ("archive", "offset", "size", "snappy")

    def __new__(
        cls,
        name: str,
        archive: str,
        offset: int,
        size: int,
        snappy: SnappyRange | None = None,
    ):
        """Takes the text and the place."""
        self = super().__new__(cls, name)
        self.archive, self.offset, self.size = archive, offset, size
        self.snappy = snappy
        return self

    def __reduce__(self):
        place = (self.archive, self.offset, self.size, self.snappy)
        return type(self), (str(self), *place)

    def read(self) -> bytes:
        """Reads the image's bytes.

        Raises:
            OSError: They cannot be read; ENODATA, if the archive ends before them or
                its compressed bytes are damaged.
        """
        try:
            handle = _open(self.archive)
            data = os.pread(handle.descriptor, self.size, self.offset)
        except OSError:
            _open.cache_clear()  # A handle may be stale: the disk was gone for a while.
            raise
        if len(data) != self.size:
            raise OSError(errno.ENODATA, "the archive ends before the image does")
        if self.snappy is None:
            return data
        inflated = inflate_snappy(data)
        if len(inflated) != self.snappy.inflated:
            raise _damaged()
        return bytes(inflated[self.snappy.start :][: self.snappy.size])


def _damaged() -> OSError:
    return OSError(errno.ENODATA, "the shard's compressed bytes are damaged")


class _Handle:
    """An open file, closed when nobody holds it: not while another thread reads."""

    def __init__(self, path: str):
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self):
        if self.descriptor >= 0:
            os.close(self.descriptor)


# Positioned reads leave no trace in a handle, so that threads and forked processes may
# share one.
_open = functools.lru_cache(maxsize=_MAX_OPEN)(_Handle)


class SnappyElement(NamedTuple):
    """One element of a Snappy stream."""

    data: int  # where a literal's bytes begin; where a copy ends
    length: int  # bytes that it inflates to
    distance: int  # how far back a copy takes them from; -1: a literal

    @property
    def is_literal(self) -> bool:
        """Whether its bytes stand in the stream."""
        return self.distance < 0


def snappy_element(stream: bytes, position: int) -> SnappyElement:
    """Reads an element's head (google/snappy, format_description.txt, section 2)."""
    tag = stream[position]
    kind, position = tag & 3, position + 1
    if kind == 0:
        length = tag >> 2
        if length >= 60:
            width = length - 59
            length = int.from_bytes(stream[position : position + width], "little")
            position += width
        return SnappyElement(position, length + 1, -1)
    if kind == 1:
        distance = (tag >> 5) << 8 | stream[position]
        return SnappyElement(position + 1, 4 + (tag >> 2 & 7), distance)
    width = 2 * kind - 2
    distance = int.from_bytes(stream[position : position + width], "little")
    return SnappyElement(position + width, 1 + (tag >> 2), distance)


def inflate_snappy(stream: bytes) -> bytearray:
    """Inflates elements of a Snappy stream, without its leading length.

    Photographs are nearly incompressible: 80 elements an image, most of its bytes in
    literals, so that Python is fast enough and workers need no library.

    Raises:
        OSError: ENODATA; the stream is damaged.
    """
    inflated, position = bytearray(), 0
    while position < len(stream):
        try:
            element = snappy_element(stream, position)
        except IndexError:
            raise _damaged() from None
        position, length, distance = element
        if element.is_literal:
            inflated += stream[position : position + length]
            position += length
        elif 0 < distance <= len(inflated):
            start = len(inflated) - distance
            pattern = bytes(inflated[start : start + length])
            # A copy may run into what it writes itself, and so repeats it.
            inflated += (pattern * -(-length // len(pattern)))[:length]
        else:
            raise _damaged()
    if position > len(stream):
        raise _damaged()
    return inflated


class Places(NamedTuple):
    """The places of many images; 1.28 million take 31 MB, 61 MB compressed ones."""

    archives: tuple[str, ...]
    # int64 [num_images, 3]: archive, offset, size; or [num_images, 6]: and SnappyRange.
    # An inflated size of 0 marks an image that is not compressed.
    table: np.ndarray

    def image(self, index: int, name: str) -> ArchivedImage:
        """One image."""
        archive, offset, size, *snappy = self.table[index].tolist()
        path = self.archives[archive]
        compressed = SnappyRange(*snappy) if snappy and snappy[0] else None
        return ArchivedImage(f"{path}/{name}", path, offset, size, compressed)

    def take(self, order: np.ndarray) -> "Places":
        """The places of some images, in the given order."""
        return Places(self.archives, self.table[order])
