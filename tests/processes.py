"""Starts and ends Python processes that tests talk to over pipes. No test.

Also says what a running process holds.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
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


def in_own_process(function, *arguments):
    """Calls a function in a new process; returns its result, or raises its exception.

    For what lasts, such as TensorFlow's determinism, and for memory.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def processes_of(pid: int) -> list[int]:
    """A process and its descendants."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for path in lists for child in path.read_text().split()]
    return [pid, *(each for child in children for each in processes_of(child))]


def resident_bytes(pid: int) -> int:
    """The resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
