"""What each side does if the buffer folder, or a file in it, is deleted.

The preprocessor restores the folder, its lock and the manifest; then the refill makes
the missing batches. The trainer restores its lock and training_progress.txt as soon as
the folder exists. Both say once what was missing.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from resnet50.handoff import manifest as manifests
from resnet50.handoff import progress
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.locks import Role, is_deleted
from resnet50.handoff.progress import Position
from resnet50.observer import Observer


class PreprocessorFiles(NamedTuple):
    """The buffer folder, with the preprocessor's lock and manifest in it."""

    role: Role
    buffer: BatchBuffer
    manifest: manifests.Manifest
    observer: Observer

    def missing(self) -> Path | None:
        """What was deleted: the manifest, the lock file, the folder, or nothing."""
        path = self.role.folder / manifests.FILE_NAME
        try:
            path.stat()
            has_manifest = True
        except OSError as error:
            has_manifest = not is_deleted(error)
        if self.role.is_held():
            return None if has_manifest else path
        return self.role.path if has_manifest else self.role.folder

    def restore(self) -> bool:
        """Restores what was deleted; returns whether anything was.

        Raises:
            OSError: It cannot be restored; see Role.take_again.
            UserError: The folder now belongs to another preprocessor, or to a trainer
                with other settings.
        """
        missing = self.missing()
        if missing is None:
            return False
        self.role.take_again(make_folder=True)
        manifests.replace_stale(self.buffer, self.manifest, self.observer.notify)
        self.observer.notify(f"{missing}: was deleted; created again")
        return True


class TrainerFiles:
    """The trainer's lock and its progress in the buffer folder.

    Of several hosts that share the folder, only one has the role.
    """

    def __init__(self, role: Role | None, observer: Observer, *, writes_progress: bool):
        self._role = role
        self._observer = observer
        self._writes_progress = writes_progress
        self._is_lost = False

    def restore(self, position: Position) -> None:
        """Restores what was deleted. Does nothing while there is no folder.

        Args:
            position: Position of the next batch that the trainer needs.

        Raises:
            AlreadyRunningError: Another trainer has taken the folder in the meantime.
        """
        if self._role is None:
            return
        folder = self._role.folder
        has_progress = os.access(folder / progress.FILE_NAME, os.F_OK)
        try:
            is_taken = self._role.take_again(make_folder=False)
        except OSError as error:
            if not self._is_lost:
                self._observer.notify(f"{error}; waiting for it")
            self._is_lost = True
            return
        if self._is_lost:
            self._observer.notify(f"{folder}: is there again")
        elif is_taken:
            is_empty = self._writes_progress and not has_progress
            missing = folder if is_empty else self._role.path
            self._observer.notify(f"{missing}: was deleted; the training continues")
        self._is_lost = False
        if self._writes_progress:
            # The loop reports an error when it writes the next step's progress.
            with contextlib.suppress(OSError):
                progress.restore_progress(folder, position)
