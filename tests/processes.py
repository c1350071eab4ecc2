"""Starts and ends Python processes that tests talk to over pipes. No test."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def python_process(
    program: str, *arguments, cwd: Path = ROOT
) -> Iterator[subprocess.Popen]:
    """Runs a program with text pipes; kills it at the end of the block.

    ``readline()`` on its stdout waits for a line; it returns "" when the program ends.
    """
    command = [sys.executable, "-u", "-c", program, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=cwd, text=True, stdin=pipe, stdout=pipe) as it:
        try:
            yield it
        finally:
            it.kill()
