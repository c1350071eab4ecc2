"""The hosts that train together: who they are, what they train, who is alive.

TF_CONFIG, which calls each host's trainer a worker, says to each of them who it is:

    {"cluster": {"worker": ["host0:4711", "host1:4711"]},
     "task": {"type": "worker", "index": 0}}

They meet in the buffer folder, which all of them see. Each host holds the lock of its
role, ``train_worker_INDEX``, while it lives, and writes a note into a JSON file next to
the lock:

    id            random, new in each process
    meeting       the chief's id; host 0 is the chief
    guests        in the chief's note: the ids of all others, once all have come
    description   what this host is going to train

The others repeat the chief's id, and the chief lists theirs. So neither side believes a
note of an earlier training. If two hosts differ, or one does not come, all end. This
happens before TensorFlow connects them, as TensorFlow would wait without a message.
"""

import contextlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from resnet50.atomic_io import atomic_file
from resnet50.errors import UserError
from resnet50.handoff import locks

VARIABLE = "TF_CONFIG"

_POLL_SECONDS = 0.2


class MeetingError(UserError):
    """TF_CONFIG is wrong, or the hosts cannot train together."""


class LostHostError(UserError):
    """Another host of this training has ended or cannot be reached."""


class Cluster(NamedTuple):
    """The hosts of a training, and which one this is."""

    addresses: tuple[str, ...]
    index: int  # type: ignore[assignment]  # hides tuple.index

    @property
    def is_alone(self) -> bool:
        """Whether there is no other host."""
        return len(self.addresses) == 1

    @property
    def is_chief(self) -> bool:
        """Whether this host writes progress, checkpoints and metrics."""
        return self.index == 0


ALONE = Cluster(("localhost",), 0)


def parse_cluster(text: str | None) -> Cluster:
    """Reads the value of TF_CONFIG; None or "" means a training on one host.

    Raises:
        MeetingError: The value is malformed.
    """
    if not text:
        return ALONE
    try:
        content = json.loads(text)
        cluster, task = content["cluster"], content["task"]
        addresses, kind, index = cluster["worker"], task["type"], task["index"]
        problem = _find_problem(cluster, addresses, kind)
    except ValueError as error:
        problem = f"is no JSON: {error}"
    except (KeyError, TypeError) as error:
        problem = f"lacks {error}"
    if problem is not None:
        raise MeetingError(
            f"{VARIABLE}: {problem} "
            '(expected {"cluster": {"worker": ["HOST:PORT", ...]}, '
            '"task": {"type": "worker", "index": 0}})'
        )
    if type(index) is not int or not 0 <= index < len(addresses):
        raise MeetingError(
            f"{VARIABLE}: index {index!r} (must be 0 to {len(addresses) - 1}, this "
            "machine's place among the workers)"
        )
    return Cluster(tuple(addresses), index)


def _find_problem(cluster: dict, addresses: object, kind: object) -> str | None:
    if set(cluster) != {"worker"} or kind != "worker":
        names = ", ".join(sorted({*cluster, str(kind)} - {"worker"}))
        return f"names {names} (all must be worker)"
    if not isinstance(addresses, list) or not addresses:
        return "worker is no list of addresses"
    for address in addresses:
        if not isinstance(address, str) or not re.fullmatch(r"\S+:[0-9]{1,5}", address):
            return f"worker {address!r}"
    return "names a worker twice" if len(set(addresses)) < len(addresses) else None


def _role(index: int) -> str:
    return f"train_worker_{index}"


def _note_path(folder: Path, index: int) -> Path:
    return folder / f"{_role(index)}.json"


def _write_note(folder: Path, index: int, note: dict) -> None:
    path = _note_path(folder, index)
    try:
        with atomic_file(path, durable=False, whole=False) as file:
            file.write(json.dumps(note).encode())
    except OSError as error:
        raise MeetingError(f"{path}: cannot be written: {error.strerror}") from None


