"""Judges, for a health check, whether a program runs and makes progress."""

import contextlib
import time
from pathlib import Path

from resnet50.errors import UserError
from resnet50.handoff import locks
from resnet50.handoff.manifest import open_buffer
from resnet50.handoff.progress import (
    FILE_NAME,
    Position,
    ProgressError,
    read_position,
)

# A step or a batch takes seconds. A start may list a dataset, load TensorFlow and
# compile the network first, which takes minutes.
_QUIET_SECONDS = 600.0


class UnhealthyError(UserError):
    """A program does not run, or makes no progress."""


def _modified(path: Path) -> float:
    """When a file was written, seconds since the epoch; 0.0 if it is missing."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _next_position(folder: Path) -> Position | None:
    """The position of the batch that the trainer needs next; None if unknown."""
    with contextlib.suppress(ProgressError):
        return read_position(folder)
    return None


def _trainer_fault(folder: Path, started: float) -> str:
    """Says for how long the trainer has finished no step; "" if that is normal."""
    quiet = time.time() - max(started, _modified(folder / FILE_NAME))
    if quiet < _QUIET_SECONDS:
        return ""
    where = _next_position(folder) or "an unknown position"
    return f"has stayed at {where} for {quiet / 60:.0f} min"


def _preprocessor_fault(folder: Path, started: float) -> str:
    """Says which batch is missing, and for how long; "" if that is normal."""
    buffer = open_buffer(folder)
    ready = buffer.ready()
    wanted = _next_position(folder)
    # Without a running trainer, the position may be that of another training.
    if locks.is_alive(folder, locks.TRAINER) and wanted is not None:
        is_ready, what = wanted in ready, f"the trainer needs {wanted}"
    else:
        is_ready, what = bool(ready), "no batch is ready"
    times = (_modified(buffer.images_path(position)) for position in ready)
    quiet = time.time() - max([started, *times])
    if is_ready or quiet < _QUIET_SECONDS:
        return ""
    return f"{what}, and none was made for {quiet / 60:.0f} min"


def require_healthy(folder: Path, role: str) -> str:
    """Returns a line about a program that runs and makes progress.

    The trainer makes progress if it finishes steps. The preprocessor does if the
    trainer's next batch is ready or others are made.

    Args:
        folder: The buffer folder.
        role: ``locks.TRAINER`` or ``locks.PREPROCESSOR``.

    Raises:
        UnhealthyError: It does not run, or makes no progress.
    """
    if not locks.is_alive(folder, role):
        raise UnhealthyError(f"{folder}: {role}.py does not run (start it)")
    started = _modified(locks.lock_path(folder, role))
    find_fault = _trainer_fault if role == locks.TRAINER else _preprocessor_fault
    process = locks.owner(folder, role)
    if fault := find_fault(folder, started):
        raise UnhealthyError(
            f"{folder}: {role}.py runs, process {process}, but {fault} (see its output)"
        )
    return f"{role}.py runs, process {process}, and makes progress"
