"""starts.jsonl in a run's folder: with what each start of train.py has trained.

Each line is a JSON object that stands alone: time, command, position, all settings,
versions, git commit and device. A line has about 4 KB, so a hundred restarts take less
than half a megabyte. A training never needs the file.
"""

import dataclasses
import datetime
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from resnet50.atomic_io import atomic_file
from resnet50.config.settings import Config
from resnet50.errors import UserError
from resnet50.input_file import read_regular
from resnet50.urls import shown_url

STARTS_FILE = "starts.jsonl"

# That of 16,000 starts. Whatever has more was not written by train.py.
_MAX_BYTES = 2**26

# For git on a slow network disk; the training does not wait longer.
_GIT_SECONDS = 10.0


class StartsError(UserError):
    """starts.jsonl cannot be read."""


def find_commit(project: Path) -> str | None:
    """The git commit of a folder, such as "1a2b3c4d5e6f, modified".

    None if the folder is not the top of a checkout, or git is not installed. Files that
    git does not track do not count as modifications.
    """
    # A hook of git sets variables that would name another repository.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}

    def git(*words: str) -> str:
        # Without the option, status would write into the repository.
        command = ["git", "--no-optional-locks", *words]
        return subprocess.run(
            command,
            cwd=project,
            env=clean,
            check=True,
            timeout=_GIT_SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        ).stdout.strip()

    try:
        if not project.samefile(git("rev-parse", "--show-toplevel")):
            return None  # The project is installed inside another one's checkout.
        commit = git("rev-parse", "--short=12", "HEAD")
        is_modified = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}, modified" if is_modified else commit


def recorded_settings(config: Config) -> dict[str, dict[str, Any]]:
    """All settings, by section, without the secrets in URLs."""
    return {
        section: {
            key: shown_url(value) if isinstance(value, str) else value
            for key, value in values.items()
        }
        for section, values in dataclasses.asdict(config).items()
    }


def _read(path: Path) -> bytes:
    """The whole file; nothing without one."""
    try:
        return read_regular(path, _MAX_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StartsError(
            f"{path}: cannot be read: {error.strerror} (move it away)"
        ) from None


def record_start(path: Path, record: dict) -> None:
    """Adds a start, with the time, to starts.jsonl; keeps all earlier lines.

    Raises:
        StartsError: The file cannot be read.
        OSError: It cannot be written.
    """
    lines = _read(path)
    if lines and not lines.endswith(b"\n"):  # A damaged line ends here.
        lines += b"\n"
    now = datetime.datetime.now(datetime.timezone.utc)
    record = {"time": now.isoformat(timespec="seconds"), **record}
    with atomic_file(path) as file:
        file.write(lines + json.dumps(record, default=str).encode() + b"\n")


def _parse(line: bytes) -> dict | None:
    try:
        record = json.loads(line)
        numbers = record["epoch"], record["batch"]
        tables = record["versions"], *record["settings"].values()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    is_whole = all(isinstance(number, int) for number in numbers)
    return record if is_whole and all(isinstance(t, dict) for t in tables) else None


def read_starts(path: Path) -> list[dict]:
    """The starts whose training is part of the run now, oldest first.

    A later start from the same or an earlier position replaces a start. Lines that are
    damaged are left out; without a file there are none.

    Raises:
        StartsError: The file cannot be read.
    """
    starts: list[dict] = []
    for record in filter(None, map(_parse, _read(path).splitlines())):
        position = record["epoch"], record["batch"]
        while starts and (starts[-1]["epoch"], starts[-1]["batch"]) >= position:
            starts.pop()
        starts.append(record)
    return starts
