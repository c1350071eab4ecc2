"""Checks in the buffer folder whether the two programs agree."""

from pathlib import Path
from typing import NamedTuple

from resnet50.checks.findings import OK, PROBLEM, WARNING, Finding
from resnet50.handoff import locks, progress
from resnet50.handoff.manifest import differences
from resnet50.handoff.progress import ProgressError, read_progress, to_position


class Programs(NamedTuple):
    """Process ids of the programs that use a buffer folder; None: not running."""

    preprocessor: str | None
    trainer: str | None


def find_programs(folder: Path) -> Programs:
    """Finds the programs that use a buffer folder, by its locks."""
    owners = [
        locks.owner(folder, role) if locks.is_alive(folder, role) else None
        for role in (locks.PREPROCESSOR, locks.TRAINER)
    ]
    return Programs(*owners)


def check_running(running: Programs) -> Finding:
    """Says which of the two programs run."""
    states = [
        f"{role}.py {f'runs, process {process}' if process else 'is not running'}"
        for role, process in zip((locks.PREPROCESSOR, locks.TRAINER), running)
    ]
    return Finding(OK, f"programs: {', '.join(states)}")


def check_manifest(found: dict | None, wanted: dict, running: Programs) -> Finding:
    """Compares the settings of the buffer's batches with config.txt.

    found is the manifest in the buffer folder: None if there is none, {} if torn.
    """
    if found is None:
        return Finding(OK, "settings: no batches have been made yet")
    changed = differences(found, wanted)
    if not changed:
        return Finding(OK, "settings: the buffer's batches are those of config.txt")
    what = f"settings: in the buffer, {'; '.join(changed)}"
    if any(running):
        remedy = "there: in the running programs; stop them, or restore their settings"
        return Finding(PROBLEM, what, remedy)
    remedy = "there: in the buffer; runtime_preprocessing.py will replace its batches"
    return Finding(WARNING, what, remedy)


def check_progress(folder: Path, batches_per_epoch: int, end_step: int) -> Finding:
    """Reads training_progress.txt in the buffer folder."""
    if not (folder / progress.FILE_NAME).exists():
        return Finding(OK, "progress: no training has begun with this buffer")
    try:
        step = read_progress(folder, batches_per_epoch, end_step)
    except ProgressError as error:
        return Finding(WARNING, f"progress: {error}")
    return Finding(OK, f"progress: next is {to_position(step, batches_per_epoch)}")
