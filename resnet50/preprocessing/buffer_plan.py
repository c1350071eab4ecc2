"""What belongs into the buffer and how much of it fits on the disk; starts no work."""

import shutil
from collections.abc import Collection
from typing import NamedTuple

from resnet50.errors import UserError
from resnet50.handoff.buffer import BatchBuffer

# Room to leave free on the buffer's disk, for the folder's other files and for other
# programs. The share applies to small disks, such as a container's /dev/shm of 64 MB.
_RESERVE_BYTES, _RESERVE_SHARE = 64 * 2**20, 0.02


class DiskSpaceError(UserError):
    """The buffer's disk has no room for even a small buffer."""


class Plan(NamedTuple):
    """What has to be done to the buffer."""

    delete: list[int]  # steps outside the window
    make: list[int]  # missing steps, nearest first
    num_ahead: int  # ready batches without a gap, from the trainer's next step on


def plan_refill(
    window: range,
    ready: Collection[int],
    present: Collection[int],
    in_progress: Collection[int] = (),
) -> Plan:
    """Compares the steps in the buffer with the window that should be there.

    A pure function. A step is ready if its batch is complete, present if it has any
    file, and in progress while a worker makes it.
    """
    first_gap = next((step for step in window if step not in ready), window.stop)
    return Plan(
        delete=sorted(step for step in present if step not in window),
        make=[s for s in window if s not in ready and s not in in_progress],
        num_ahead=first_gap - window.start,
    )


def fitting_buffer_size(buffer: BatchBuffer, buffer_size: int, batch_bytes: int) -> int:
    """How many batches, at most buffer_size, the buffer's disk has room for.

    The batches that are already in the buffer count as room.

    Raises:
        DiskSpaceError: Not even two batches fit.
    """
    disk = shutil.disk_usage(buffer.folder)
    reserve = min(_RESERVE_BYTES, int(_RESERVE_SHARE * disk.total))
    fitting = len(buffer.ready()) + max(0, disk.free - reserve) // batch_bytes
    if fitting < min(2, buffer_size):
        raise DiskSpaceError(
            f"{buffer.folder}: {disk.free / 1e6:.1f} MB free, but two batches take "
            f"{2 * batch_bytes / 1e6:.1f} MB and {reserve / 1e6:.1f} MB are a reserve "
            "(free some, change [train] buffer_folder, or lower --batch_size)"
        )
    return min(buffer_size, fitting)
