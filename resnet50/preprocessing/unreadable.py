"""The log of images that could not be read: unreadable_images.txt in the buffer folder.

It has one line per image, "name<TAB>reason", in the order of discovery.
"""

import contextlib
import os
from pathlib import Path

FILE_NAME = "unreadable_images.txt"


class UnreadableLog:
    """Remembers, on disk, which images could not be read."""

    def __init__(self, folder: Path):
        """Opens the log of a buffer folder, and reads what it already holds."""
        self.path = folder / FILE_NAME
        content = self.path.read_bytes() if self.path.exists() else b""
        self._lines = {line.split(b"\t")[0]: line for line in content.splitlines()}
        self._unwritten = b""

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
