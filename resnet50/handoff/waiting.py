"""training_waits.txt: which host a training on several hosts waits for.

With local folders, a host whose preprocessing is behind slows all of them. Each host's
trainer writes the file into its buffer folder, for ``status``: one line, such as "31.0%
for worker 1, host1:4711", or nothing if no host waits.
"""

import contextlib
from pathlib import Path

from resnet50.atomic_io import atomic_file
from resnet50.errors import printable_line
from resnet50.handoff import locks
from resnet50.input_file import read_regular

FILE_NAME = "training_waits.txt"

_MAX_BYTES = 1000


def write_waiting(folder: Path, text: str) -> None:
    """Replaces the file in a buffer folder; "" if no host waits."""
    with atomic_file(folder / FILE_NAME, durable=False, whole=False) as file:
        file.write(f"{text}\n".encode())


def read_waiting(folder: Path) -> str:
    """What a running trainer has written; "" if there is nothing to say."""
    if not locks.is_alive(folder, locks.TRAINER):
        return ""  # An earlier trainer has left it.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        content = read_regular(folder / FILE_NAME, _MAX_BYTES)
        return printable_line(content.decode().strip())
    return ""
