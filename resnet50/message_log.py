"""The messages of a program, kept in a file.

    RUN/train.log                       the messages of train.py
    BUFFER/runtime_preprocessing.log    those of runtime_preprocessing.py

A message begins with its time; its further lines are indented:

    2026-11-26 12:00:03+01:00 epoch 0: loss 2.706, top-1 24.3%
        The trainer limits, batches are there in time

Each message is written by one call, so a killed program leaves whole messages. What
cannot be written is dropped: the file is for reading, and must not stop a training.
"""

import collections
import contextlib
import datetime
import os
import re
import threading
from pathlib import Path
from typing import NamedTuple

from resnet50.input_file import open_regular, require_regular

# A file that would grow past this is renamed to NAME.log.1, which is replaced.
_MAX_BYTES = 2**20

# Messages from before the file is known.
_MAX_EARLY = 100

# Where the newest messages are looked for.
_TAIL_BYTES = 2**16

_INDENT = " " * 4
_FIRST_LINE = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d) (.*)", flags=re.ASCII
)


class Message(NamedTuple):
    """A message in a log."""

    time: datetime.datetime
    text: str  # without the indent of its further lines


def file_name(role: str) -> str:
    """The name of the log of a program, whose role in its folder is given."""
    return f"{role}.log"


class MessageLog:
    """Takes messages, and writes them as soon as it has a file."""

    def __init__(self):
        self._path: Path | None = None
        self._early: collections.deque[bytes] = collections.deque(maxlen=_MAX_EARLY)
        self._lock = threading.Lock()

    def keep_in(self, path: Path) -> None:
        """Writes all messages, earlier and later ones, at the end of a file."""
        with self._lock:
            self._path = path
            self._write(b"".join(self._early))
            self._early.clear()

    def add(self, text: str) -> None:
        """Takes a message of one or more lines."""
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        first, *others = text.splitlines() or [""]
        lines = f"{now} {first}\n", *(f"{_INDENT}{line}\n" for line in others)
        data = "".join(lines).encode("utf-8", "backslashreplace")
        with self._lock:
            if self._path is None:
                self._early.append(data)
            else:
                self._write(data)

    def _write(self, data: bytes) -> None:
        path = self._path
        with contextlib.suppress(OSError):
            if path.exists():
                require_regular(path.stat())  # Opening a pipe would block.
                if path.stat().st_size + len(data) > _MAX_BYTES:
                    path.replace(f"{path}.1")
            with path.open("a+b", buffering=0) as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # Torn by a full disk or a power cut.
                        data = b"\n" + data
                file.write(data)


def newest_messages(path: Path, number: int) -> list[Message]:
    """The last messages of a log, oldest first; none if it cannot be read."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    messages: list[Message] = []
    for line in lines:
        match = _FIRST_LINE.fullmatch(line)
        with contextlib.suppress(ValueError):  # No such day or time.
            if match:
                time = datetime.datetime.fromisoformat(match[1])
                messages.append(Message(time, match[2]))
                continue
        if messages:
            time, text = messages.pop()
            messages.append(Message(time, f"{text}\n{line.removeprefix(_INDENT)}"))
    return messages[-number:]
