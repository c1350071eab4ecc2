"""Puts a state on a disk, starts the programs as a user would, judges the result."""

import json
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from resnet50.handoff.progress import Position
from resnet50.reports.tables import (
    EVALUATION_FILE,
    METRICS_FILE,
    TableError,
    read_table,
)
from resnet50.training.checkpoint_folders import checkpoint_path, list_checkpoints
from tests.power_cut import scenario
from tests.power_cut.disk import State
from tests.power_cut.states import Cut
from tests.settings import PROJECT

_SECONDS = 60  # No recovery takes a tenth of this.
_END_SECONDS = 20  # How soon after the trainer the preprocessor must end.

_RESUMED = re.compile(r"resumed; next is epoch ([0-9]+), batch ([0-9]+)")
# Columns of metrics.csv that are not times.
_EXACT = ("epoch", "steps", "loss", "l2_loss", "top1", "top5", "learning_rate")


class Result(NamedTuple):
    """What a finished run must have, to the last bit."""

    files: dict[str, bytes]  # of the last checkpoint, but for its description
    metrics: list[tuple[str, ...]]
    evaluations: list[dict[str, str]]


def result_of(run_folder: Path) -> Result:
    """Reads a finished run."""
    last = checkpoint_path(run_folder, Position(scenario.EPOCHS, 0))
    rows = read_table(run_folder / METRICS_FILE)
    return Result(
        {path.name: path.read_bytes() for path in last.glob("variables*")},
        [tuple(row[column] for column in _EXACT) for row in rows],
        read_table(run_folder / EVALUATION_FILE),
    )


def write_state(state: State, folder: Path) -> None:
    """Writes a state into a new folder."""
    folder.mkdir(parents=True)
    for path, content in sorted(state.items()):
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


class FailedRecoveryError(Exception):
    """A program has failed, or its result is wrong."""


class _Program:
    """A program that runs as a process of its own, as for a user."""

    def __init__(self, *names: str):
        """Takes the names of the programs that will be started."""
        self._names = names

    @staticmethod
    def _popen(*words: str, **pipes) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.power_cut.program", *words],
            cwd=PROJECT,
            **pipes,
        )

    def start(self, words: list[str], log: Path) -> None:
        """Starts the program that is the first word."""
        self.log, self.name = log, words[0]
        with log.open("wb") as file:
            self._process = self._popen(*words, stdout=file, stderr=file)

    def poll(self, seconds: float = 0.0) -> int | None:
        """Waits for the program's end; returns its status, or None."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def finish(self, seconds: float) -> None:
        """Waits for the end; raises FailedRecoveryError if it fails or hangs."""
        status = self.poll(seconds)
        self.kill()
        text = self.log.read_text(errors="replace")
        if status != 0 or "Traceback" in text:
            what = "hangs" if status is None else f"ended with status {status}"
            tail = "\n".join(text.splitlines()[-12:])
            raise FailedRecoveryError(f"{self.name} {what}:\n{tail}")

    def kill(self) -> None:
        """Ends the program if it is running."""
        if self.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Ends everything."""


class _ServedProgram(_Program):
    """A program that a server runs, see program.py: ten times faster."""

    _process = None

    def start(self, words: list[str], log: Path) -> None:
        if self._process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
            with (log.parent / "server.log").open("ab") as file:
                self._process = self._popen(
                    "--serve", *self._names, **pipes, stderr=file
                )
        self.log, (self.name, *flags), self._status = log, words, None
        log.write_bytes(b"")
        request = json.dumps([self.name, flags, str(log)]) + "\n"
        self._process.stdin.write(request.encode())

    def poll(self, seconds: float = 0.0) -> int | None:
        if self._process is None:
            return self._status
        answer = self._process.stdout
        if self._status is None and select.select([answer], [], [], seconds)[0]:
            self._status = int(answer.readline() or -1)  # -1: the server has crashed
        return self._status

    def kill(self) -> None:
        if self.poll() in (None, -1) and self._process is not None:
            self._process.kill()
            self.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
            self._process = None


