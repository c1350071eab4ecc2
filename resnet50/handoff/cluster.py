"""The hosts of a training, which TF_CONFIG names, and their rows of each batch.

TF_CONFIG, which calls each host a worker, says to each of them who it is:

    {"cluster": {"worker": ["host0:4711", "host1:4711"]},
     "task": {"type": "worker", "index": 0}}

If the hosts have local folders, each has its own buffer, which holds only its rows of
each batch: of n hosts, host r has the rows r * B / n to (r + 1) * B / n - 1.
"""

import json
import re
from typing import NamedTuple

from resnet50.errors import UserError
from resnet50.handoff.buffer import Rows

VARIABLE = "TF_CONFIG"


class ClusterError(UserError):
    """TF_CONFIG is wrong, or does not fit the batch size."""


class Cluster(NamedTuple):
    """The hosts of a training, and which one this is."""

    addresses: tuple[str, ...]
    index: int  # type: ignore[assignment]  # hides tuple.index
    has_local_folders: bool = False  # each host its own; otherwise they share one

    @property
    def is_alone(self) -> bool:
        """Whether there is no other host."""
        return len(self.addresses) == 1

    @property
    def is_chief(self) -> bool:
        """Whether this is the host that the others meet."""
        return self.index == 0

    @property
    def writes_files(self) -> bool:
        """Whether this host writes progress, checkpoints and metrics."""
        return self.is_chief or self.has_local_folders

    @property
    def num_parts(self) -> int:
        """How many buffers share the rows of each batch."""
        return len(self.addresses) if self.has_local_folders else 1

    def name(self, index: int) -> str:
        """What messages call a host."""
        return f"worker {index}, {self.addresses[index]}"

    def rows(self, batch_size: int) -> Rows | None:
        """The rows of each batch in this host's buffer; None if it has all.

        Raises:
            ClusterError: The batch cannot be divided into equal parts.
        """
        if self.num_parts == 1:
            return None
        size, rest = divmod(batch_size, self.num_parts)
        if rest or not size:
            raise ClusterError(
                f"[train] batch_size = {batch_size} (must be divisible by "
                f"{self.num_parts}, the number of workers in {VARIABLE})"
            )
        return Rows(self.index * size, (self.index + 1) * size)


ALONE = Cluster(("localhost",), 0)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of an address such as "host0:4711" or "[::1]:4711".

    Raises:
        ValueError: It is malformed.
    """
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:\[\]/]+):([0-9]{1,5})", address)
    if match is None or not 0 < int(match[2]) < 2**16:
        raise ValueError(address)
    return match[1].strip("[]"), int(match[2])


def parse_cluster(text: str | None, *, has_local_folders: bool = False) -> Cluster:
    """Reads the value of TF_CONFIG; None or "" means a training on one host.

    Raises:
        ClusterError: The value is malformed.
    """
    if not text:
        return ALONE
    try:
        content = json.loads(text)
        cluster, task = content["cluster"], content["task"]
        addresses, kind, index = cluster["worker"], task["type"], task["index"]
        problem = _find_problem(cluster, addresses, kind)
    except (ValueError, RecursionError) as error:
        problem = f"is no JSON: {error}"
    except (KeyError, TypeError) as error:
        problem = f"lacks {error}"
    if problem is not None:
        raise ClusterError(
            f"{VARIABLE}: {problem} "
            '(expected {"cluster": {"worker": ["HOST:PORT", ...]}, '
            '"task": {"type": "worker", "index": 0}})'
        )
    if type(index) is not int or not 0 <= index < len(addresses):
        raise ClusterError(
            f"{VARIABLE}: index {index!r} (must be 0 to {len(addresses) - 1}, this "
            "host's place among the workers)"
        )
    is_local = has_local_folders and len(addresses) > 1
    return Cluster(tuple(addresses), index, is_local)


def _find_problem(cluster: dict, addresses: object, kind: object) -> str | None:
    if set(cluster) != {"worker"} or kind != "worker":
        names = ", ".join(sorted({*cluster, str(kind)} - {"worker"}))
        return f"names {names} (all must be worker)"
    if not isinstance(addresses, list) or not addresses:
        return "worker is no list of addresses"
    for address in addresses:
        try:
            split_address(address)
        except (TypeError, ValueError):
            return f"worker {address!r}"
    return "names a worker twice" if len(set(addresses)) < len(addresses) else None