def _read_note(folder: Path, index: int) -> dict:
    try:
        return json.loads(_note_path(folder, index).read_bytes())
    except (OSError, ValueError):
        return {}


@contextlib.contextmanager
def membership(folder: Path, cluster: Cluster) -> Iterator[locks.Role]:
    """Holds this host's role in the buffer folder inside the block.

    Raises:
        MeetingError: A living process has the same index in this folder.
    """
    role_name = _role(cluster.index)
    with contextlib.ExitStack() as stack:
        try:
            role = stack.enter_context(locks.exclusive_role(folder, role_name))
        except locks.AlreadyRunningError:
            raise MeetingError(
                f"{folder}: a worker {cluster.index} already trains here, process "
                f"{locks.owner(folder, role_name)} (stop it, or give this "
                f"one another index in {VARIABLE})"
            ) from None
        # Deletes the note of an earlier training. This training's note stays after the
        # end, as another host may still have to read in what they differ.
        _note_path(folder, cluster.index).unlink(missing_ok=True)
        yield role


def meet(
    folder: Path,
    cluster: Cluster,
    description: dict,
    *,
    seconds: float,
    notify: Callable[[str], None],
) -> None:
    """Waits until all hosts are there, and compares what they are going to train.

    The caller has its ``membership`` in the folder. The description has JSON values, by
    name, that must be equal on all hosts.

    Raises:
        MeetingError: A host has not come, or differs.
    """
    description = json.loads(json.dumps(description))  # Tuples become lists.
    notify(
        f"worker {cluster.index} of {len(cluster.addresses)}: waiting for the others "
        f"in {folder}"
    )
    for index, theirs in _gather(folder, cluster, description, seconds).items():
        _require_same(cluster, description, index, theirs)


def _gather(folder: Path, cluster: Cluster, ours: dict, seconds: float) -> dict:
    """Writes this host's description; returns those of the others by their index."""
    deadline = time.monotonic() + seconds
    others = [i for i in range(len(cluster.addresses)) if i != cluster.index]
    note: dict = {"id": uuid.uuid4().hex, "meeting": None, "description": ours}
    if cluster.is_chief:
        note["meeting"] = note["id"]
        _write_note(folder, 0, note)
    while True:
        if not cluster.is_chief and locks.is_alive(folder, _role(0)):
            called = _read_note(folder, 0).get("meeting")
            if called and called != note["meeting"]:
                note["meeting"] = called
                _write_note(folder, cluster.index, note)
        notes = {index: _read_note(folder, index) for index in others}
        is_called = note["meeting"] is not None
        missing = [
            i
            for i in others
            if not is_called or notes[i].get("meeting") != note["meeting"]
        ]
        if cluster.is_chief and not missing:
            note["guests"] = [notes[index]["id"] for index in others]
            _write_note(folder, 0, note)
        elif not missing and note["id"] not in notes[0].get("guests", ()):
            missing = [0]
        if not missing:
            return {index: note["description"] for index, note in notes.items()}
        if time.monotonic() > deadline:
            index = missing[0]
            raise MeetingError(
                f"{folder}: worker {index}, {cluster.addresses[index]}, has not come "
                f"within {seconds:g} s (is it started, and is this folder the same for "
                "all?)"
            )
        time.sleep(_POLL_SECONDS)


def _require_same(cluster: Cluster, ours: dict, index: int, theirs: dict) -> None:
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            raise MeetingError(
                f"worker {index}, {cluster.addresses[index]}: {key} = "
                f"{theirs.get(key)}, here, worker {cluster.index}, it is "
                f"{ours.get(key)} (must be the same for all workers)"
            )


def first_lost(folder: Path, cluster: Cluster) -> int | None:
    """The index of the first host that no longer holds its role, or None.

    A host whose lock file was deleted is not lost; it makes the file again.
    """
    for index in range(len(cluster.addresses)):
        if index != cluster.index and locks.is_locked(folder, _role(index)) is False:
            return index
    return None
