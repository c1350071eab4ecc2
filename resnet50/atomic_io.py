"""Atomic files and folders: another process sees the old one, the new one, or none.

A file is written under a temporary name in its own folder, flushed to the disk, and
renamed. A process that is killed while writing leaves at most a temporary, which no
reader opens and ``remove_temporaries`` deletes.

A power cut loses more: what was written, unless the file was flushed; and names that
were created, renamed or deleted, in any order, unless their folder was flushed.
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
    """A new temporary's path, which no other process on any host will choose."""
    return folder / f"{_PREFIX}{uuid.uuid4().hex}{suffix}{_SUFFIX}"


@contextlib.contextmanager
def atomic_file(
    path: Path, *, durable: bool = True, whole: bool = True
) -> Iterator[BinaryIO]:
    """Yields an open binary file that becomes ``path`` when the block ends.

    An existing file is replaced.

    Args:
        path: The file.
        durable: Whether the new file survives a power cut after this call. If not, the
            old file or none may be there.
        whole: Whether the bytes reach the disk before the name does, so that it never
            names an empty or torn file. If not, ``path``'s readers must expect one.

    Raises:
        OSError: The folder is missing or full. Nothing is left behind.
    """
    # Without path's stem: the path may already have the longest name allowed.
    temporary = temporary_path(path.parent, path.suffix)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if durable or whole:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync(path.parent)


def fsync(path: Path) -> None:
    """Makes a file's bytes, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not support this for folders.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Makes a folder with all that is in it survive, but not its own name."""
    for path in folder.iterdir():
        if path.is_dir():
            fsync_tree(path)
        else:
            fsync(path)
    fsync(folder)


def create_folder(path: Path) -> None:
    """Creates a folder and its parents where they are missing; they survive."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        fsync(folder.parent)


def remove_temporaries(folder: Path, suffix: str) -> None:
    """Deletes the files that killed writers left in a folder.

    No other process may be writing files with the suffix, such as ".npy", there.
    """
    for path in list(folder.glob(f"{_PREFIX}*{suffix}{_SUFFIX}")):
        path.unlink(missing_ok=True)