class Machine:
    """A folder in which states are put, and the programs that start there."""

    def __init__(self, folder: Path, images: Path, *, is_served: bool):
        """Makes the folder; if not ``is_served``, every program is a new process."""
        self._folder = folder
        self._work = folder / "work"
        self._runs = self._work / "saved_models"
        folder.mkdir()
        seeds = scenario.SEEDS.items()
        self._configs = {
            n: scenario.write_config(folder, images, s, 0) for n, s in seeds
        }
        kind = _ServedProgram if is_served else _Program
        self._preprocessor = kind("runtime_preprocessing")
        self._trainer = kind("train", "evaluate")

    def close(self) -> None:
        """Ends the servers."""
        self._preprocessor.close()
        self._trainer.close()

    def put(self, state: State) -> None:
        """Replaces what is on the disk."""
        shutil.rmtree(self._work, ignore_errors=True)
        write_state(state, self._work)

    def reference(self) -> dict[str, Result]:
        """The results of the undisturbed runs "one" and "two"."""
        found = {}
        for run, settings in ("one", "old"), ("two", "new"):
            self.put({})
            self._train(run, settings)
            if run == "one":
                self._evaluate(())
            found[run] = result_of(self._runs / run)
        return found

    def recover(self, cut: Cut, reference: dict[str, Result]) -> None:
        """Starts what the user starts after a power cut, until it ends.

        After a cut in "change", that is run "two" again, or, if the user goes back to
        the old settings, run "three", which must become like "one".

        Raises:
            FailedRecoveryError: A program has failed, or its result is wrong.
        """
        self.put(cut.state)
        saved, evaluated = dict(cut.promises.saved), cut.promises.evaluated
        one = reference["one"]
        if cut.trial == "three":
            self._train("three", "old")
            self._require("three", one._replace(evaluations=[]))
            return
        if cut.trial == "evaluate":
            self._evaluate(evaluated)
        else:
            one = one._replace(evaluations=one.evaluations[: len(evaluated)])
            start = self._train(cut.trial, "old" if cut.trial == "one" else "new")
        if cut.trial == "two":
            self._require("two", reference["two"])
        self._require("one", one)
        announced = saved.get(cut.trial)
        if announced and start < announced:
            raise FailedRecoveryError(
                f"run {cut.trial}: resumed at {start}, but a checkpoint at {announced} "
                "had been announced"
            )

    def _require(self, run: str, expected: Result) -> None:
        try:
            found = result_of(self._runs / run)
        except (TableError, KeyError) as error:
            raise FailedRecoveryError(f"run {run}: {error}") from None
        for name, theirs, ours in zip(Result._fields, expected, found):
            if theirs == ours:
                continue
            if name == "files":
                theirs, ours = sorted(theirs), sorted(ours)
            raise FailedRecoveryError(f"run {run}: {name}: {theirs} and {ours}")

    def _train(self, run: str, settings: str) -> Position:
        """Trains a run to its end; returns where it started.

        That is its newest checkpoint, if it has one.
        """
        preprocessor, trainer = self._preprocessor, self._trainer
        config = self._configs[settings]
        words = scenario.flags("runtime_preprocessing", config)
        preprocessor.start(words, self._folder / f"{run}-preprocessor.log")
        try:
            self._wait_for_buffer()
            words = scenario.flags("train", config, run)
            if list_checkpoints(self._runs / run):
                words.append("--resume")
            trainer.start(words, self._folder / f"{run}-trainer.log")
            try:
                trainer.finish(_SECONDS)
            finally:
                trainer.kill()
            resumed = _RESUMED.search(trainer.log.read_text(errors="replace"))
            preprocessor.finish(_END_SECONDS)
        finally:
            preprocessor.kill()
        return Position(*map(int, resumed.groups())) if resumed else Position(0, 0)

    def _wait_for_buffer(self) -> None:
        """Waits until the preprocessor has seen the old progress, or has ended."""
        deadline = time.monotonic() + _SECONDS
        while self._preprocessor.poll(0.01) is None and time.monotonic() < deadline:
            if "batches/s" in self._preprocessor.log.read_text(errors="replace"):
                return
        self._preprocessor.finish(0)

    def _evaluate(self, done: tuple[int, ...]) -> None:
        """Evaluates run one in both ways, or as far as that is not done."""
        for crops in sorted(set(scenario.CROPS) - set(done)):
            words = scenario.flags("evaluate", self._configs["old"], "one")
            log = self._folder / f"evaluate-{crops}.log"
            self._trainer.start([*words, f"--crops={crops}"], log)
            try:
                self._trainer.finish(_SECONDS)
            finally:
                self._trainer.kill()
