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
        self._known = {line.split(b"\t")[0] for line in content.splitlines()}
        self._unwritten = b""

    def __len__(self) -> int:
        """How many images are in the log."""
        return len(self._known)

    def add(self, image: str, reason: str) -> bool:
        """Adds an image; returns False if it was there already."""
        # Control characters in a file's name must not make two lines of one.
        name = os.fsencode(image).translate(bytes.maketrans(b"\t\r\n", b"???"))
        if name in self._known:
            return False
        self._known.add(name)
        self._unwritten += name + b"\t" + reason.encode("utf-8", "replace") + b"\n"
        # On a full disk the line waits in memory for the next one.
        with contextlib.suppress(OSError):
            with self.path.open("ab") as file:
                file.write(self._unwritten)
            self._unwritten = b""
        return True
