"""Disturbs the two scripts at random moments; the weights must not change.

    python -m tests.chaos --kills 100 --seed 0     # without the other ones
    python -m tests.chaos --kills 20 --stops 20 --clock_jumps 20 --hangups 20

Runs runtime_preprocessing.py and train.py on generated images, and disturbs either at
random moments, until the training ends:

    kill        SIGKILL, and a new start
    hangup      SIGHUP or SIGTERM, after which it must end in order, and a new start
    stop        SIGSTOP, of the program alone or with its workers, and later SIGCONT
    clock jump  its wall clock, and the times of its files, go an hour forth or back

Then every variable of the last checkpoint (weights, moving statistics, momentum) and
the losses in metrics.csv must be bitwise those of an undisturbed run. Nothing in the
output may have a negative duration. Every second training has only stops and clock
jumps; in these no program may say that the other one has ended. If a run ends before
all disturbances are done, another one starts.
"""

import argparse
import collections
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from resnet50.config.toml_file import read_config
from resnet50.dataset.listing import open_training_set
from resnet50.demo.pictures import make_images
from resnet50.handoff.progress import ProgressError, read_progress, to_step
from resnet50.reports.tables import METRICS_FILE, read_table
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.checkpoints import Variables, different_variables, read_variables
from tests.settings import PROJECT, write_small_config

PREPROCESSOR, TRAINER = "runtime_preprocessing.py", "train.py"

# The time between two kills; they hit TensorFlow's loading, which takes some seconds,
# training and saving.
_PAUSE_SECONDS = (0.2, 14.0)

# Of a stop.
_MIN_STOP_SECONDS = 0.5

# Kinds of disturbances after which both programs still run.
_GENTLE = ("stop", "clock jump")

_NEGATIVE = re.compile(r"-[0-9][0-9.,]* ?(s|min|h|images/s|batches/s|%)\b|-[0-9]+:")

# Two programs that make no step for so long hang, even on a busy machine.
_STUCK_SECONDS = 600

# How soon after the trainer the preprocessor must end.
_END_SECONDS = 20


class ChaosError(Exception):
    """A program has failed or hangs, or a result differs."""


def find_faketime() -> str:
    """The path of libfaketime; "" if it is not installed."""
    found = Path("/usr").glob("lib*/**/faketime/libfaketimeMT.so.1")
    return str(next(found, ""))


def _make_site(folder: Path) -> Path:
    """A folder for PYTHONPATH; its module avoids an error of libfaketime.

    In version 0.9.10, clock_nanosleep with an absolute time fails; time.sleep calls it.
    """
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(
        "import select, time\n"
        "time.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"
    )
    return site


