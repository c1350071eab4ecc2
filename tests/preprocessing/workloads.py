"""Functions that tests send to worker processes. No test."""

import errno
import os
import signal
from pathlib import Path

import numpy as np

from resnet50.preprocessing.refill import make_and_write


def square(number: int) -> int:
    return number**2


def wait_for_line(path: str) -> int:
    """Opens a named pipe, which waits for a writer; returns the process id."""
    with Path(path).open() as pipe:
        pipe.readline()
    return os.getpid()


def exit_at_once(settings, buffer, assignment):
    """Replaces make_and_write in a worker that dies before it makes a batch."""
    os._exit(1)


def die_once_half_way(settings, buffer, assignment):
    """Like make_and_write, but the third batch kills its first worker half-way.

    That worker leaves the labels without the images, and a temporary.
    """
    marker = buffer.folder / "has_died"
    if assignment.position.batch_index == 2 and not marker.exists():
        marker.touch()
        np.save(buffer.labels_path(assignment.position), assignment.labels + 1)
        (buffer.folder / ".writing-killed.npy.tmp").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return make_and_write(settings, buffer, assignment)


def fail_while_disk_is_full(settings, buffer, assignment):
    """Like make_and_write on a disk that is full while a certain file exists."""
    if (buffer.folder / "disk_is_full").exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return make_and_write(settings, buffer, assignment)


def write_on_a_disk_for_three(settings, buffer, assignment):
    """Like make_and_write on a disk that has room for three batches."""
    if len(buffer.files()) >= 3:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return make_and_write(settings, buffer, assignment)


def fail_while_quota_is_exceeded(settings, buffer, assignment):
    """Like make_and_write with a quota for three batches."""
    if len(buffer.files()) >= 3:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    return make_and_write(settings, buffer, assignment)


def run_out_of_memory_once(settings, buffer, assignment):
    """Like make_and_write, but there is no memory for the first batch."""
    marker = buffer.folder / "was_out_of_memory"
    if not marker.exists():
        marker.touch()
        raise MemoryError("Unable to allocate 115. MiB")
    return make_and_write(settings, buffer, assignment)
