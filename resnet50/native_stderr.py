"""Holds back what libraries write to file descriptor 2, such as TensorFlow's C++ code.

TensorFlow writes some lines about the machine before any of its settings has an effect.
They are held in a temporary file. Nothing that explains a failure is lost: if the block
fails, or the process dies in it, the lines appear on stderr. For the second case a
small process waits for the end of this one.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from resnet50.terminal import PatientStream

# Copies the held lines, its stdin, to stderr, unless a byte arrives before the process
# that holds them closes the pipe. Ctrl-C, which the whole terminal gets, ends it. Until
# it is ready for Ctrl-C, which would make Python print a traceback, that is blocked.
_GUARD = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
if not os.read(int(sys.argv[1]), 1):
    os.lseek(0, 0, os.SEEK_SET)
    while block := os.read(0, 65536):
        os.write(2, block)
"""


@contextlib.contextmanager
def held_back() -> Iterator[list[str]]:
    """Holds back the block's output to descriptor 2; yields the list of its lines.

    The list is filled at the end of the block, also if it fails. What Python prints
    appears at once. If Python's stderr is not descriptor 2, or a file or a process
    cannot be created, nothing is held back.
    """
    lines: list[str] = []
    with contextlib.ExitStack() as stack:
        try:
            is_possible = sys.stderr.fileno() == 2
            if is_possible:
                held = stack.enter_context(tempfile.TemporaryFile())
                stack.enter_context(_guard(held))
        except (OSError, ValueError, AttributeError):  # Or it has no descriptor.
            is_possible = False
        if is_possible:
            stack.enter_context(_redirection(held))
        try:
            yield lines
        finally:
            if is_possible:
                text = _content(held).decode(errors="backslashreplace")
                lines += text.splitlines()


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


@contextlib.contextmanager
def _guard(held: IO[bytes]) -> Iterator[None]:
    """Runs the small process during the block."""
    for_guard, end = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # Inherited.
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD, str(for_guard)],
            stdin=held,
            stdout=subprocess.DEVNULL,
            pass_fds=[for_guard],
        )
    except OSError:
        os.close(end)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(for_guard)
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            os.write(end, b".")
        os.close(end)
        process.wait()


@contextlib.contextmanager
def _redirection(held: IO[bytes]) -> Iterator[None]:
    """Redirects descriptor 2 into a file; copies that to stderr if the block fails."""
    before, terminal = sys.stderr, os.dup(2)
    before.flush()
    # It stays open: whoever keeps it, such as a logger, may use it after the block.
    sys.stderr = PatientStream(
        os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    )
    os.dup2(held.fileno(), 2)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.write(terminal, _content(held))
        raise
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        sys.stderr = before
