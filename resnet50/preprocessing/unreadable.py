"""The log of images that could not be read: unreadable_images.txt in the buffer folder.

One line an image, "name<TAB>reason", in the order of discovery, each image once.
"""

import contextlib
import os
from pathlib import Path

FILE_NAME = "unreadable_images.txt"


class UnreadableLog:
    """Remembers, on disk, which images could not be read."""

    def __init__(self, folder: Path):
        """Opens the log of a buffer folder, new or with what is already in it."""
        self.path = folder / FILE_NAME
        content = self.path.read_bytes() if self.path.exists() else b""
        self._lines = {line.split(b"\t")[0]: line for line in content.splitlines()}
        self._unwritten = b""

    def __len__(self) -> int:
        """How many images are in the log."""
        return len(self._lines)

    def add(self, image: str, reason: str) -> bool:
        """Adds an image; returns False if it was there already."""
        # Control characters in a file's name must not make two lines of one.
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
        # On a full disk they wait in memory for the next one.
        self._unwritten = lines
        with contextlib.suppress(OSError):
            with self.path.open("ab") as file:
                file.write(lines)
            self._unwritten = b""
