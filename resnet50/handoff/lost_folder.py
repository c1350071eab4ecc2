"""What each side does about a buffer folder, or a file in it, that is deleted under it.

The preprocessor makes the folder, its lock and the manifest again; the batches follow,
as they are missing. The trainer makes its lock and training_progress.txt again, as soon
as there is a folder. Both say what was missing, once.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from resnet50.handoff import manifest as manifests
from resnet50.handoff import progress
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.locks import Role, can_be_seen
from resnet50.handoff.progress import Position


def _missing(role: Role, file: Path) -> Path | None:
    """What was deleted: the folder or all in it, one of two files, or nothing."""
    is_there = can_be_seen(file)
    if role.is_held():
        return None if is_there else file
    return role.path if is_there else role.folder


class PreprocessorsPlace:
    """The preprocessor's lock and manifest in the buffer folder, and the folder."""

    def __init__(
        self,
        role: Role,
        buffer: BatchBuffer,
        manifest: dict,
        notify: Callable[[str], None],
    ):
        """Takes a folder that the preprocessor has adopted.

        Args:
            role: The preprocessor's.
            buffer: The same folder.
            manifest: Of this process's settings.
            notify: Takes a line for the user.
        """
        self._role = role
        self._buffer = buffer
        self._manifest = manifest
        self._notify = notify

    def missing(self) -> Path | None:
        """What was deleted, if anything."""
        return _missing(self._role, self._role.folder / manifests.FILE_NAME)

    def keep(self) -> bool:
        """Makes again what was deleted; returns whether anything was.

        Raises:
            OSError: It cannot be made; see Role.take_again.
            UserError: The folder belongs to another preprocessor now, or to a trainer
                of other settings.
        """
        missing = self.missing()
        if missing is None:
            return False
        self._role.take_again(make_folder=True)
        manifests.replace_stale(self._buffer, self._manifest, self._notify)
        self._notify(f"{missing}: was deleted; made again")
        return True


class TrainersPlace:
    """The trainer's locks and progress in the buffer folder."""

    def __init__(
        self,
        roles: Sequence[Role],
        notify: Callable[[str], None],
        *,
        writes_progress: bool,
    ):
        """Takes what the trainer holds.

        Args:
            roles: Its roles in the buffer folder, at least one.
            notify: Takes a line for the user.
            writes_progress: Whether it is this process that writes the progress.
        """
        self._roles = roles
        self._notify = notify
        self._writes_progress = writes_progress
        self._is_lost = False

    def keep(self, position: Position) -> None:
        """Makes again what was deleted; without a folder waits for the next call.

        Args:
            position: Of the next batch that the trainer needs.

        Raises:
            AlreadyRunningError: Another trainer has taken the folder meanwhile.
        """
        first = self._roles[0]
        file = first.folder / progress.FILE_NAME
        missing = _missing(first, file) if self._writes_progress else first.path
        try:
            is_taken = [role.take_again(make_folder=False) for role in self._roles]
        except OSError as error:
            if not self._is_lost:
                self._is_lost = True
                self._notify(f"{error}; waiting for it")
            return
        if self._is_lost:
            self._is_lost = False
            self._notify(f"{first.folder}: is there again")
        elif any(is_taken):
            self._notify(f"{missing}: was deleted; the training goes on")
        if self._writes_progress:
            # What it says after each step stands, unless it was deleted or changed.
            with contextlib.suppress(OSError):  # Told when the next step is written.
                progress.restore_progress(first.folder, position)
