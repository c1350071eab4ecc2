"""A remote archive as a file for tarfile, which reads only its headers."""

import io

from resnet50.dataset.remote.store import read_range

# Headers that are near each other are read together. Reading over a gap of 16 KiB takes
# no longer than another request; the images between two headers are usually larger.
_NEAR = 2**14
_LEAST_BLOCK, _MOST_BLOCK = 2**12, 2**20


class RangeFile(io.RawIOBase):
    """Reads an object in blocks, and keeps the last one."""

    def __init__(self, url: str, size: int):
        self._url, self._size = url, size
        self._position = 0
        self._start, self._block = 0, b""
        self._block_size = _NEAR

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether its position can be changed: yes."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Changes the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        if base[whence] + offset < 0:
            raise ValueError("a negative position")
        self._position = base[whence] + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Reads up to ``size`` bytes, fewer only at the end.

        Raises:
            StoreAwayError, OSError: See ``store.read_range``.
        """
        left = max(0, self._size - self._position)
        size = left if size < 0 else min(size, left)
        start = self._position - self._start
        if size and not 0 <= start <= len(self._block) - size:
            self._load(size)
            start = 0
        self._position += size
        return self._block[start : start + size]

    def _load(self, size: int) -> None:
        """Reads the block at the position, of at least ``size`` bytes."""
        gap = self._position - (self._start + len(self._block))
        if 0 <= gap < _NEAR:
            self._block_size = min(2 * self._block_size, _MOST_BLOCK)
        else:
            self._block_size = max(self._block_size // 2, _LEAST_BLOCK)
        self._start = self._position
        stop = min(self._start + max(size, self._block_size), self._size)
        self._block = read_range(self._url, self._start, stop)
