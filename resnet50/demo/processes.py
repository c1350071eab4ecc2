"""Starts the project's programs as a user does: with a config.txt, as processes."""

import shlex
import subprocess
import sys
import threading
from pathlib import Path

from resnet50 import installation
from resnet50.config.toml_file import write_changed
from resnet50.errors import UserError


class ProgramError(UserError):
    """A program has failed."""


def write_config(path: Path, changes: dict[str, dict]) -> None:
    """Writes config.txt as shipped to a path, with changes to some sections' keys."""
    write_changed(installation.SHIPPED / "config.txt", path, changes)


class ProgramProcess:
    """A running program, whose output is printed line by line; as a context, ended."""

    def __init__(self, label: str, command: str, *flags: str):
        """Starts a command; the label precedes each line of output."""
        self._label = label
        script, folder = installation.SCRIPTS.get(command), None
        if installation.is_checkout():
            folder = installation.PROJECT
        words = ["-m", "resnet50", command]
        if folder and script:
            words = [script]
        self._print(f"$ {shlex.join(['python3', *words, *flags])}")
        self._process = subprocess.Popen(
            [sys.executable, *words, *flags],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._print_output, daemon=True)
        self._reader.start()

    def _print(self, line: str) -> None:
        print(f"{self._label:5} | {line}", flush=True)

    def _print_output(self) -> None:
        for line in self._process.stdout or ():
            self._print(line.rstrip())

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Stops it like Ctrl-C, which a background process of a script ignores."""
        self._process.terminate()

    def wait(self, expected: int = 0) -> None:
        """Waits until it ends.

        Raises:
            ProgramError: Its status is not the expected one.
        """
        status = self._process.wait()
        self._reader.join()
        if status != expected:
            raise ProgramError(f"{self._label}: ended with status {status}")

    def __enter__(self) -> "ProgramProcess":
        return self

    def __exit__(self, *exception) -> None:
        if self.is_running():
            self._process.terminate()
            self._process.wait()
