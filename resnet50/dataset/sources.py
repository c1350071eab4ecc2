"""Where an image is, and how to read its bytes: a file, or a part of an archive.

An image in a tar archive or a Parquet shard is a range of the archive's bytes, fetched
by one positioned read. In a shard compressed by Snappy the range holds the compressed
image and up to 64 KiB before and after it. tar_index.py and parquet_index.py find the
ranges. The path of an archive may be a URL: remote/members.py reads from there.

A source can be sent to any process on any host that has the same files at the same
paths.
"""

import contextlib
import dataclasses
import errno
import functools
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np

from resnet50.dataset.archives.snappy import damaged_stream, inflate_snappy
from resnet50.dataset.handles import Handle
from resnet50.dataset.remote.image_cache import CacheSettings
from resnet50.dataset.remote.members import (
    RemoteImage,
    RemotePart,
    read_member,
    requested_ahead,
)
from resnet50.input_file import read_regular, require_size
from resnet50.urls import shown_url

# No photograph is larger; a larger file would fill a worker's memory.
_MAX_BYTES = 2**30

# Archives that a process keeps open at once; the usual limit is 1,024 open files.
_MAX_OPEN = 128


class SnappyRange(NamedTuple):
    """What a range of a Snappy stream inflates to, and which part of it is an image.

    The range consists of whole elements, which refer to no bytes before the range.
    """

    inflated: int  # bytes
    start: int  # of the image in them
    size: int  # of the image, bytes

    def image_in(self, stream: bytes) -> bytes:
        """Inflates the range and cuts the image out of it."""
        inflated = inflate_snappy(stream)
        if len(inflated) != self.inflated:
            raise damaged_stream()
        return bytes(inflated[self.start :][: self.size])


@dataclasses.dataclass(frozen=True, slots=True)
class ImageSource:
    """Where an image is. ``str()`` gives its name for logs and messages."""

    path: str  # of the image's own file, or of an archive
    name: str = ""  # in the archive; "" if the image is a file of its own
    offset: int = 0  # of its range in the archive
    size: int = 0  # of the range, bytes
    snappy: SnappyRange | None = None  # None: the range is the image
    remote: RemotePart | None = None  # None: the path is no URL

    def __str__(self) -> str:
        path = shown_url(self.path)
        return f"{path}/{self.name}" if self.name else path

    @property
    def remote_image(self) -> RemoteImage | None:
        """The same on its server; None if it is a local one."""
        if self.remote is None:
            return None
        return RemoteImage(self.path, self.offset, self.size, self.remote)

    def read(self) -> bytes:
        """Reads the image's bytes.

        Raises:
            OSError: They cannot be read. EFBIG: there is more than a GiB. ENODATA: the
                archive ends before the image does, or its compressed bytes are damaged.
                EISDIR, EINVAL: the path is a folder, a pipe, a device or the like.
            StoreAwayError: The server with the archive does not answer.
        """
        if image := self.remote_image:
            require_size(self.size, _MAX_BYTES)
            return read_member(image)
        if not self.name:
            return read_regular(self.path, _MAX_BYTES)
        data = _read_range(self.path, self.offset, self.size)
        return self.snappy.image_in(data) if self.snappy else data


# Positioned reads do not change a handle, so threads and forked processes may share it.
_open = functools.lru_cache(maxsize=_MAX_OPEN)(Handle)


def _read_range(archive: str, offset: int, size: int) -> bytes:
    require_size(size, _MAX_BYTES)
    try:
        handle = _open(archive)
        data = os.pread(handle.descriptor, size, offset)
    except OSError:
        _open.cache_clear()  # A handle is stale if the disk was gone for a while.
        raise
    if len(data) != size:
        raise OSError(errno.ENODATA, "the archive ends before the image does")
    return data


def reading_ahead(sources: Iterable[ImageSource]) -> AbstractContextManager[None]:
    """Prepares to read images in about this order, in one thread and a ``with`` block.

    Those on a server are requested ahead. Local ones need nothing.
    """
    images = [image for source in sources if (image := source.remote_image)]
    return requested_ahead(images) if images else contextlib.nullcontext()


class Servers(NamedTuple):
    """What is known of archives on servers."""

    versions: tuple[str, ...]  # of each archive; "" if its server gives none
    cache: CacheSettings | None = None


class Locations(NamedTuple):
    """Where many images are in archives; 31 MB for 1.28 million, 61 MB in shards."""

    archives: tuple[str, ...]
    # int64 [num_images, 3]: index of the archive, offset, size. For Parquet shards
    # [num_images, 6]: also SnappyRange, with an inflated size of 0 if not compressed.
    # For archives on servers [num_images, 4]: also RemotePart.header.
    table: np.ndarray
    servers: Servers | None = None  # None: the archives are files

    @property
    def cache(self) -> CacheSettings | None:
        """The cache of the images; None if there is none, or the archives are files."""
        return self.servers.cache if self.servers else None

    def in_order(self, order: list[int]) -> "Locations":
        """Returns the locations of the images with the given indices."""
        return self._replace(table=self.table[order])

    def source(self, index: int, name: str) -> ImageSource:
        """Returns where an image is."""
        archive, offset, size, *more = self.table[index].tolist()
        path = self.archives[archive]
        if self.servers is not None:
            versions, cache = self.servers
            part = RemotePart(more[0], versions[archive], cache)
            return ImageSource(path, name, offset, size, remote=part)
        snappy = SnappyRange(*more) if any(more[:1]) else None
        return ImageSource(path, name, offset, size, snappy)
