"""Starts the two programs, and samples what they hold while they run. No test."""

import contextlib
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TextIO

from tests.processes import processes_of, resident_bytes
from tests.settings import PROJECT

# How often a sample has the unshared memory, which the kernel computes page by page.
_SAMPLES_PER_UNSHARED = 5

_PRIVATE = re.compile(rb"Private_\w+: +(\d+) kB")


class RehearsalError(Exception):
    """A program has failed, or does nothing."""


class Program:
    """One of the two programs, started again and again; keeps what it says."""

    def __init__(self, name: str, log: Path):
        """Takes the name of its script."""
        self.name = name
        self.started: list[float] = []  # when, by the monotonic clock
        self.lines: list[list[tuple[float, str]]] = []  # of each start; when each came
        self.pid = 0
        self._log = log.open("a", buffering=1)
        self._process: subprocess.Popen | None = None  # None: it should not run

    def start(self, words: list[str]) -> None:
        self._log.write(f"$ {shlex.join(words)}\n")
        self.started.append(time.monotonic())
        self.lines.append([])
        self._process = subprocess.Popen(
            [sys.executable, *words],
            cwd=PROJECT,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self.pid = self._process.pid
        arguments = self._process.stderr, self.lines[-1]
        threading.Thread(target=self._read, args=arguments, daemon=True).start()

    def _read(self, stream: TextIO, lines: list[tuple[float, str]]) -> None:
        for line in stream:
            lines.append((time.monotonic(), line.rstrip("\n")))
            self._log.write(line)

    def end(self, how: str) -> None:
        """Ends it by SIGTERM, after which it must exit in order, or kills it."""
        process, self._process = self._process, None
        if how == "SIGTERM":
            process.terminate()
        elif how == "kill -9":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait(120)
        if status != (130 if how == "SIGTERM" else -signal.SIGKILL):
            raise RehearsalError(f"{self.name}: status {status} after {how}")

    def has_ended(self) -> bool:
        """Whether it has ended by itself; raises RehearsalError if it has failed."""
        status = self._process.poll() if self._process is not None else None
        if status in (None, 0):
            return status == 0
        said = "\n".join(line for _, line in self.lines[-1][-15:])
        raise RehearsalError(f"{self.name} ended with status {status}:\n{said}")

    def flags_below(self, text: str, *, first: int = 0) -> list[str] | None:
        """The flags of the command that the last start printed below a line.

        Args:
            text: A part of the line.
            first: How many lines to leave out.
        """
        lines = [line for _, line in self.lines[-1][first:]]
        for line, command in itertools.pairwise(lines):
            if text in line:
                return shlex.split(command)[2:]
        return None

    def seconds_to(self, text: str, start: int) -> float:
        """From a start to its first line with a text."""
        at = next(at for at, line in self.lines[start] if text in line)
        return at - self.started[start]

    def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


class Sample(NamedTuple):
    """What a program and its child processes hold at a moment."""

    program: str
    start: int  # which of its starts, from 0
    at: float  # seconds of the monotonic clock
    step: int  # of the trainer
    num_ready: int  # batches in the buffer
    resident: int  # bytes; what processes share counts several times
    unshared: int  # bytes; 0: not in this sample
    num_files: int
    num_threads: int
    num_processes: int


def unshared_bytes(pid: int) -> int:
    """The memory that only one process holds."""
    found = _PRIVATE.findall(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    return 1024 * sum(map(int, found))


def _num_entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


class Sampler(threading.Thread):
    """Samples programs each second, and the machine's load."""

    def __init__(
        self,
        programs: list[Program],
        step: Callable[[], int],
        num_ready: Callable[[], int],
    ):
        """Takes functions that return the trainer's step, and how many batches wait."""
        super().__init__(daemon=True)
        self._programs, self._step, self._num_ready = programs, step, num_ready
        self._end = threading.Event()
        self.samples: list[Sample] = []
        self.loads: list[float] = []  # mean number of runnable processes in a minute

    def run(self) -> None:
        number = 0
        while not self._end.wait(1.0):
            number += 1
            self.loads.append(os.getloadavg()[0])
            for program in self._programs:
                # A process may end meanwhile.
                with contextlib.suppress(OSError, ValueError):
                    is_due = number % _SAMPLES_PER_UNSHARED == 0
                    self.samples.append(self._sample(program, has_unshared=is_due))

    def _sample(self, program: Program, *, has_unshared: bool) -> Sample:
        start = len(program.started) - 1
        pids = processes_of(program.pid)
        return Sample(
            program.name,
            start,
            time.monotonic(),
            self._step(),
            self._num_ready(),
            sum(map(resident_bytes, pids)),
            sum(map(unshared_bytes, pids)) if has_unshared else 0,
            sum(_num_entries(f"/proc/{pid}/fd") for pid in pids),
            sum(_num_entries(f"/proc/{pid}/task") for pid in pids),
            len(pids),
        )

    def end(self) -> None:
        self._end.set()
        self.join()
