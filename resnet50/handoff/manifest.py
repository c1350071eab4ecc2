"""manifest.json in the buffer folder: everything that the batches' content depends on.

Both processes compute the manifest of their own settings. The preprocessor writes it
before its first batch. The trainer compares, and refuses a buffer with other settings.
A manifest is a flat mapping from a setting's name to a JSON value.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet50.atomic_io import atomic_file, fsync, remove_temporaries
from resnet50.errors import UserError, printable_line
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer, Rows
from resnet50.input_file import open_regular, read_regular, require_size

FILE_NAME = "manifest.json"

# A manifest has some KB, and more with the names of many classes.
_MAX_BYTES = 2**24

Manifest = dict[str, Any]


class ManifestError(UserError):
    """The buffer's batches were made with other settings, or nobody can know."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replaces the manifest of a buffer folder."""
    with atomic_file(folder / FILE_NAME) as file:
        file.write((json.dumps(manifest, indent=2) + "\n").encode())


def _parse(content: bytes) -> Manifest:
    """The manifest that a file holds; {} if it is torn."""
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a buffer folder; {} if it is torn, None if there is none."""
    try:
        return _parse(read_regular(folder / FILE_NAME, _MAX_BYTES))
    except FileNotFoundError:
        return None


def manifest_rows(manifest: Manifest) -> Rows | None:
    """The rows of each batch that a buffer holds; None if it holds all.

    A manifest from a file may be wrong; then None, too.
    """
    match manifest.get("rows"):
        case [int(first), int(last)]:
            return Rows(first, last + 1)
    return None


def open_buffer(folder: Path) -> BatchBuffer:
    """The batches that a folder has, with the rows that its manifest says."""
    with contextlib.suppress(OSError):  # Whoever needs the folder reports it.
        return BatchBuffer(folder, manifest_rows(read_manifest(folder) or {}))
    return BatchBuffer(folder)


def differences(theirs: Manifest, ours: Manifest) -> list[str]:
    """Texts such as "batch_size is 64 there and 32 here", in the order of ours.

    ``theirs`` is from a file; ``ours`` may hold tuples for lists.
    """
    ours = json.loads(json.dumps(ours))
    hints = {"rows": " (both programs of a host need its TF_CONFIG)"}
    return [
        printable_line(
            f"{name} is {theirs.get(name, 'absent')} there and "
            f"{ours.get(name, 'absent')} here{hints.get(name, '')}"
        )
        for name in {**ours, **theirs}
        if theirs.get(name) != ours.get(name)
    ]


def remove_batch_temporaries(buffer: BatchBuffer) -> None:
    """Deletes the unfinished files of killed preprocessors and their workers."""
    for suffix in (".npy", ".npz", ".json"):
        remove_temporaries(buffer.folder, suffix)


def adopt_buffer(
    buffer: BatchBuffer, manifest: Manifest, notify: Callable[[str], None]
) -> None:
    """Deletes unfinished files, and then what ``replace_stale`` does.

    Raises:
        ManifestError: See ``replace_stale``; or the folder's disk is full or broken.
    """
    try:
        remove_batch_temporaries(buffer)
        replace_stale(buffer, manifest, notify)
    except OSError as error:
        raise ManifestError(
            f"{buffer.folder}: cannot be prepared: {error} (see [train] buffer_folder)"
        ) from None


def replace_stale(
    buffer: BatchBuffer, manifest: Manifest, notify: Callable[[str], None]
) -> None:
    """Writes the preprocessor's manifest, and deletes batches that do not match it.

    Raises:
        ManifestError: The batches were made with other settings, and a running trainer
            uses them.
    """
    folder = buffer.folder
    found = read_manifest(folder)
    # Without a manifest nobody knows how the batches were made.
    changed = differences(found or {}, manifest)
    if not changed:
        return
    if found and locks.is_alive(folder, locks.TRAINER):
        raise ManifestError(
            f"{folder}: {'; '.join(changed)} (there: the train.py that is running, "
            f"process {locks.owner(folder, locks.TRAINER)}; start this with its "
            "settings, or stop it)"
        )
    # The old manifest goes first: a trainer that starts now finds none and waits,
    # instead of reading batches that are being deleted.
    (folder / FILE_NAME).unlink(missing_ok=True)
    num_deleted = buffer.clear()
    # A power cut must not leave one manifest with batches of the other.
    fsync(folder)
    if found:
        notify(f"{folder}: {'; '.join(changed)}; replacing {num_deleted} stale batches")
    write_manifest(folder, manifest)


# A file that changes twice within one tick of its disk's clock keeps its time. The
# coarsest tick is FAT's.
_TICK_SECONDS = 2.0

_POLL_SECONDS = 0.1


class ManifestCheck:
    """Compares a buffer's manifest with the trainer's settings, for every batch.

    Parses the file only if it has changed, or may have changed without a new time
    since it was first seen. The wall clock, which can jump, plays no part. Opens the
    file each time, because on a network file system only that asks the server.
    """

    def __init__(self, folder: Path, manifest: Manifest):
        self._folder = folder
        self._manifest = manifest
        self._seen: tuple[int, ...] | None = None  # the file, and since when
        self._seen_at = 0.0
        self._is_settled = False  # whether it was parsed so late that it stays

    def is_same(self) -> bool:
        """Whether there is a manifest; without one no batch can be read yet.

        Raises:
            ManifestError: The manifest has other settings; the message names each.
        """
        try:
            file = open_regular(self._folder / FILE_NAME)
        except FileNotFoundError:
            return False
        with file:
            status = os.fstat(file.fileno())
            signature = status.st_ino, status.st_mtime_ns, status.st_size
            now = time.monotonic()
            if signature != self._seen:
                self._seen, self._seen_at, self._is_settled = signature, now, False
            elif self._is_settled:
                return True
            require_size(status.st_size, _MAX_BYTES)
            changed = differences(_parse(file.read()), self._manifest)
        if changed:
            what = f"{self._folder}: {'; '.join(changed)}"
            if locks.is_alive(self._folder, locks.PREPROCESSOR):
                raise ManifestError(
                    f"{what} (there: the batches of runtime_preprocessing.py; restart "
                    "that one with the settings of this terminal, and it replaces "
                    "them, or this one with those)"
                )
            raise ManifestError(
                f"{what} (there: the batches of an earlier runtime_preprocessing.py; "
                "start it with the settings of this terminal, and it replaces them, "
                "then start this one again)"
            )
        self._is_settled = now > self._seen_at + _TICK_SECONDS
        return True


def require_same(
    folder: Path, manifest: Manifest, *, wait_seconds: float = 0.0
) -> bool:
    """Compares at the trainer's start; see ``ManifestCheck.is_same``.

    Waits so long for a preprocessor that starts at the same moment to replace the
    manifest.

    Raises:
        ManifestError: The manifest has other settings, or cannot be read.
    """
    check = ManifestCheck(folder, manifest)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return check.is_same()
        except ManifestError:
            if time.monotonic() >= deadline:
                raise
        except OSError as error:
            path = folder / FILE_NAME
            raise ManifestError(f"{path}: cannot be read: {error.strerror}") from None
        time.sleep(_POLL_SECONDS)
