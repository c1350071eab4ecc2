"""Reads images out of remote archives: from the cache or from the server, and ahead.

A thread pool requests the next images while one is decoded. So the time that a request
takes does not limit a worker.
"""

import contextlib
import errno
import functools
import os
import tarfile
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from resnet50.dataset.remote import store
from resnet50.dataset.remote.image_cache import (
    CachedImage,
    CacheSettings,
    open_cache,
)

# Requests at a time. At a latency of 50 ms these are 320 images/s for each worker.
_NUM_AHEAD = 16

# No more bytes are requested ahead, however large the images.
_BYTES_AHEAD = 2**26


class RemotePart(NamedTuple):
    """What is known of an image in a remote archive, besides its range."""

    header: int  # CRC-32 of the member's header, the 512 bytes before the image
    version: str  # of the archive; "" if the server gives none
    cache: CacheSettings | None


class RemoteImage(NamedTuple):
    """An image in a remote archive."""

    url: str
    offset: int
    size: int
    part: RemotePart

    def fetch(self) -> bytes:
        """Reads the image from the cache, or from the server.

        Raises:
            StoreAwayError: The server did not send it.
            OSError: The archive is gone, too short, or another one.
        """
        cached = CachedImage(
            self.url, self.part.version, self.offset, self.size, self.part.header
        )
        cache = open_cache(self.part.cache) if self.part.cache else None
        if cache and (content := cache.get(cached)) is not None:
            return content
        start = self.offset - tarfile.BLOCKSIZE
        data = store.read_range(self.url, start, self.offset + self.size)
        if zlib.crc32(data[: tarfile.BLOCKSIZE]) != self.part.header:
            raise OSError(errno.ENODATA, "the archive has changed (start again)")
        content = data[tarfile.BLOCKSIZE :]
        if cache:
            cache.put(cached, content)
        return content


class _Window:
    """Images that are requested ahead, in order."""

    def __init__(self, images: Iterable[RemoteImage]):
        self._coming = deque(dict.fromkeys(images))
        self._requested: dict[RemoteImage, Future[bytes]] = {}
        self._num_bytes = 0
        self._abandoned = threading.Event()
        self._request_more()

    def _request_more(self) -> None:
        while self._coming and len(self._requested) < _NUM_AHEAD:
            size = self._coming[0].size
            if self._requested and self._num_bytes + size > _BYTES_AHEAD:
                break
            image = self._coming.popleft()
            self._num_bytes += size
            self._requested[image] = _threads(os.getpid()).submit(self._fetch, image)

    def _fetch(self, image: RemoteImage) -> bytes:
        store.abandon_when(self._abandoned)
        return image.fetch()

    def take(self, image: RemoteImage) -> bytes | None:
        """Returns an image that was requested; None if it was not."""
        future = self._requested.pop(image, None)
        if future is None:
            return None
        self._num_bytes -= image.size
        self._request_more()
        return future.result()

    def close(self) -> None:
        """Gives up what nobody has taken."""
        self._abandoned.set()
        for future in self._requested.values():
            future.cancel()


class _OfThread(threading.local):
    window: _Window | None = None


_of_thread = _OfThread()


@functools.lru_cache
def _threads(process_id: int) -> ThreadPoolExecutor:
    """The threads that request images; a fork has none of them."""
    return ThreadPoolExecutor(_NUM_AHEAD, "request images")


@contextlib.contextmanager
def requested_ahead(images: Iterable[RemoteImage]) -> Iterator[None]:
    """Requests images ahead, which this thread reads in about this order."""
    window = _of_thread.window = _Window(images)
    try:
        yield
    finally:
        _of_thread.window = None
        window.close()


def read_member(image: RemoteImage) -> bytes:
    """Reads an image; see ``RemoteImage.fetch``."""
    window = _of_thread.window
    data = window.take(image) if window else None
    return image.fetch() if data is None else data
