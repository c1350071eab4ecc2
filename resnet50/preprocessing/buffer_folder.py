"""The buffer folder: what belongs in it, what fits, and the unreadable images' log."""

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
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


class UnreadableLog:
    """Remembers in unreadable_images.txt which images could not be read.

    The file has one line per image, "name<TAB>reason", in the order of discovery.
    """

    def __init__(self, folder: Path):
        """Opens the log of a buffer folder, and reads what it already holds."""
        self.path = folder / "unreadable_images.txt"
        content = self.path.read_bytes() if self.path.exists() else b""
        lines = content.split(b"\n")
        torn = lines.pop()  # By a power cut or a full disk; empty if it was not.
        self._lines = {line.split(b"\t")[0]: line for line in lines if b"\t" in line}
        self._unwritten = b"\n" if torn else b""

    def __len__(self) -> int:
        """How many images are in the log."""
        return len(self._lines)

    def add(self, image: str, reason: str) -> bool:
        """Adds an image; returns False if the log has it already."""
        # Control characters in a name must not split the line.
        name = os.fsencode(image).translate(bytes.maketrans(b"\t\r\n", b"???"))
        if name in self._lines:
            return False
        self._lines[name] = name + b"\t" + reason.encode("utf-8", "replace")
        self._write(self._unwritten + self._lines[name] + b"\n")
        return True

    def restore(self) -> None:
        """Writes the whole log again if it was deleted."""
        if not self.path.exists() and self._lines:
            self._write(b"\n".join([*self._lines.values(), b""]))

    def _write(self, lines: bytes) -> None:
        # On a full disk the lines stay in memory until the next call.
        self._unwritten = lines
        with contextlib.suppress(OSError):
            with self.path.open("ab") as file:
                file.write(lines)
            self._unwritten = b""
