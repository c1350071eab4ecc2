"""Every kind of file fails, at the start and while both programs run.

    python -m tests.disk_faults [--only=TEXT]

Each row of the table is one fault: system calls of one of the real scripts fail on one
kind of file (see ``failing_calls``), a folder is deleted, replaced or unmounted, a real
disk is full or read-only, or two hosts start the same. A program must report it in one
line without a traceback, and either continue as soon as the fault ends, or end with
status 1. Started again without the fault, the two programs must end with the same bytes
as if nothing had happened: the same batches, or all variables of the last checkpoint.

If the user may mount a tmpfs (unshare --user --mount), the program starts itself again
where it can; otherwise it leaves out the rows that need one.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.disk_faults import trials
from tests.disk_faults.disturbances import Result
from tests.disk_faults.folders import FOLDERS, MOUNTS
from tests.disk_faults.rows import (
    AT_PREPROCESSOR_START,
    AT_TRAINER_START,
    COMMANDS,
    STARTED_TWICE,
    WHILE_RUNNING,
)
from tests.disk_faults.scenes import make_reference
from tests.failing_calls import why_not
from tests.full_disk import UNSHARE, can_mount

# Its value, in the program that may mount, is the folder to work in.
_FOLDER = "DISK_FAULTS_FOLDER"

GROUPS = {
    "folders, while both run": (FOLDERS, trials.disturb_running),
    "disks, while both run": (MOUNTS, trials.disturb_mounted),
    "started twice": (STARTED_TWICE, trials.start_twice),
    "files, while both run": (WHILE_RUNNING, trials.disturb_running),
    "at the trainer's start": (AT_TRAINER_START, trials.start_trainers),
    "at the preprocessor's start": (
        AT_PREPROCESSOR_START,
        trials.start_preprocessors,
    ),
    "commands": (COMMANDS, trials.run_commands),
}
NEEDS_MOUNT = {"disks, while both run"}


def run_all(
    folder: Path,
    only: str,
    report: Callable[[str, Result], None],
    *,
    may_mount: bool,
) -> collections.Counter:
    """Tries all rows whose name, with that of their group, contains a text."""
    chosen = {
        title: [row for row in rows if only in f"{title}: {row.name}"]
        for title, (rows, _) in GROUPS.items()
        if may_mount or title not in NEEDS_MOUNT
    }
    # The fault "numba's cache" must not damage the project's own.
    os.environ["NUMBA_CACHE_DIR"] = str(folder / "numba")
    with_run = any(
        rows for title, rows in chosen.items() if "preprocessor" not in title
    )
    reference = make_reference(folder, with_run=with_run)
    counts = collections.Counter()
    for title, rows in chosen.items():
        if not rows:
            continue
        function = GROUPS[title][1]
        place = folder / re.sub(r"\W+", "-", title)
        place.mkdir()
        for result in function(place, reference, rows):
            counts["rows"] += 1
            counts["calls that failed"] += result.num_hits
            counts[result.outcome] += 1
            report(title, result)
    return counts


def print_row(title: str, result: Result) -> None:
    print(
        f"{title} | {result.name} | {result.outcome} | {result.line} | {result.lost}",
        flush=True,
    )


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    args = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    started = time.monotonic()
    if inner := os.environ.get(_FOLDER):
        counts = run_all(Path(inner), args.only, print_row, may_mount=True)
    else:
        with tempfile.TemporaryDirectory(prefix="disk-faults-") as folder:
            if can_mount():
                environment = {**os.environ, _FOLDER: folder}
                words = [sys.executable, "-m", "tests.disk_faults", *sys.argv[1:]]
                result = subprocess.run([*UNSHARE, *words], env=environment)
                sys.exit(result.returncode)
            print("this user may not mount a tmpfs; rows that need one are left out")
            counts = run_all(Path(folder), args.only, print_row, may_mount=False)
    seconds = time.monotonic() - started
    print(f"\n{dict(counts)} in {seconds:.0f} s")
    sys.exit(bool(counts["FAILED"]))


if __name__ == "__main__":
    main()
