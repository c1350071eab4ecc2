"""Starts and ends Python processes that tests talk to over pipes. No test."""

import contextlib
import multiprocessing
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
