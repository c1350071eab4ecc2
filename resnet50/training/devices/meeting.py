"""The trainers that make one training on several machines, and whether they all live.

TF_CONFIG tells each of them who they are:

    {"cluster": {"worker": ["host0:4711", "host1:4711"]},
     "task": {"type": "worker", "index": 0}}

They meet in the buffer folder, which they all see. Each holds the lock of its role,
``train_worker_INDEX``, for as long as it lives, and describes in a file next to the
lock what it is going to train. Worker 0, the chief, opens a meeting with a number that
is new each time; the others repeat it with a number of their own, which the chief
repeats. So nobody believes a file of an earlier training. If two of them differ, or one
does not come, all of them end before TensorFlow tries to connect them, which would wait
without a word.
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

# Between two looks for the others.
_LOOK_SECONDS = 0.2


class MeetingError(UserError):
    """TF_CONFIG is wrong, or the workers do not fit together."""


class LostWorkerError(UserError):
    """Another worker of this training has ended, or cannot be reached any more."""


class Cluster(NamedTuple):
    """All workers of a training, and which of them this one is."""

    addresses: tuple[str, ...]
    index: int

    @property
    def is_alone(self) -> bool:
        """Whether there is no other worker."""
        return len(self.addresses) == 1

    @property
    def is_chief(self) -> bool:
        """Whether it is this one that writes progress, checkpoints and metrics."""
        return self.index == 0


ALONE = Cluster(("localhost",), 0)


def parse_cluster(text: str | None) -> Cluster:
    """Reads TF_CONFIG.

    Args:
        text: Its value; None or "" for a training on one machine.

    Raises:
        MeetingError: It is malformed.
    """
    if not text:
        return ALONE
    expected = (
        '(expected {"cluster": {"worker": ["HOST:PORT", ...]}, '
        '"task": {"type": "worker", "index": 0}})'
    )
    try:
        content = json.loads(text)
        cluster, task = content["cluster"], content["task"]
        addresses, kind, index = cluster["worker"], task["type"], task["index"]
    except ValueError as error:
        raise MeetingError(f"{VARIABLE}: is no JSON: {error} {expected}") from None
    except (KeyError, TypeError) as error:
        raise MeetingError(f"{VARIABLE}: lacks {error} {expected}") from None
    if set(cluster) != {"worker"} or kind != "worker":
        names = ", ".join(sorted({*cluster, str(kind)} - {"worker"}))
        raise MeetingError(f"{VARIABLE}: names {names} (all must be worker) {expected}")
    if not isinstance(addresses, list) or not addresses:
        raise MeetingError(f"{VARIABLE}: worker is no list of addresses {expected}")
    for address in addresses:
        if not isinstance(address, str) or not re.fullmatch(r"\S+:[0-9]{1,5}", address):
            raise MeetingError(f"{VARIABLE}: worker {address!r} {expected}")
    if len(set(addresses)) < len(addresses):
        raise MeetingError(f"{VARIABLE}: names a worker twice {expected}")
    if type(index) is not int or not 0 <= index < len(addresses):
        raise MeetingError(
            f"{VARIABLE}: index {index!r} (must be 0 to {len(addresses) - 1}, this "
            "machine's place among the workers)"
        )
    return Cluster(tuple(addresses), index)


def _role(index: int) -> str:
    return f"train_worker_{index}"


def _told_path(folder: Path, index: int) -> Path:
    return folder / f"{_role(index)}.json"


def _tell(folder: Path, index: int, **content) -> None:
    try:
        with atomic_file(_told_path(folder, index), durable=False) as file:
            file.write(json.dumps(content).encode())
    except OSError as error:
        raise MeetingError(
            f"{_told_path(folder, index)}: cannot be written: {error.strerror}"
        ) from None


def _hear(folder: Path, index: int) -> dict:
    """What a worker told last."""
    try:
        return json.loads(_told_path(folder, index).read_bytes())
    except (OSError, ValueError):
        return {}


@contextlib.contextmanager
def membership(folder: Path, cluster: Cluster) -> Iterator[locks.Role]:
    """Holds this worker's role for as long as the block runs.

    Args:
        folder: The buffer folder.
        cluster: Of which this is a worker.

    Raises:
        MeetingError: A living process has the same index here.
    """
    with contextlib.ExitStack() as stack:
        try:
            role = stack.enter_context(
                locks.exclusive_role(folder, _role(cluster.index))
            )
        except locks.AlreadyRunningError:
            raise MeetingError(
                f"{folder}: a worker {cluster.index} already trains here, process "
                f"{locks.owner(folder, _role(cluster.index))} (stop it, or give this "
                f"one another index in {VARIABLE})"
            ) from None
        # Of an earlier training. Of this one it is left when the worker ends: another
        # one may still have to read in what they differ.
        _told_path(folder, cluster.index).unlink(missing_ok=True)
        yield role


def meet(
    folder: Path,
    cluster: Cluster,
    description: dict,
    *,
    seconds: float,
    notify: Callable[[str], None],
) -> None:
    """Waits until all workers are there, and compares what they are going to train.

    Args:
        folder: The buffer folder. The caller has its ``membership``.
        cluster: Of which this is a worker.
        description: Plain values that must be the same for all, by their names.
        seconds: How long to wait.
        notify: Takes a line for the user.

    Raises:
        MeetingError: A worker has not come, or differs.
    """
    deadline = time.monotonic() + seconds
    # Made new for each process. The chief repeats what it has heard, so that nobody
    # believes the file of an earlier chief whose training was the same.
    arrival, heard = uuid.uuid4().hex, {}
    description = json.loads(json.dumps(description))  # Tuples become lists.
    others = [i for i in range(len(cluster.addresses)) if i != cluster.index]
    meeting = uuid.uuid4().hex if cluster.is_chief else None
    if cluster.is_chief:
        _tell(folder, 0, meeting=meeting, description=description, heard=heard)
    notify(
        f"worker {cluster.index} of {len(cluster.addresses)}: waiting for the others "
        f"in {folder}"
    )
    while True:
        told = {index: _hear(folder, index) for index in others}
        if not cluster.is_chief and locks.is_alive(folder, _role(0)):
            called = told[0].get("meeting")
            if called and called != meeting:
                meeting = called
                _tell(
                    folder,
                    cluster.index,
                    meeting=meeting,
                    description=description,
                    arrival=arrival,
                )
        missing = [
            i for i in others if not meeting or told[i].get("meeting") != meeting
        ]
        if cluster.is_chief:
            arrived = {
                str(i): told[i].get("arrival") for i in others if i not in missing
            }
            if arrived != heard:
                heard = arrived
                _tell(folder, 0, meeting=meeting, description=description, heard=heard)
        elif told[0].get("heard", {}).get(str(cluster.index)) != arrival:
            missing = [0, *missing]
        if not missing:
            break
        if time.monotonic() > deadline:
            index = missing[0]
            raise MeetingError(
                f"{folder}: worker {index}, {cluster.addresses[index]}, has not come "
                f"within {seconds:g} s (is it started, and is this folder the same for "
                "all?)"
            )
        time.sleep(_LOOK_SECONDS)
    for index in others:
        _require_same(cluster, description, index, told[index]["description"])


def _require_same(cluster: Cluster, ours: dict, index: int, theirs: dict) -> None:
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            raise MeetingError(
                f"worker {index}, {cluster.addresses[index]}: {key} = "
                f"{theirs.get(key)}, here, worker {cluster.index}, it is "
                f"{ours.get(key)} (must be the same for all workers)"
            )


def first_lost(folder: Path, cluster: Cluster) -> int | None:
    """The first worker that does not hold its role any more, or None.

    A worker whose lock file was deleted will make it again.
    """
    for index in range(len(cluster.addresses)):
        if index != cluster.index and locks.is_locked(folder, _role(index)) is False:
            return index
    return None
