"""Reads files that may come from anywhere: never a pipe or a device, never too much.

Opening a pipe blocks until somebody writes into it, some devices react to being opened,
and others never end.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path | str, *, buffering: int = -1) -> BinaryIO:
    """Opens a file for reading.

    Raises:
        OSError: It cannot be opened. EISDIR: it is a folder. EINVAL: it is a pipe, a
            device or the like.
    """
    require_regular(os.stat(path))  # noqa: PTH116 - half the time of Path's.
    return open(path, "rb", buffering=buffering)  # noqa: PTH123


def require_regular(status: os.stat_result) -> None:
    """Raises the errors of ``open_regular`` for what is no file."""
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file")


def require_size(num_bytes: int, max_bytes: int) -> None:
    """Raises OSError, EFBIG, if a file has more bytes than it may have."""
    if num_bytes > max_bytes:
        raise OSError(errno.EFBIG, f"has {num_bytes:,} bytes, more than {max_bytes:,}")


def read_regular(path: Path | str, max_bytes: int) -> bytes:
    """Reads a file.

    Raises:
        OSError: See ``open_regular``. EFBIG: it has more than ``max_bytes``.
    """
    require_regular(os.stat(path))  # noqa: PTH116
    # Without a file object, which would take a quarter of an image's reading.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        num_bytes = os.fstat(descriptor).st_size
        require_size(num_bytes, max_bytes)
        # No more than that: some files of the kernel have no size, and block.
        data = os.read(descriptor, num_bytes)
        # A signal can cut a read from a network short.
        while len(data) < num_bytes:
            more = os.read(descriptor, num_bytes - len(data))
            if not more:  # The file has become shorter.
                break
            data += more
        return data
    finally:
        os.close(descriptor)
