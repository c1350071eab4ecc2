"""Locks that give each role in a folder to one process, and show who is alive.

These are the operating system's file locks, so a killed process leaves none behind. The
lock file holds its owner's process id and host, but only for messages: the lock itself
shows whether the owner is alive.

A lock belongs to a file, not to its name. If the file is deleted, alone or with its
folder, the lock keeps nobody out any more, and the owner must take its role again.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from resnet50 import atomic_io
from resnet50.errors import UserError
from resnet50.input_file import open_regular

PREPROCESSOR, TRAINER = "runtime_preprocessing", "train"
EVALUATOR = "evaluate"  # of a run, in its folder

# Polling a lock (see is_alive) holds it for microseconds. A process that wants the lock
# retries for this long before it concludes that there is another owner.
_RETRY_SECONDS = 0.5

# How long an owner whose lock file was deleted may take to lock a new one: it polls
# once a second, but not while it compiles the network or saves a checkpoint.
_RETURN_SECONDS = 60.0


# Errors of a file system that has no locks, or whose lock server is down.
_NO_LOCKS_ERRORS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_LOCKS = (
    "this file system has no locks, or its lock server is down; choose another folder, "
    "or mount it with locks"
)


class AlreadyRunningError(UserError):
    """Another living process has this role in the folder."""


class LockError(UserError):
    """The lock file cannot be opened or locked."""


class FolderLostError(OSError):
    """The folder is missing, or it is now on another disk."""


def lock_path(folder: Path, role: str) -> Path:
    """The lock file of a role, which is written when a process takes the role."""
    return folder / f"{role}.lock"


class Role:
    """A role that this process holds in a folder; see ``exclusive_role``."""

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        self.path = lock_path(folder, name)
        self._name = name
        self._file = self._lock()
        self._device = folder.stat().st_dev

    def close(self) -> None:
        """Gives up the role."""
        # The file remains: if it were deleted, two processes could lock two files.
        self._file.close()

    def is_held(self) -> bool:
        """Whether the file that this process has locked is still at its path."""
        return _has_name(self._file, self.path)

    def take_again(self, *, make_folder: bool) -> bool:
        """Takes the role again if its lock file was deleted; returns whether it was.

        If ``make_folder``, creates a missing folder, but never its parent, nor the
        folder on another disk: a disk may be unmounted.

        Raises:
            FolderLostError: The folder is missing, or it is on another disk and has no
                lock file, like an empty mount point.
            AlreadyRunningError: Another process has taken the role in the meantime.
            OSError: The folder or the lock file cannot be created.
        """
        if self.is_held():
            return False
        self._require_folder(make_folder)
        if self.is_held():  # The disk failed for a moment.
            return False
        device = self.folder.stat().st_dev
        file = self._lock()
        self._file.close()
        self._file, self._device = file, device
        return True

    def _require_folder(self, make_folder: bool) -> None:
        # Path.resolve raises for a circle, in some versions of Python.
        folder = Path(os.path.realpath(self.folder))
        if folder.is_symlink():
            message = f"{self.folder}: is a link that leads to itself (remove it)"
            raise FolderLostError(message)
        is_there = folder.is_dir()
        if folder.exists() and not is_there:
            raise FolderLostError(f"{self.folder}: is no folder any more (remove it)")
        nearest = folder if is_there else folder.parent
        if not nearest.is_dir():
            raise FolderLostError(
                f"{self.folder}: is missing, and so is the folder above it (is its "
                "disk mounted?)"
            )
        if nearest.stat().st_dev != self._device and not self.path.exists():
            raise FolderLostError(
                f"{self.folder}: is on another disk than before (mount the one that "
                "it was on)"
            )
        if not is_there:
            if not make_folder:
                raise FolderLostError(f"{self.folder}: is missing")
            atomic_io.create_folder(folder)

    def _lock(self) -> FileIO:
        """Opens the lock file, locks it, and writes this process's id into it."""
        while True:
            # Unbuffered: a buffer could not be flushed to a full disk.
            file = self.path.open("a+b", buffering=0)
            try:
                self._wait_for_lock(file)
            except BaseException:
                file.close()
                raise
            if _has_name(file, self.path):
                break
            file.close()  # It was deleted before it was locked.
        with contextlib.suppress(OSError):  # On a full disk the id is missing.
            file.truncate(0)
            file.write(f"{os.getpid()}\n{socket.gethostname()}\n".encode())
        return file

    def _wait_for_lock(self, file: FileIO) -> None:
        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise AlreadyRunningError(self._refusal()) from None
            time.sleep(0.02)

    def _refusal(self) -> str:
        process = owner(self.folder, self._name)
        if self._name == EVALUATOR:
            return (
                f"{self.folder}: is being evaluated by process {process} (wait until "
                "that ends, or stop it)"
            )
        return (
            f"{self.folder}: {self._name}.py already runs here, process {process} "
            "(stop it, or give this one a folder of its own)"
        )


@contextlib.contextmanager
def exclusive_role(folder: Path, role: str) -> Iterator[Role]:
    """Holds a role in an existing folder until the block, or the process, ends.

    Raises:
        AlreadyRunningError: A running process has the role. The message has its id.
        LockError: The folder cannot be written to.
    """
    try:
        held = Role(folder, role)
    except OSError as error:
        path = lock_path(folder, role)
        remedy = _NO_LOCKS if error.errno in _NO_LOCKS_ERRORS else "is it writable?"
        raise LockError(
            f"{path}: cannot be locked: {error.strerror} ({remedy})"
        ) from None
    with contextlib.closing(held):
        yield held


def _has_name(file: FileIO, path: Path) -> bool:
    """Whether an open file is the file at a path; True if its disk fails."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError as error:
        return not is_deleted(error)


def is_deleted(error: OSError) -> bool:
    """Whether an error says that a file is gone, not that its disk fails."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


def is_locked(folder: Path, role: str) -> bool | None:
    """Whether a lock file is locked; None if it cannot be opened."""
    try:
        with open_regular(lock_path(folder, role)) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def is_alive(folder: Path, role: str) -> bool:
    """Whether a running process has the role in the folder."""
    return is_locked(folder, role) is True


class LivenessPoll:
    """Polls whether the owner of a role is alive.

    If the lock file was deleted, its owner may be alive, and will then lock a new one.
    Until it does, the last answer remains, for at most a minute in which the folder
    exists.
    """

    def __init__(self, folder: Path, role: str):
        self._folder, self._role = folder, role
        self._was_alive = False
        self._known_at = 0.0

    def is_alive(self) -> bool:
        """Whether a running process has the role, as far as can be known."""
        found, now = is_locked(self._folder, self._role), time.monotonic()
        if found is not None:
            self._was_alive, self._known_at = found, now
        elif not os.access(self._folder, os.F_OK):
            self._known_at = now  # The owner cannot lock a file in a missing folder.
        elif now >= self._known_at + _RETURN_SECONDS:
            self._was_alive = False
        return self._was_alive


def owner_id(folder: Path, role: str) -> str:
    """What the latest owner of a role has written into its lock file; "" if nothing."""
    try:
        return lock_path(folder, role).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def owner(folder: Path, role: str) -> str:
    """The process id of the latest owner of a role, and its host if that is another.

    "unknown" if the lock file does not say.
    """
    process, _, host = owner_id(folder, role).partition("\n")
    where = "" if host in ("", socket.gethostname()) else f" on {host}"
    return f"{process or 'unknown'}{where}"