class Program:
    """One of the two scripts, with the output of all its processes in one file."""

    def __init__(self, script: str, folder: Path, flags: list[str], faketime: str):
        """Takes libfaketime's path, or "" for the real clock."""
        self._words = [sys.executable, script, *flags]
        self.log = folder / f"{script}.log"
        self._file = self.log.open("ab")
        self._clock = folder / f"{script}.clock"
        self._hours = 0
        self._process: subprocess.Popen | None = None
        self._pids: list[int] = []
        self._environment = dict(os.environ)
        if faketime:
            self._write_clock()
            self._environment |= {
                "LD_PRELOAD": faketime,
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_NO_CACHE": "1",
                "PYTHONPATH": f"{_make_site(folder)}{os.pathsep}{PROJECT}",
            }

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._words,
            cwd=PROJECT,
            env=self._environment,
            stdout=self._file,
            stderr=self._file,
            start_new_session=True,
            # Under nohup it would be ignored.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        self._pids.append(self._process.pid)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self, number: signal.Signals) -> bool:
        """Ends it in order; whether it had loaded its modules and was not at its end.

        Before that, the signal kills it.
        """
        self._process.send_signal(number)
        try:
            status = self._process.wait(_STUCK_SECONDS)
        except subprocess.TimeoutExpired:
            raise ChaosError(
                f"{self._words[1]} does not end after {number.name}:\n{self._tail()}"
            ) from None
        if status not in (0, 130, -number):
            raise ChaosError(f"{self._words[1]}: status {status} after {number.name}")
        return status == 130

    def stop(self, seconds: float, *, with_workers: bool) -> None:
        """Stops it for some seconds, like Ctrl-Z and fg if with its workers."""
        send = os.killpg if with_workers else os.kill
        send(self._process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        send(self._process.pid, signal.SIGCONT)

    def jump(self, rng: random.Random) -> int:
        """Changes its clock; returns how many hours it is ahead of the real one."""
        self._hours = rng.choice([h for h in (-1, 0, 1) if h != self._hours])
        self._write_clock()
        return self._hours

    def _write_clock(self) -> None:
        temporary = self._clock.with_suffix(".new")
        temporary.write_text(f"{3600 * self._hours:+d}\n")
        temporary.replace(self._clock)

    def has_ended(self) -> bool:
        """Whether it has ended by itself; raises ChaosError if it has failed."""
        status = self._process.poll()
        if status in (None, 0):
            return status == 0
        raise ChaosError(
            f"{self._words[1]} ended with status {status}:\n{self._tail()}"
        )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def _tail(self) -> str:
        return "\n".join(self.output().splitlines()[-15:])

    def wait(self, seconds: float) -> None:
        self._process.wait(seconds)
        self.has_ended()

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        self._file.close()
        for pid in self._pids:  # What libfaketime leaves behind.
            for name in "faketime_shm", "sem.faketime_sem":
                Path(f"/dev/shm/{name}_{pid}").unlink(missing_ok=True)


class Run:
    """One training, with or without disturbances, in its own folder."""

    def __init__(self, folder: Path, config_path: Path, faketime: str):
        self.config = read_config(config_path)
        self.run_folder = self.config.train.saved_models_folder / "run"
        flag = f"--config={config_path}"
        self.programs = {
            PREPROCESSOR: Program(PREPROCESSOR, folder, [flag], faketime),
            TRAINER: Program(
                TRAINER,
                folder,
                [flag, "--run_folder=run", "--resume_or_start"],
                faketime,
            ),
        }
        dataset = open_training_set(self.config.dataset, None)
        self._batches = dataset.batches_per_epoch(self.config.train.batch_size)
        self._num_steps = self._batches * self.config.train.epochs
        self.counts = collections.Counter()
        self._step_at_start: dict[str, int] = {}

    def _step(self) -> int:
        try:
            folder = self.config.train.buffer_folder
            return read_progress(folder, self._batches, self._num_steps)
        except ProgressError:
            return -1

    def _start(self, script: str) -> None:
        found = list_checkpoints(self.run_folder) if script == TRAINER else []
        if found:
            kind = "after" if found[-1].is_after_epoch else "inside"
            self.counts[f"resumed from a checkpoint {kind} an epoch"] += 1
        self.programs[script].start()
        self._step_at_start[script] = self._step()

    def _disturb(self, kind: str, longest_stop: float, rng: random.Random) -> None:
        script = rng.choice([PREPROCESSOR, TRAINER])
        program = self.programs[script]
        if kind == "kill":
            self._kill(script)
            self._start(script)
        elif kind == "hangup":
            self._end(script, rng.choice([signal.SIGHUP, signal.SIGTERM]))
            self._start(script)
        elif kind == "stop":
            seconds = rng.uniform(_MIN_STOP_SECONDS, longest_stop)
            program.stop(seconds, with_workers=rng.random() < 0.5)
            self.counts[f"{script} stopped"] += 1
            self.counts["seconds stopped"] += round(seconds)
        else:
            hours = program.jump(rng)
            self.counts[f"{script}: clock set to {hours:+d} h"] += 1
            at = time.time() + 3600 * hours
            for path in self.config.train.buffer_folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path, (at, at))

    def _end(self, script: str, number: signal.Signals) -> None:
        is_in_order = self.programs[script].end(number)
        self.counts[f"{script} ended by {number.name}"] += 1
        found = list_checkpoints(self.run_folder)
        if script == TRAINER and is_in_order and found:
            step = to_step(found[-1].position, self._batches)
            if step != self._step():
                raise ChaosError(f"saved at step {step}, trained to {self._step()}")
            self.counts["checkpoint saved at the last step after a hangup"] += 1

    def _kill(self, script: str) -> None:
        has_moved = self._step() != self._step_at_start[script]
        self.counts[f"{script} killed"] += 1
        if script == TRAINER:
            moment = "while training" if has_moved else "before its first step"
            self.counts[f"{script} killed {moment}"] += 1
        self.programs[script].kill()
        if list(self.run_folder.glob(".writing-*")):
            self.counts["killed while a checkpoint was being written"] += 1
        if list(self.config.train.buffer_folder.glob(".writing-*")):
            self.counts["killed while a file of the buffer was being written"] += 1

    def train(self, kinds: list[str], longest_stop: float, rng: random.Random) -> int:
        """Runs the training to its end; returns how many of the disturbances it did."""
        scripts = [PREPROCESSOR, TRAINER]
        rng.shuffle(scripts)
        for script in scripts:
            self._start(script)
        is_gentle = set(kinds) <= set(_GENTLE)
        num_done, last_step, moved_at = 0, -1, time.monotonic()
        due_at = time.monotonic() + rng.uniform(*_PAUSE_SECONDS)
        while not self.programs[TRAINER].has_ended():
            self.programs[PREPROCESSOR].has_ended()
            now = time.monotonic()
            # Gently only while both run: one may say that the other is not there yet.
            is_due = now > due_at and (self._step() >= 1 or not is_gentle)
            if num_done < len(kinds) and is_due:
                self._disturb(kinds[num_done], longest_stop, rng)
                num_done += 1
                due_at = time.monotonic() + rng.uniform(*_PAUSE_SECONDS)
                moved_at = time.monotonic()
            if self._step() != last_step:
                last_step, moved_at = self._step(), time.monotonic()
            if time.monotonic() - moved_at > _STUCK_SECONDS:
                raise ChaosError(f"no step since step {last_step}; see the logs")
            time.sleep(0.02)
        self._end_preprocessor()
        self._require_true_output(is_gentle)
        return num_done

    def _require_true_output(self, is_gentle: bool) -> None:
        for program in self.programs.values():
            output = program.output()
            wrong = ["Traceback"]
            if is_gentle:
                wrong += ["is not running", "has gone"]
            for line in output.splitlines():
                if any(text in line for text in wrong) or _NEGATIVE.search(line):
                    raise ChaosError(f"{program.log}: {line}")
        rows = read_table(self.run_folder / METRICS_FILE)
        for column in ("images_per_second", "waiting", "saving", "reading", "seconds"):
            if any(float(row[column]) < 0 for row in rows):
                raise ChaosError(f"{column} is negative in {METRICS_FILE}")

    def _end_preprocessor(self) -> None:
        """Waits for its end, or kills it if it was started after the trainer's end.

        Then it cannot know whether the training has ended or a new one will begin.
        """
        program = self.programs[PREPROCESSOR]
        try:
            program.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            if "says that the training has finished" not in program.output():
                raise ChaosError("the preprocessor does not end") from None
            self.counts["preprocessor started again after the training's end"] += 1
            program.kill()

    def result(self) -> tuple[Variables, list[tuple[str, ...]]]:
        """All variables of the last checkpoint, and the losses of each epoch."""
        last = list_checkpoints(self.run_folder)[-1]
        if last.position != (self.config.train.epochs, 0):
            raise ChaosError(f"the last checkpoint is of {last.position}")
        rows = read_table(self.run_folder / METRICS_FILE)
        columns = ("epoch", "steps", "loss", "l2_loss", "top1", "top5", "learning_rate")
        metrics = [tuple(row[column] for column in columns) for row in rows]
        return read_variables(last.path), metrics

    def close(self) -> None:
        for program in self.programs.values():
            program.close()


