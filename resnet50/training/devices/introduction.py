"""What a host says of itself when the hosts meet, and why hosts cannot train together.

An introduction is the first message of ``training.devices.meeting``:

    meeting       the version of this protocol
    index         the host's place in TF_CONFIG
    addresses     of all hosts
    description   by name, what must be equal on all hosts
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from resnet50.errors import printable_line
from resnet50.handoff.cluster import VARIABLE, Cluster

# The name in a description for what identifies the shared buffer folder.
SHARED_FOLDER = "buffer_folder"

_VERSION = 1

# Longer values, such as the names of a thousand classes, are compared by a checksum.
_MAX_VALUE = 200


def introduce(cluster: Cluster, description: Mapping[str, Any]) -> dict:
    """Returns this host's introduction, as the others receive it through JSON."""
    introduction = {
        "meeting": _VERSION,
        "index": cluster.index,
        "addresses": cluster.addresses,
        "description": {name: _shortened(value) for name, value in description.items()},
    }
    return json.loads(json.dumps(introduction))


def _shortened(value: Any) -> Any:
    text = json.dumps(value)
    if len(text) <= _MAX_VALUE:
        return value
    return f"{text[:30]}... (sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def is_introduction(message: dict) -> bool:
    """Whether a message comes from another host, and not from any other program."""
    return isinstance(message.get("meeting"), int)


def find_wrong_place(cluster: Cluster, introduction: dict) -> str | None:
    """Returns a line if the host has no place in the chief's cluster."""
    index, addresses = introduction.get("index"), introduction.get("addresses")
    if introduction["meeting"] != _VERSION:
        return (
            f"worker {index} has another version of this project than "
            f"{cluster.name(0)} (install the same everywhere)"
        )
    if addresses != list(cluster.addresses):
        return (
            f"worker {index}: {VARIABLE} names {_listed(addresses)}, but "
            f"{_listed(cluster.addresses)} on {cluster.name(0)} (must be the same "
            "for all workers)"
        )
    if type(index) is not int or not 0 < index < len(addresses):
        return (
            f"{VARIABLE}: index {index!r} came to {cluster.name(0)} (each worker "
            f"must have its own, 0 to {len(addresses) - 1})"
        )
    return None


def _listed(addresses: Any) -> str:
    """Addresses for a message; they may be anything."""
    if isinstance(addresses, list | tuple):
        addresses = ", ".join(map(str, addresses)) or "nobody"
    return printable_line(str(addresses)[:_MAX_VALUE])


def find_difference(
    cluster: Cluster, ours: Mapping[str, Any], index: int, theirs: Any
) -> str | None:
    """Returns a line if a host's description differs from the chief's.

    Args:
        cluster: The chief's.
        ours: The chief's description.
        index: The other host's.
        theirs: Its description, or anything else that it has sent.
    """
    name, chief = cluster.name(index), cluster.name(0)
    if not isinstance(theirs, dict):
        return f"{name}, has sent no description"
    is_shared = SHARED_FOLDER in ours and SHARED_FOLDER in theirs
    if is_shared and theirs[SHARED_FOLDER] != ours[SHARED_FOLDER]:
        return (
            f"{name}, has another buffer_folder than {chief} (all must share one, or "
            "set [train] local_folders = true)"
        )
    for key in {**ours, **theirs}:
        if ours.get(key) != theirs.get(key):
            return printable_line(
                f"{name}: {key} = {theirs.get(key)}, but {ours.get(key)} for {chief} "
                "(must be the same for all workers)"
            )
    return None
