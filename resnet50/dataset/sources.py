"""Where an image is, and how its bytes are read: a file, or a part of a larger file.

An image in a tar archive or a Parquet shard is a range of that file's bytes, taken by
one positioned read. Where the shard is compressed by Snappy, the range holds the image
compressed, with up to 64 KiB before and after it. tar_index.py and parquet_index.py
find the ranges.

A dataset keeps the places of its images in tables (``Places``), and makes the source of
an image when it is asked for. Sources can be sent to any process of any host that has
the same files at the same paths.
"""

import abc
import dataclasses
import errno
import functools
import os
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnet50.dataset.archives.snappy import damaged_stream, inflate_snappy

# No photograph is larger; a file that is would fill a worker's memory.
_MAX_BYTES = 2**30

# Archives that a process keeps open at once; the usual limit is 1,024 open files.
_MAX_OPEN = 128


class ImageSource(abc.ABC):
    """Where an image is. ``str()`` gives its name for logs and messages."""

    __slots__ = ()

    @abc.abstractmethod
    def read(self) -> bytes:
        """Reads the image's bytes.

        Raises:
            OSError: They cannot be read; EFBIG, if they are more than a GiB; ENODATA,
                if an archive ends before them or its compressed bytes are damaged;
                EINVAL, if the path is a pipe, a device or the like.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class ImageFile(ImageSource):
    """An image that is a file of its own."""

    path: str

    def read(self) -> bytes:
        """Reads the file."""
        status = Path(self.path).stat()
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe would wait for ever for somebody to write into it.
            raise OSError(errno.EINVAL, "is not a regular file")
        _require_size(status.st_size)
        return Path(self.path).read_bytes()

    def __str__(self) -> str:
        return self.path


@dataclasses.dataclass(frozen=True, slots=True)
class TarMember(ImageSource):
    """An image in a tar archive."""

    archive: str
    name: str
    offset: int  # of its bytes in the archive
    size: int

    def read(self) -> bytes:
        """Reads the range."""
        return _read_range(self.archive, self.offset, self.size)

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


class SnappyRange(NamedTuple):
    """What a range of a Snappy stream inflates to, and which part of that is an image.

    The range consists of whole elements, none of which refers to bytes before it.
    """

    inflated: int  # bytes
    start: int  # of the image in them
    size: int  # of the image, bytes


@dataclasses.dataclass(frozen=True, slots=True)
class ShardImage(ImageSource):
    """An image in a page of a Parquet shard."""

    archive: str
    name: str
    offset: int  # of the range that holds it
    size: int  # of the range, bytes
    snappy: SnappyRange | None  # what the range inflates to; None: it is the image

    def read(self) -> bytes:
        """Reads the range, and inflates it if it is compressed."""
        data = _read_range(self.archive, self.offset, self.size)
        if self.snappy is None:
            return data
        inflated = inflate_snappy(data)
        if len(inflated) != self.snappy.inflated:
            raise damaged_stream()
        return bytes(inflated[self.snappy.start :][: self.snappy.size])

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


def _require_size(num_bytes: int) -> None:
    if num_bytes > _MAX_BYTES:
        raise OSError(errno.EFBIG, f"has {num_bytes:,} bytes, more than a GiB")


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


def _read_range(archive: str, offset: int, size: int) -> bytes:
    _require_size(size)
    try:
        handle = _open(archive)
        data = os.pread(handle.descriptor, size, offset)
    except OSError:
        _open.cache_clear()  # A handle may be stale: the disk was gone for a while.
        raise
    if len(data) != size:
        raise OSError(errno.ENODATA, "the archive ends before the image does")
    return data


class Places(NamedTuple):
    """The places of many images in archives; 31 MB for 1.28 million, 61 MB in shards.

    A table of three columns is of tar archives, one of six of Parquet shards.
    """

    archives: tuple[str, ...]
    # int64 [num_images, 3]: archive, offset, size; or [num_images, 6]: and SnappyRange.
    # An inflated size of 0 marks an image that is not compressed.
    table: np.ndarray

    def source(self, index: int, name: str) -> ImageSource:
        """Where an image is."""
        archive, offset, size, *snappy = self.table[index].tolist()
        path = self.archives[archive]
        if not snappy:
            return TarMember(path, name, offset, size)
        compressed = SnappyRange(*snappy) if snappy[0] else None
        return ShardImage(path, name, offset, size, compressed)

    def take(self, order: np.ndarray) -> "Places":
        """The places of some images, in the given order."""
        return Places(self.archives, self.table[order])
