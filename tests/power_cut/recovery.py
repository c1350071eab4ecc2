"""Puts a state on a disk, starts the programs as a user would, and judges the result."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from resnet50.handoff.progress import Position
from resnet50.reports.tables import EVALUATION_FILE, METRICS_FILE, read_table
from resnet50.training.checkpoint_folders import checkpoint_path, list_checkpoints
from tests.power_cut import scenario
from tests.power_cut.disk import State
from tests.power_cut.states import Promises
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


class FailedRecoveryError(Exception):
    """A program has failed, or its result is wrong."""


class _Program:
    """A program that a server runs in a fork, or that runs as a process of its own."""

    def __init__(self, names: list[str], *, is_forked: bool):
        """Starts a server for some programs, if ``is_forked``."""
        self._is_forked = is_forked
        self._server = None
        if is_forked:
            self._server = self._popen("--serve", *names, pipe=subprocess.PIPE)

    @staticmethod
    def _popen(*words: str, pipe=None, output=None) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.power_cut.program", *words],
            cwd=PROJECT,
            stdin=pipe,
            stdout=pipe or output,
            stderr=output,
            bufsize=0,
        )

    def start(self, words: list[str], log: Path) -> None:
        """Starts the program that is the first word."""
        self.log, (self.name, *flags) = log, words
        if not self._is_forked:
            with log.open("wb") as file:
                self._process = self._popen(*words, output=file)
            return
        log.write_bytes(b"")
        request = json.dumps([self.name, flags, str(log)]) + "\n"
        self._server.stdin.write(request.encode())
        self._pid = int(self._server.stdout.readline())
        self._status = None

    def poll(self, seconds: float = 0.0) -> int | None:
        """Waits for the program's end; returns its status, or None."""
        if not self._is_forked:
            try:
                return self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        if self._status is None:
            if select.select([self._server.stdout], [], [], seconds)[0]:
                self._status = int(self._server.stdout.readline())
        return self._status

    def finish(self, seconds: float) -> None:
        """Waits for the end; raises FailedRecoveryError if it fails or hangs."""
        status = self.poll(seconds)
        if status is None:
            self.kill()
        text = self.log.read_text(errors="replace")
        if status != 0 or "Traceback" in text:
            what = "hangs" if status is None else f"ended with status {status}"
            tail = "\n".join(text.splitlines()[-12:])
            raise FailedRecoveryError(f"{self.name} {what}:\n{tail}")

    def kill(self) -> None:
        """Ends the program if it is running."""
        if self.poll() is not None:
            return
        if self._is_forked:
            os.kill(self._pid, signal.SIGKILL)
        else:
            self._process.kill()
        self.poll(_SECONDS)

    def close(self) -> None:
        """Ends the server."""
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()
            self._server.stdout.close()


class Machine:
    """A folder in which states are put, and the programs that start there."""

    def __init__(self, folder: Path, images: Path, *, is_forked: bool = True):
        """Makes the folder. ``is_forked``: see program.py; otherwise real processes."""
        self._folder = folder
        self._work = folder / "work"
        self._runs = self._work / "saved_models"
        folder.mkdir()
        seeds = scenario.SEEDS.items()
        self._configs = {n: scenario.write_config(folder, images, s) for n, s in seeds}
        start = {"is_forked": is_forked}
        self._preprocessor = _Program(["runtime_preprocessing"], **start)
        self._trainer = _Program(["train", "evaluate"], **start)

    def close(self) -> None:
        """Ends the servers."""
        self._preprocessor.close()
        self._trainer.close()

    def put(self, state: State) -> None:
        """Replaces what is on the disk."""
        if self._work.exists():
            shutil.rmtree(self._work)
        self._work.mkdir()
        for path, content in sorted(state.items()):
            if content is None:
                (self._work / path).mkdir()
            else:
                (self._work / path).write_bytes(content)

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

    def recover(
        self, state: State, promises: Promises, reference: dict[str, Result]
    ) -> None:
        """Starts what was running when the power was cut, until it ends.

        Raises:
            FailedRecoveryError: A program has failed, or its result is wrong.
        """
        self.put(state)
        saved = dict(promises.saved)
        if promises.phase == "evaluate":
            self._evaluate(promises.evaluated)
        elif promises.phase == "change":
            self._train("two", "new", saved.get("two"))
            self._require("two", reference["two"])
        else:
            self._train("one", "old", saved.get("one"))
        rows = reference["one"].evaluations
        if promises.phase != "evaluate":
            rows = rows[: len(promises.evaluated)]
        self._require("one", reference["one"]._replace(evaluations=rows))
        if promises.phase == "change":
            # The user goes back to the old settings.
            self.put(state)
            self._train("three", "old")
            self._require("three", reference["one"]._replace(evaluations=[]))

    def _require(self, run: str, expected: Result) -> None:
        found = result_of(self._runs / run)
        for name, theirs, ours in zip(Result._fields, expected, found):
            if theirs == ours:
                continue
            if name == "files":
                theirs, ours = sorted(theirs), sorted(ours)
            raise FailedRecoveryError(f"run {run}: {name}: {theirs} and {ours}")

    def _train(self, run: str, settings: str, announced: Position | None = None) -> None:
        """Trains a run to its end, from its newest checkpoint if it has one."""
        config, preprocessor, trainer = (
            self._configs[settings],
            self._preprocessor,
            self._trainer,
        )
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
            text = trainer.log.read_text(errors="replace")
            resumed = _RESUMED.search(text)
            start = Position(*map(int, resumed.groups())) if resumed else Position(0, 0)
            if announced and start < announced:
                raise FailedRecoveryError(
                    f"run {run}: resumed at {start}, but a checkpoint at {announced} "
                    "had been announced"
                )
            preprocessor.finish(_END_SECONDS)
        finally:
            preprocessor.kill()

    def _wait_for_buffer(self) -> None:
        """Waits until the preprocessor has seen the old progress, or has ended."""
        deadline = time.monotonic() + _SECONDS
        while self._preprocessor.poll(0.01) is None and time.monotonic() < deadline:
            if " take " in self._preprocessor.log.read_text(errors="replace"):
                return
        self._preprocessor.finish(0)

    def _evaluate(self, done: tuple[int, ...]) -> None:
        """Evaluates run one in both ways, or as far as that is not done."""
        for crops in sorted({1, 10} - set(done)):
            words = scenario.flags("evaluate", self._configs["old"], "one")
            log = self._folder / f"evaluate-{crops}.log"
            self._trainer.start([*words, f"--crops={crops}"], log)
            try:
                self._trainer.finish(_SECONDS)
            finally:
                self._trainer.kill()
