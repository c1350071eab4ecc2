"""Whole-or-nothing files: another process sees the old file, the new one, or none.

A file is written under a temporary name in its own folder, flushed to the disk, and
renamed. Killed at any line, it leaves at most a temporary, which no reader opens and
``remove_temporaries`` deletes.
"""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PREFIX, _SUFFIX = ".writing-", ".tmp"


def temporary_path(folder: Path, suffix: str) -> Path:
    """A name for a new file that no other process, on any host, will choose.

    ``remove_temporaries`` finds such files.
    """
    return folder / f"{_PREFIX}{uuid.uuid4().hex}{suffix}{_SUFFIX}"


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Yields an open binary file that becomes ``path`` when the block ends.

    Args:
        path: Where the file shall appear. An existing file is replaced.
        durable: Whether the bytes reach the disk before the name does. Without it a
            power cut may leave an empty or torn file under the name; only for files
            whose reader expects that.

    Raises:
        OSError: The folder is missing or full. Nothing is left behind.
    """
    # Of path's own name only the suffix: the whole may be as long as is allowed.
    temporary = temporary_path(path.parent, path.suffix)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def fsync(path: Path) -> None:
    """Makes a file's bytes, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems know no such thing for folders.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path, suffix: str) -> int:
    """Deletes what killed writers left in a folder; returns how many files.

    Args:
        folder: Where to look.
        suffix: Of the files that were being written, such as ".npy". Nobody else may
            write such files there.
    """
    leftovers = list(folder.glob(f"{_PREFIX}*{suffix}{_SUFFIX}"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
