"""A row of the table: its fault, and what a program says about it."""

import errno
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.disk_faults.scenes import STUCK_SECONDS, LostError, Scene
from tests.failing_calls import PRETEND, Fault

# How long a fault lasts after it was hit, if no program says anything.
_SILENT_SECONDS = 3.0
# The same, if it is known that a program will say something or end.
_PATIENCE_SECONDS = 90.0
# How long it lasts after a program has reported it.
_REPORTED_SECONDS = 0.5


class Row(NamedTuple):
    """A fault, and what it should lead to."""

    name: str
    program: str  # the one that reports it
    fault: tuple | None  # the arguments of Fault
    outcome: str  # "ended", "said" (and went on) or "silent"
    line: str  # part of the line
    # What happens when the fault begins and ends, besides the failing calls.
    begin: Callable[[Scene], None] = lambda scene: None
    end: Callable[[Scene], None] = lambda scene: None
    is_cold: bool = False  # whether the folder is empty at the start
    flags: tuple[str, ...] = ()


class Result(NamedTuple):
    name: str
    num_hits: int
    outcome: str
    line: str
    lost: str


def failing(
    name: str,
    program: str,
    operations: str,
    pattern: str,
    errors: str,
    outcome: str,
    line: str = "",
    *,
    first: int = 1,
    begin: Callable[[Scene], None] = lambda scene: None,
    is_cold: bool = False,
    flags: tuple[str, ...] = (),
) -> list[Row]:
    """A row for each error; its text must be in the line, besides ``line``."""
    rows = []
    for code in errors.split():
        others = {"hang": None, "PRETEND": PRETEND}
        number = others[code] if code in others else getattr(errno, code)
        rows.append(
            Row(
                f"{name}: {operations} {code}",
                program,
                (operations, pattern, number, first),
                outcome,
                line,
                begin,
                is_cold=is_cold,
                flags=flags,
            )
        )
    return rows


class Disturbance:
    """A row's fault in a scene."""

    def __init__(self, row: Row, scene: Scene):
        self.row, self._scene = row, scene
        self.fault = Fault(*row.fault) if row.fault else None
        self.faults = [self.fault] if self.fault else []

    @property
    def num_hits(self) -> int:
        return self.fault.num_hits if self.fault else 1

    def begin(self) -> None:
        self.row.begin(self._scene)
        if self.fault:
            self.fault.is_in_force = True

    def end(self) -> None:
        if self.fault:
            self.fault.is_in_force = False
        self.row.end(self._scene)


def observe(
    scene: Scene, disturbance: Disturbance, script: str, start: int
) -> tuple[str, str]:
    """Waits until a program has ended or reported the fault, or was hit and is silent.

    Returns the outcome and the line.
    """
    row, process = disturbance.row, scene.programs[script].process
    number = row.fault[2] if row.fault else None
    texts = [row.line] if row.line else []
    texts += [os.strerror(number)] if number and number > 0 else []
    deadline = time.monotonic() + STUCK_SECONDS
    hit_at = None
    while True:
        now = time.monotonic()
        lines = scene.lines(script, start)
        has_ended = process.poll() is not None
        said = [line for line in lines if texts and all(t in line for t in texts)]
        if has_ended:
            return f"ended {process.returncode}", (said or lines or [""])[-1]
        if disturbance.num_hits:
            hit_at = hit_at or now
        # A program says why it ends before it ends.
        if said and row.outcome != "ended":
            time.sleep(_REPORTED_SECONDS)
            return "said", said[0]
        patience = _SILENT_SECONDS if row.outcome == "silent" else _PATIENCE_SECONDS
        if hit_at and now > hit_at + patience:
            return ("said", said[0]) if said else ("silent", "")
        if now > deadline:
            raise LostError("was never hit")
        time.sleep(0.05)


def judge(row: Row, outcome: str, line: str) -> None:
    expected = {"ended": "ended 1"}.get(row.outcome, row.outcome)
    if outcome != expected:
        raise LostError(f"{outcome}, expected {row.outcome}: {line!r}")
    if row.line and row.line not in line:
        raise LostError(f"no {row.line!r} in {line!r}")
