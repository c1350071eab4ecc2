"""Open files that threads and caches share."""

import os
from collections.abc import Callable
from pathlib import Path


class Handle:
    """An open file that is closed when nobody uses it, not while a thread does.

    Attributes:
        descriptor: For positioned reads and writes, which do not change the handle.
    """

    def __init__(self, path: Path | str, flags: int = os.O_RDONLY):
        self.descriptor = -1
        self.descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # At the end of the program, the module may have lost its names.
        if self.descriptor >= 0:
            close(self.descriptor)
