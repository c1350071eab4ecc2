"""manifest.json in the buffer folder: everything that the batches' content depends on.

Both processes compute the manifest of their own settings. The preprocessor writes it
before its first batch; the trainer compares, and refuses a buffer of other settings.
A manifest is a flat mapping from a setting's name to a JSON value.
"""

import json
from collections.abc import Callable
from pathlib import Path

from resnet50.atomic_io import atomic_file, remove_temporaries
from resnet50.errors import UserError
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer

FILE_NAME = "manifest.json"


class ManifestError(UserError):
    """The buffer's batches are of other settings than this process has."""


def write_manifest(folder: Path, manifest: dict) -> None:
    """Replaces the manifest of a buffer folder."""
    with atomic_file(folder / FILE_NAME) as file:
        file.write((json.dumps(manifest, indent=2) + "\n").encode())


def read_manifest(folder: Path) -> dict | None:
    """The manifest of a buffer folder; {} if torn, None if there is none."""
    try:
        manifest = json.loads((folder / FILE_NAME).read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def differences(theirs: dict, ours: dict) -> list[str]:
    """Names, with both values, what differs between two manifests.

    Args:
        theirs: The manifest found in the folder.
        ours: What this process's settings give, normalized through JSON or not.

    Returns:
        Texts such as "batch_size is 64 there and 32 here", in our order.
    """
    ours = json.loads(json.dumps(ours))
    return [
        f"{name} is {theirs.get(name, 'absent')} there and "
        f"{ours.get(name, 'absent')} here"
        for name in {**ours, **theirs}
        if theirs.get(name) != ours.get(name)
    ]


def remove_batch_temporaries(buffer: BatchBuffer) -> None:
    """Deletes what killed preprocessors and their workers were writing."""
    for suffix in (".npy", ".npz", ".json"):
        remove_temporaries(buffer.folder, suffix)


def adopt_buffer(
    buffer: BatchBuffer, manifest: dict, notify: Callable[[str], None]
) -> None:
    """Makes a buffer folder the preprocessor's, which holds its lock.

    Deletes what killed preprocessors were writing; see also ``replace_stale``.
    """
    remove_batch_temporaries(buffer)
    replace_stale(buffer, manifest, notify)


def replace_stale(
    buffer: BatchBuffer, manifest: dict, notify: Callable[[str], None]
) -> None:
    """Puts a manifest in place, and deletes the batches of any other settings.

    Args:
        buffer: The folder to take over.
        manifest: Of this process's settings.
        notify: Takes a line for the user when batches are replaced.

    Raises:
        ManifestError: Batches of other settings are there, and a trainer that uses them
            is alive.
    """
    folder = buffer.folder
    found = read_manifest(folder)
    # Without a manifest nobody knows what the batches hold.
    changed = differences({} if found is None else found, manifest)
    if not changed:
        return
    if found and locks.is_alive(folder, locks.TRAINER):
        raise ManifestError(
            f"{folder}: {'; '.join(changed)} (there: the train.py that is running, "
            f"process {locks.owner(folder, locks.TRAINER)}; start this with its "
            "settings, or stop it)"
        )
    # First the manifest: batches without one are nobody's, and a trainer that starts
    # just now waits, instead of believing in what is being deleted.
    (folder / FILE_NAME).unlink(missing_ok=True)
    num_deleted = buffer.clear()
    if found:
        notify(f"{folder}: {'; '.join(changed)}; replacing {num_deleted} stale batches")
    write_manifest(folder, manifest)


def require_same(folder: Path, manifest: dict) -> bool:
    """Checks the trainer's settings against the buffer's.

    Returns:
        Whether there is a manifest; without one no preprocessor has been here yet.

    Raises:
        ManifestError: Naming each setting that differs and how to change it.
    """
    found = read_manifest(folder)
    if found is None:
        return False
    changed = differences(found, manifest)
    if changed:
        raise ManifestError(
            f"{folder}: {'; '.join(changed)} (there: the batches of "
            "runtime_preprocessing.py; restart that one with the settings of this "
            "terminal, and it replaces them, or this one with those)"
        )
    return True
