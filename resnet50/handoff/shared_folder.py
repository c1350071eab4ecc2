"""The buffer folder on a file system that several hosts mount, such as NFS.

Workers on any host write batches. Only the preprocessor, on one host, lists and deletes
them. A rename is atomic on NFS too, but a host may list a folder from its cache, which
can be old (on Linux, acdirmax: 60 seconds). Opening a file by its name asks the server,
so a host finds another host's files that way.
"""

import os
import time
from collections.abc import Set
from pathlib import Path

import numpy as np

from resnet50.atomic_io import temporary_path
from resnet50.handoff.buffer import KINDS, BatchBuffer
from resnet50.handoff.manifest import (
    Manifest,
    differences,
    manifest_rows,
    read_manifest,
)
from resnet50.handoff.progress import Position

_LISTING_LAG_SECONDS = 60.0

# How long an existing file may be invisible to another host that opens it by name.
_OPENING_LAG_SECONDS = 10.0

_REMEDY = "(every host must mount the same folder at this path)"


class NotSharedError(OSError):
    """Two hosts do not have the same folder (any more)."""


def _is_there(path: Path) -> bool:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return False
    return True


class SharedBuffer(BatchBuffer):
    """A buffer whose batches are written by workers on other hosts.

    It also has the manifest that the folder has or is about to get, and remembers which
    batches were written or deleted recently. A worker's copy has only the manifest.
    """

    def __init__(self, folder: Path, manifest: Manifest):
        super().__init__(folder, manifest_rows(manifest))
        self._manifest = manifest
        # When each batch was confirmed or deleted, for as long as listings may lag.
        self._confirmed: dict[Position, float] = {}
        self._deleted: dict[Position, float] = {}

    def __reduce__(self) -> tuple[type, tuple[Path, Manifest]]:
        return SharedBuffer, (self.folder, self._manifest)

    def require_same_folder(self) -> None:
        """Checks, on a worker's host, that this is the preprocessor's folder.

        Raises:
            NotSharedError: The folder has no manifest, or another one. That may be a
                later preprocessor's, if this worker's own is gone.
        """
        found = read_manifest(self.folder)
        if found is None:
            fault = "is not the buffer folder there, it has no manifest"
        elif changed := differences(found, self._manifest):
            fault = f"has batches with other settings there: {changed[0]}"
        else:
            return
        raise NotSharedError(f"{self.folder}: {fault} {_REMEDY}")

    def leave_probe(self) -> Path:
        """Writes a small file, on a worker's host, for the preprocessor to find.

        Raises:
            OSError: The folder does not exist, is not writable, or is not the same.
        """
        deadline = time.monotonic() + _OPENING_LAG_SECONDS
        while True:
            try:
                self.require_same_folder()
                break
            except NotSharedError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.1)
        probe = temporary_path(self.folder, ".npy")
        with probe.open("xb") as file:
            file.write(b"written by a worker\n")
            file.flush()
            os.fsync(file.fileno())
        return probe

    def find_probe(self, probe: Path) -> bool:
        """Waits for a worker's file and removes it; False if it does not appear."""
        deadline = time.monotonic() + _OPENING_LAG_SECONDS
        while not (appears := _is_there(probe)) and time.monotonic() < deadline:
            time.sleep(0.1)
        probe.unlink(missing_ok=True)
        return appears

    def write(
        self,
        position: Position,
        images: np.ndarray,
        labels: np.ndarray,
        shifts: np.ndarray | None = None,
    ) -> None:
        """Commits a batch; raises NotSharedError if the folder's settings changed."""
        self.require_same_folder()
        super().write(position, images, labels, shifts)

    def confirm(self, position: Position) -> None:
        """Opens the files of a batch that a worker has written, and remembers it.

        The batch may already have been listed, trained and deleted: the worker's result
        can arrive later than its files.

        Raises:
            NotSharedError: A file does not exist here and was not deleted here.
        """
        for path in self.labels_path(position), self.images_path(position):
            if not _is_there(path):
                if position in self._deleted:
                    return
                fault = "a worker has written it, and it is not here"
                raise NotSharedError(f"{path}: {fault} {_REMEDY}")
        self._confirmed[position] = time.monotonic()

    def files(self) -> dict[Position, Set[str]]:
        """The listed files, and those of confirmed batches that are not listed yet."""
        found = super().files()
        oldest = time.monotonic() - _LISTING_LAG_SECONDS
        self._deleted = {p: at for p, at in self._deleted.items() if at >= oldest}
        for position, confirmed_at in list(self._confirmed.items()):
            is_listed = found.get(position) == KINDS
            if is_listed or confirmed_at < oldest:
                del self._confirmed[position]
            else:
                found[position] = KINDS
        return found

    def delete(self, position: Position) -> None:
        """Removes a batch, or whatever exists of it."""
        self._confirmed.pop(position, None)
        self._deleted[position] = time.monotonic()
        super().delete(position)