def compare(reference, found) -> int:
    """Returns the number of variables; raises ChaosError if one differs."""
    (values, rows), (found_values, found_rows) = reference, found
    different = different_variables(values, found_values)
    if different:
        raise ChaosError(f"{len(different)} variables differ, such as {different[0]}")
    if rows != found_rows:
        raise ChaosError(f"metrics.csv differs: {rows} and {found_rows}")
    return len(values)


def run(
    folder: Path,
    wanted: dict[str, int],
    seed: int,
    epochs: int,
    longest_stop: float = 12.0,
) -> collections.Counter:
    """Makes the images and trains, first undisturbed, then until all is done.

    Args:
        folder: For all files.
        wanted: How many disturbances of each kind.
        seed: Of the images and of what happens when.
        epochs: Of each training.
        longest_stop: Of a stop, in seconds.

    Returns:
        How often each event happened.

    Raises:
        ChaosError: A program has failed or hangs, or a result differs.
    """
    faketime = find_faketime() if wanted.get("clock jump") else ""
    if wanted.get("clock jump") and not faketime:
        raise ChaosError("clock jumps need libfaketime (apt install faketime)")
    make_images(folder / "images" / "train", 6, seed, with_odd_files=True)
    total = collections.Counter()
    rng = random.Random(seed)
    left = [kind for kind, number in wanted.items() for _ in range(number)]
    rng.shuffle(left)
    reference = None
    while reference is None or left:
        kinds, name = [], "undisturbed run"
        if reference is not None:
            name = f"disturbed run {total['trainings'] + 1}"
            kinds = left
            if total["trainings"] % 2:
                kinds = [kind for kind in left if kind in _GENTLE] or left
        run_folder = folder / name.replace(" ", "-")
        run_folder.mkdir()
        (run_folder / "images").symlink_to(folder / "images")
        settings = {"epochs": epochs, "checkpoint_minutes": 0.03, "keep_checkpoints": 2}
        workers = {"num_workers": rng.choice([1, 2])}
        training = Run(
            run_folder,
            write_small_config(
                run_folder, train=settings, runtime_preprocessing=workers
            ),
            faketime if kinds else "",
        )
        started = time.monotonic()
        try:
            num_done = training.train(kinds, longest_stop, rng)
            result = training.result()
        finally:
            training.close()
        seconds = time.monotonic() - started
        if reference is None:
            reference = result
            print(f"{name}: {epochs} epochs in {seconds:.0f} s", flush=True)
            continue
        num_equal = compare(reference, result)
        done = collections.Counter(f"{kind}s" for kind in kinds[:num_done])
        for kind in kinds[:num_done]:
            left.remove(kind)
        total.update(training.counts)
        total.update(done, trainings=1, variables=num_equal)
        what = ", ".join(f"{number} {kind}" for kind, number in sorted(done.items()))
        print(
            f"{name}: {what} in {seconds:.0f} s, {num_equal} variables and {epochs} "
            "rows bitwise equal",
            flush=True,
        )
        if not done:
            raise ChaosError("the training ends before anything happens; more --epochs")
    return total


def main() -> None:
    """Reads the command line and prints the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for kind in ("kill", "hangup", "stop", "clock jump"):
        flag = f"--{kind.replace(' ', '_')}s"
        parser.add_argument(flag, type=int, default=0, dest=kind, metavar="N")
    parser.add_argument(
        "--longest_stop",
        type=float,
        default=12.0,
        metavar="SECONDS",
        help="default: 12",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20, help="of each training")
    args = vars(parser.parse_args())
    seed, epochs, longest = (args.pop(k) for k in ("seed", "epochs", "longest_stop"))
    if not any(args.values()):
        args["kill"] = 100
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        total = run(Path(folder), args, seed, epochs, longest)
    print(f"\nseed {seed}, {epochs} epochs a training:")
    for name, count in sorted(total.items()):
        print(f"{count:7}  {name}")
    print("every run ended with bitwise the weights of the undisturbed run")


if __name__ == "__main__":
    main()
