"""Runs the trials of ``training.trials``, each in a process of its own."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

from resnet50.checks.findings import OK, PROBLEM, WARNING, Finding

# XLA compiles a step for about a minute.
_TIMEOUT_SECONDS = 300

# TensorFlow's name of the error that a device's memory is full.
_FULL = "ResourceExhaustedError"


class Verdict(NamedTuple):
    """What a trial has shown."""

    what: str
    is_within: bool = True  # its bound


class CardTrial(NamedTuple):
    """A trial, and how to judge it."""

    title: str
    name: str  # of a function of training.trials
    arguments: dict
    judge: Callable[..., Verdict]  # takes the result of each run
    num_runs: int = 1
    # The first that fits into the card's memory is tried; the subject's has no others.
    batch_sizes: tuple[int, ...] = ()


class TrialOutcome(NamedTuple):
    """How the process of a trial ended."""

    result: dict | None
    failure: str = ""  # without a result, one line

    @property
    def is_full(self) -> bool:
        """Whether the device's memory was too small."""
        return self.failure.startswith(_FULL)


def run_trial(
    name: str, arguments: dict, timeout_seconds: float = _TIMEOUT_SECONDS
) -> TrialOutcome:
    """Runs a trial, which may crash or hang."""
    words = "-m", "resnet50.training.trials", name, json.dumps(arguments)
    try:
        child = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return TrialOutcome(None, f"not ready after {timeout_seconds:g} s")
    if child.returncode == 0:
        return TrialOutcome(json.loads(child.stdout.splitlines()[-1]))
    lines = [line.strip() for line in child.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else "no message"
    if child.returncode < 0:
        killer = signal.Signals(-child.returncode).name
        return TrialOutcome(None, f"killed by {killer}: {last}")
    return TrialOutcome(None, last)


def try_card(trial: CardTrial, run=run_trial) -> Finding:
    """Runs a trial, and judges its results or how it failed."""
    subject = trial.arguments["subject"]
    for size in trial.batch_sizes or (subject["batch_size"],):
        arguments = {**trial.arguments, "subject": {**subject, "batch_size": size}}
        outcomes = [run(trial.name, arguments) for _ in range(trial.num_runs)]
        failed = next((o for o in outcomes if o.result is None), None)
        title = f"{trial.title}, batches of {size}"
        if failed is None:
            verdict = trial.judge(*(o.result for o in outcomes))
            status = OK if verdict.is_within else PROBLEM
            return Finding(status, f"{title}: {verdict.what}")
        if not failed.is_full:
            return Finding(PROBLEM, f"{title}: {failed.failure}")
    return Finding(WARNING, f"{title}: too large for the card's memory")
