"""What each side does if the buffer folder, or a file in it, is deleted.

The preprocessor restores the folder, its lock and the manifest; then the refill makes
the missing batches. The trainer restores its lock and training_progress.txt as soon as
the folder exists. Both say once what was missing.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from resnet50.handoff import manifest as manifests
from resnet50.handoff import progress
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.locks import Role
from resnet50.handoff.progress import Position
from resnet50.observer import Observer


def _missing(role: Role, file: Path) -> Path | None:
    """What was deleted: a file, the role's lock file, or the folder (or all in it)."""
    is_there = os.access(file, os.F_OK)  # Path.exists raises if the disk fails.
    if role.is_held():
        return None if is_there else file
    return role.path if is_there else role.folder


class PreprocessorFiles:
    """The buffer folder, with the preprocessor's lock and manifest in it."""

    def __init__(
        self, role: Role, buffer: BatchBuffer, manifest: dict, observer: Observer
    ):
        """Takes the role, buffer and manifest of a folder that was adopted."""
        self._role = role
        self._buffer = buffer
        self._manifest = manifest
        self._observer = observer

    def missing(self) -> Path | None:
        """What was deleted, if anything."""
        return _missing(self._role, self._role.folder / manifests.FILE_NAME)

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
        self._role.take_again(make_folder=True)
        manifests.replace_stale(self._buffer, self._manifest, self._observer.notify)
        self._observer.notify(f"{missing}: was deleted; made again")
        return True


class TrainerFiles:
    """The trainer's locks and progress in the buffer folder."""

    def __init__(
        self, roles: Sequence[Role], observer: Observer, *, writes_progress: bool
    ):
        """Takes the trainer's roles in the folder, at least one."""
        self._roles = roles
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
        first = self._roles[0]
        file = first.folder / progress.FILE_NAME
        missing = _missing(first, file) if self._writes_progress else first.path
        try:
            is_taken = [role.take_again(make_folder=False) for role in self._roles]
        except OSError as error:
            if not self._is_lost:
                self._is_lost = True
                self._observer.notify(f"{error}; waiting for it")
            return
        if self._is_lost:
            self._is_lost = False
            self._observer.notify(f"{first.folder}: is there again")
        elif any(is_taken):
            self._observer.notify(f"{missing}: was deleted; the training goes on")
        if self._writes_progress:
            # The loop reports an error when it writes the next step's progress.
            with contextlib.suppress(OSError):
                progress.restore_progress(first.folder, position)
