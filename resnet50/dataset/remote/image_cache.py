"""A local cache of images from an object store, of bounded size.

Each archive has a sparse file in which an image is at its own offset, after a head with
checksums. So there is no index: any process reads and writes at any time, a torn or
damaged image is a miss, and writing it twice does no harm. An epoch reads each image
once, in another order each time. So nothing is evicted: the first images that fit
remain, and as large a share of the reads is local.
"""

import contextlib
import errno
import functools
import hashlib
import os
import struct
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import NamedTuple

from resnet50.dataset.handles import Handle
from resnet50.urls import shown_url

# Before the image's bytes: a magic number and the CRC-32 of its header in the archive
# and of its bytes. In the archive, a member's header takes these bytes.
_HEAD = struct.Struct("<4sII")
_MAGIC = b"RN50"

# What is left free on the disk, bytes.
_LEFT_FREE = 2 * 10**9

# After a look at the folder, a process writes this share of the room, at most so much.
_SHARE, _MOST_BYTES = 16, 2**26
_SECONDS_BETWEEN_LOOKS = 10.0

# The file that a process leaves when it cannot write, and when it tries again.
_STOPPED, _STOPPED_SECONDS = "stopped", 600.0

_MAX_OPEN = 128


class CacheSettings(NamedTuple):
    """Where images are cached, and how many bytes of them at most."""

    folder: str
    max_bytes: int


class CachedImage(NamedTuple):
    """Which image is cached: its archive and its place there."""

    archive: str  # URL
    version: str  # of the archive
    offset: int
    size: int
    header: int  # CRC-32 of the member's header


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def used_bytes(folder: str) -> int:
    """The disk space that a cache takes; 0 if there is none yet."""
    missing = FileNotFoundError, NotADirectoryError
    with contextlib.suppress(*missing), os.scandir(folder) as entries:
        return sum(entry.stat().st_blocks * 512 for entry in entries)
    return 0


class ImageCache:
    """The cache of one folder, as one process sees it."""

    def __init__(self, settings: CacheSettings):
        self._folder, self._max_bytes = Path(settings.folder), settings.max_bytes
        self._lock = threading.Lock()
        self._may_write = 0  # bytes, until the next look at the folder
        self._next_look = 0.0
        self._stopped_until, self._stopping = 0.0, threading.Lock()
        self._open = functools.lru_cache(maxsize=_MAX_OPEN)(Handle)

    def _path(self, image: CachedImage) -> Path:
        archive = shown_url(image.archive)  # A signature differs each time.
        name = f"{_digest(archive)}_{_digest(image.version)}.images"
        return self._folder / name

    def get(self, image: CachedImage) -> bytes | None:
        """Returns an image's bytes, or None if they are not here, or damaged."""
        try:
            file = self._open(self._path(image), os.O_RDONLY)
            start = image.offset - _HEAD.size
            data = os.pread(file.descriptor, _HEAD.size + image.size, start)
        except OSError:
            return None
        if len(data) != _HEAD.size + image.size:
            return None
        content = data[_HEAD.size :]
        head = _HEAD.pack(_MAGIC, image.header, zlib.crc32(content))
        return content if data[: _HEAD.size] == head else None

    def put(self, image: CachedImage, content: bytes) -> None:
        """Adds an image if there is room."""
        if not self._takes(len(content)):
            return
        head = _HEAD.pack(_MAGIC, image.header, zlib.crc32(content))
        try:
            path = self._path(image)
            if not path.exists():
                self._remove_versions(path)
            file = self._open(path, os.O_RDWR | os.O_CREAT)
            os.pwrite(file.descriptor, head + content, image.offset - _HEAD.size)
        except OSError as error:
            self._stop(error)

    def _remove_versions(self, path: Path) -> None:
        """Removes the files of other versions of an archive."""
        for other in self._folder.glob(f"{path.name.partition('_')[0]}_*.images"):
            if other != path:  # Another process may have made it.
                other.unlink(missing_ok=True)

    def _takes(self, num_bytes: int) -> bool:
        """Whether there is room for so many bytes, which are then taken."""
        num_bytes += _HEAD.size
        with self._lock:
            if num_bytes > self._may_write:
                now = time.monotonic()
                if now < self._next_look:
                    return False
                self._next_look = now + _SECONDS_BETWEEN_LOOKS
                try:
                    room = self._room()
                except OSError as error:
                    self._stop(error)
                    return False
                self._may_write = min(room // _SHARE, _MOST_BYTES)
                if self._may_write == _MOST_BYTES:
                    self._next_look = now
            if num_bytes > self._may_write:
                return False
            self._may_write -= num_bytes
            return True

    def _room(self) -> int:
        """Looks at the folder: how many bytes may be added by all processes."""
        self._open.cache_clear()  # The user may have deleted the folder.
        self._folder.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize - _LEFT_FREE
        return max(0, min(self._max_bytes - used_bytes(str(self._folder)), free))

    def _stop(self, error: OSError) -> None:
        """Writes nothing for a while; the first thread of the first process says so."""
        with self._stopping:
            now = time.monotonic()
            if now < self._stopped_until:
                return
            self._stopped_until = self._next_look = now + _STOPPED_SECONDS
            self._may_write = 0
        mark = self._folder / _STOPPED
        with contextlib.suppress(OSError):
            if time.time() - mark.stat().st_mtime > _STOPPED_SECONDS:
                mark.unlink()
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return
        except OSError:  # No room for this either.
            pass
        reason = error.strerror or os.strerror(error.errno or errno.EIO)
        # A worker has no other way to the user.
        print(
            f"{self._folder}: cannot be written: {reason}; images are cached again in "
            f"{_STOPPED_SECONDS / 60:g} minutes (see [dataset] cache_folder)",
            file=sys.stderr,
            flush=True,
        )


@functools.lru_cache
def open_cache(settings: CacheSettings) -> ImageCache:
    """Returns this process's view of a cache."""
    return ImageCache(settings)
