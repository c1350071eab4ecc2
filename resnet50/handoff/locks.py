"""One preprocessor and one trainer for each buffer folder, and who is alive.

An operating system's file lock, so that a killed process leaves none behind. The lock
file holds the process id of its owner, for messages only: whether the owner lives is
told by the lock, never by the number.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from resnet50.errors import UserError

PREPROCESSOR, TRAINER = "runtime_preprocessing", "train"
EVALUATOR = "evaluate"  # of a run, in its folder

# A look at a lock (see is_alive) holds it for microseconds. An owner that meets one
# tries again for this long before it believes in a second owner.
_RETRY_SECONDS = 0.5


class AlreadyRunningError(UserError):
    """Another living process has this role in the folder."""


class LockError(UserError):
    """The lock file cannot be opened."""


def _lock_path(folder: Path, role: str) -> Path:
    return folder / f"{role}.lock"


@contextlib.contextmanager
def exclusive_role(folder: Path, role: str) -> Iterator[None]:
    """Holds a role in a folder for as long as the block runs.

    Args:
        folder: The buffer folder, or a run's; must exist.
        role: PREPROCESSOR, TRAINER or EVALUATOR.

    Raises:
        AlreadyRunningError: A living process has the role; names its process id.
        LockError: The folder cannot be written to.
    """
    path = _lock_path(folder, role)
    try:
        # Without a buffer, which a full disk would keep from being emptied at the end.
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise LockError(f"{path}: cannot be opened: {error.strerror}") from None
    with file:
        deadline = time.monotonic() + _RETRY_SECONDS
        while not _try_lock(file):
            if time.monotonic() > deadline:
                raise AlreadyRunningError(_refusal(folder, role))
            time.sleep(0.02)
        with contextlib.suppress(OSError):  # A full disk: the number is missing then.
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
        # Closing the file ends the lock, here or when the process dies. The file
        # itself stays: deleting it would let two processes lock two files.
        yield


def _refusal(folder: Path, role: str) -> str:
    process = owner(folder, role)
    if role == EVALUATOR:
        return (
            f"{folder}: is being evaluated by process {process} (wait until that "
            "ends, or stop it)"
        )
    return (
        f"{folder}: {role}.py already runs here, process {process} (stop it, or give "
        "this one a folder of its own)"
    )


def _try_lock(file: FileIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_alive(folder: Path, role: str) -> bool:
    """Whether a living process has the role in the folder."""
    try:
        with _lock_path(folder, role).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def owner(folder: Path, role: str) -> str:
    """The process id that the newest owner of a role wrote, or "unknown"."""
    try:
        return _lock_path(folder, role).read_text().strip() or "unknown"
    except (OSError, UnicodeDecodeError):
        return "unknown"
