"""Runs the units of systemd/ under a user manager of their own.

    python -m tests.user_manager

Needs root and systemd, which need not have started the machine: the manager runs in a
mount namespace with an empty /run. Kills and stops both programs, trains to the end,
starts the units again as after a reboot, and gives them a wrong setting. Two such
managers at once would share their control groups, and disturb each other.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from resnet50.config.toml_file import read_config
from resnet50.demo.pictures import make_images
from resnet50.handoff.progress import ProgressError, read_progress, to_step
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.units import FOLDER, PREPROCESSOR, RUN, TRAINER, make_home, without_gpu

_RUNTIME = Path("/run/user/0")
_MANAGER = "/lib/systemd/systemd"
_SECONDS = 240  # No step takes a third of this.
_EPOCHS, _BATCHES_PER_EPOCH = 20, 5
_TRAINER = TRAINER.replace("@", f"@{RUN}")


@contextlib.contextmanager
def user_manager(home: Path) -> Iterator[None]:
    """Runs a user manager for a home folder, for ``systemctl``."""
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    Path("/run/systemd/system").mkdir(parents=True)  # As if systemd ran the machine.
    _RUNTIME.mkdir(parents=True, mode=0o700)
    os.environ |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(_RUNTIME)}
    with (home / "manager.log").open("wb") as log:
        manager = subprocess.Popen([_MANAGER, "--user"], stdout=log, stderr=log)
    try:
        wait_until(lambda: (_RUNTIME / "systemd" / "private").exists())
        yield
    finally:
        manager.terminate()
        manager.wait()


def systemctl(*words: str) -> str:
    """Runs systemctl --user; returns what it prints."""
    result = subprocess.run(
        ["systemctl", "--user", *words], stdout=subprocess.PIPE, text=True, check=True
    )
    return result.stdout.strip()


def state(unit: str) -> str:
    """A unit's state, result, last exit status and number of restarts.

    systemd forgets the last two of a unit that has ended in order.
    """
    names = "ActiveState", "Result", "ExecMainStatus", "NRestarts"
    lines = systemctl("show", unit, *(f"--property={n}" for n in names)).splitlines()
    values = dict(line.split("=") for line in lines)
    return " ".join(values[name] for name in names)


def wait_until(is_done: Callable[[], bool]) -> None:
    """Polls; fails after a time."""
    deadline = time.monotonic() + _SECONDS
    while not is_done():
        assert time.monotonic() < deadline, "this does not happen"
        time.sleep(0.1)


def expect(unit: str, wanted: str) -> None:
    """Waits for a unit's state, and says so."""
    try:
        wait_until(lambda: state(unit) == wanted)
    except AssertionError:
        sys.exit(f"{unit}: {state(unit)} (expected {wanted})")
    print(f"{unit}: {wanted}", flush=True)


def run(home: Path, images: Path) -> None:
    """Goes through all that the units are for; an exception says what failed."""
    project = make_home(home, images, train={"epochs": _EPOCHS})
    config = read_config(project / "config.txt")
    buffer, runs = config.train.buffer_folder, config.train.saved_models_folder
    units = home / ".config" / "systemd" / "user"
    units.mkdir(parents=True)
    for name in PREPROCESSOR, TRAINER:
        # Nobody wants to wait for half a minute here.
        text = without_gpu((FOLDER / name).read_text())
        (units / name).write_text(text.replace("[Install]", "RestartSec=1s\n[Install]"))

    def step() -> int:
        with contextlib.suppress(ProgressError):
            end = _EPOCHS * _BATCHES_PER_EPOCH
            return read_progress(buffer, _BATCHES_PER_EPOCH, end)
        return -1

    def train_on() -> None:
        before = step()
        wait_until(lambda: step() >= before + 2)

    with user_manager(home):
        print("-- started: the trainer's unit also starts the other one")
        systemctl("start", _TRAINER)
        train_on()
        print("-- killed: started again, and resumed")
        for unit in _TRAINER, PREPROCESSOR:
            systemctl("kill", "--kill-who=main", "--signal=KILL", unit)
            expect(unit, "active success 0 1")
        train_on()
        print("-- stopped: a checkpoint is saved, nothing is started again")
        systemctl("stop", _TRAINER, PREPROCESSOR)
        for unit in _TRAINER, PREPROCESSOR:
            expect(unit, "inactive success 0 0")
        newest = list_checkpoints(runs / RUN)[-1].position
        assert to_step(newest, _BATCHES_PER_EPOCH) == step()
        print("-- started again: trained to the end; then once more, as by a reboot")
        for _ in range(2):
            systemctl("start", _TRAINER)
            expect(_TRAINER, "inactive success 0 0")
            expect(PREPROCESSOR, "inactive success 0 0")
        assert list_checkpoints(runs / RUN)[-1].position == (_EPOCHS, 0)
        print("-- a wrong setting: not started again")
        with (project / "config.txt").open("a") as file:
            file.write("\nno_such_key = 1\n")
        systemctl("start", _TRAINER)
        expect(_TRAINER, "failed exit-code 1 0")
        expect(PREPROCESSOR, "failed exit-code 1 0")


def main() -> None:
    """Starts itself again in a mount namespace, and runs there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    if not parser.parse_args().inside:
        words = [sys.executable, "-m", "tests.user_manager", "--inside"]
        sys.exit(subprocess.run(["unshare", "--mount", *words]).returncode)
    with tempfile.TemporaryDirectory(prefix="units-") as folder:
        images = Path(folder) / "images"
        make_images(images / "train", 2, 1, with_odd_files=True)
        run(Path(folder) / "home", images)
    print("the units do what docs/programs.md says")


if __name__ == "__main__":
    main()
