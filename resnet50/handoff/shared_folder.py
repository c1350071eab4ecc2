"""The buffer folder on a file system that several hosts mount, such as NFS.

Workers on any host write batches. Only the preprocessor, on one host, lists and
deletes. A rename is atomic there too, but a listing may be as old as its host keeps
directories in memory (Linux: acdirmax, 60 seconds). Opening a file by its name asks the
server, so that is how one host finds what another has written.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from resnet50.atomic_io import temporary_path
from resnet50.handoff.buffer import KINDS, BatchBuffer
from resnet50.handoff.manifest import differences, read_manifest
from resnet50.handoff.progress import Position

_LISTING_LAG_SECONDS = 60.0

# How long a file that is there may stay invisible when it is opened by its name.
_OPENING_LAG_SECONDS = 10.0


class NotSharedError(OSError):
    """The folder is not the same one for two hosts, or not any more."""


def becomes_true(condition: Callable[[], bool], seconds: float) -> bool:
    """Asks again and again until the answer is yes or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True


def _is_there(path: Path) -> bool:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return False
    return True


class SharedBuffer(BatchBuffer):
    """A buffer whose batches are written by workers of other hosts.

    Knows two things more than its folder: for which manifest it was opened, and which
    batches have been written lately. A worker's copy knows the first only.
    """

    def __init__(self, folder: Path, manifest: dict):
        """Takes the manifest that the folder has, or is about to get."""
        super().__init__(folder)
        self._manifest = manifest
        # When each was confirmed, or deleted here; entries leave with the lag.
        self._confirmed: dict[Position, float] = {}
        self._deleted: dict[Position, float] = {}

    def __reduce__(self):
        return SharedBuffer, (self.folder, self._manifest)

    def require_same_folder(self) -> None:
        """Checks, on a worker's host, that this is the preprocessor's folder.

        Raises:
            NotSharedError: It has no manifest, or one of other settings: those of a
                later preprocessor, if this worker has been left behind by its own.
        """
        found = read_manifest(self.folder)
        if found is None:
            raise NotSharedError(
                f"{self.folder}: is not the buffer folder there, it has no manifest "
                "(every host must mount the same folder at this path)"
            )
        changed = differences(found, self._manifest)
        if changed:
            raise NotSharedError(
                f"{self.folder}: is of other settings there: {changed[0]} (every host "
                "must mount the same folder at this path)"
            )

    def leave_probe(self) -> Path:
        """Writes a small file, on a worker's host, for the preprocessor to look for.

        Raises:
            OSError: The folder is not there, not writable, or not the same one.
        """

        def is_same() -> bool:
            try:
                self.require_same_folder()
            except NotSharedError:
                return False
            return True

        becomes_true(is_same, _OPENING_LAG_SECONDS)
        self.require_same_folder()
        probe = temporary_path(self.folder, ".npy")
        with probe.open("xb") as file:
            file.write(b"written by a worker\n")
            file.flush()
            os.fsync(file.fileno())
        return probe

    def find_probe(self, probe: Path) -> bool:
        """Looks for a worker's file, and removes it; False if it does not appear."""
        appears = becomes_true(lambda: _is_there(probe), _OPENING_LAG_SECONDS)
        probe.unlink(missing_ok=True)
        return appears

    def write(
        self,
        position: Position,
        images: np.ndarray,
        labels: np.ndarray,
        shifts: np.ndarray | None = None,
    ) -> None:
        """Commits a batch, unless the folder has become that of other settings.

        Raises:
            NotSharedError: It has.
        """
        self.require_same_folder()
        super().write(position, images, labels, shifts)

    def confirm(self, position: Position) -> None:
        """Opens a batch that a worker says it has written, and remembers it.

        A batch may have been listed, trained and deleted before its worker is heard.

        Raises:
            NotSharedError: It is not here, and has not been deleted here.
        """
        for path in self.labels_path(position), self.images_path(position):
            if not _is_there(path):
                if position in self._deleted:
                    return
                raise NotSharedError(
                    f"{path}: a worker has written it, and it is not here (every host "
                    "must mount the same folder at this path)"
                )
        self._confirmed[position] = time.monotonic()

    def files(self) -> dict[Position, set[str]]:
        """What the listing has, and what it will have as soon as it is up to date."""
        found = super().files()
        oldest = time.monotonic() - _LISTING_LAG_SECONDS
        for position, deleted_at in list(self._deleted.items()):
            if deleted_at < oldest:
                del self._deleted[position]
        for position, confirmed_at in list(self._confirmed.items()):
            is_listed = found.get(position) == KINDS
            if is_listed or confirmed_at < oldest:
                del self._confirmed[position]
            else:
                found[position] = set(KINDS)
        return found

    def delete(self, position: Position) -> None:
        """Removes a batch, or what there is of it."""
        self._confirmed.pop(position, None)
        self._deleted[position] = time.monotonic()
        super().delete(position)
