"""Runs the containers of container/compose.yaml on generated pictures, on the CPU.

    python -m tests.container

Needs Docker with Compose 2.24 or newer, or another engine with Docker's interface, and
root, whose files the containers' user gets. Builds the image without CUDA. Kills and
stops the programs, trains to the end, and demands that a training without a GPU is
refused. Takes two minutes besides the image, whose packages are 2.5 GB.
"""

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from resnet50.demo.pictures import make_images
from resnet50.handoff import locks
from resnet50.handoff.progress import ProgressError, read_progress, to_step
from resnet50.reports.starts import STARTS_FILE
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.settings import PROJECT, write_small_config
from tests.user_manager import wait_until

COMPOSE = PROJECT / "container" / "compose.yaml"
SERVICES = {"preprocessing": locks.PREPROCESSOR, "training": locks.TRAINER}

_USER = 12345  # has no name and no home, on the host or in the image
_RUN = "mytestrun"
_EPOCHS, _BATCHES_PER_EPOCH = 12, 10

# Replaces what needs a GPU.
_WITHOUT_GPU = f"""
services:
  training:
    deploy: !reset null
    command: !override [python3, train.py, --run_folder={_RUN}, --resume_or_start]
"""
_GPU_WANTED = """
services:
  training:
    deploy: !reset null
"""


class Containers:
    """The two containers, and the host's folders that they see."""

    def __init__(self, command: list[str], folder: Path):
        """Takes the words of ``docker compose``, and an empty folder."""
        self.folder = folder
        self.buffer, self.run_folder = folder / "buffer", folder / "runs" / _RUN
        for name in "buffer", "runs":
            (folder / name).mkdir()
        make_images(folder / "images" / "train", 4, 1, with_odd_files=True)
        images = {key: f"imagenet/{part}" for key, part in _PARTS.items()}
        train = {"epochs": _EPOCHS, "keep_checkpoints": 2}
        write_small_config(folder, dataset=images, train=train)
        (folder / ".env").write_text(
            f"USER_ID={_USER}\nGROUP_ID={_USER}\nIMAGES={folder}/images\n"
            f"CONFIG={folder}/config.txt\nBUFFER={self.buffer}\nRUNS={folder}/runs\n"
        )
        folder.chmod(0o755)
        for path in folder.rglob("*"):
            os.chown(path, _USER, _USER)
        (folder / "cpu.yaml").write_text(_WITHOUT_GPU)
        (folder / "gpu.yaml").write_text(_GPU_WANTED)
        self._command = [*command, "--env-file", folder / ".env", "--file", COMPOSE]

    def compose(
        self, *words: str, change: str = "cpu.yaml", status: int | None = 0
    ) -> str:
        """Runs docker compose, which must end with a status, if given; its output."""
        result = subprocess.run(
            [*self._command, "--file", self.folder / change, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert status in (None, result.returncode), (
            f"{shlex.join(words)}: {result.stdout}"
        )
        return result.stdout

    def states(self) -> dict[str, tuple[str, int]]:
        """The state of each container, such as "exited", and its exit status."""
        lines = self.compose("ps", "--all", "--format=json").splitlines()
        found = map(json.loads, (line for line in lines if line.startswith("{")))
        return {c["Service"]: (c["State"], c["ExitCode"]) for c in found}

    def step(self) -> int:
        """The trainer's position; -1 if there is none."""
        with contextlib.suppress(ProgressError):
            end = _EPOCHS * _BATCHES_PER_EPOCH
            return read_progress(self.buffer, _BATCHES_PER_EPOCH, end)
        return -1

    def train_on(self) -> None:
        """Waits for two more steps."""
        before = self.step()
        wait_until(lambda: self.step() >= before + 2)

    def kill(self, service: str) -> None:
        """Kills a program as the kernel does for lack of memory, and waits for it."""
        role = SERVICES[service]
        process = locks.owner(self.buffer, role).split()[0]
        before = (self.buffer / f"{role}.lock").stat().st_mtime_ns
        # The container ends before this command can.
        self.compose("exec", "--detach", service, "sh", "-c", f"kill -9 {process}")
        wait_until(
            lambda: (
                (self.buffer / f"{role}.lock").stat().st_mtime_ns != before
                and locks.is_alive(self.buffer, role)
            )
        )

    def num_starts(self) -> int:
        """How often the trainer has started."""
        return len((self.run_folder / STARTS_FILE).read_text().splitlines())

    def check_health(self, service: str, status: int = 0) -> str:
        """Runs the health check of a container, which must have a status."""
        words = json.loads(self.compose("config", "--format=json"))
        test = words["services"][service]["healthcheck"]["test"]
        assert test[0] == "CMD"
        return self.compose("exec", "-T", service, *test[1:], status=status)


_PARTS = {"training_images": "train", "validation_images": "val"}


def go_through_all(containers: Containers) -> None:
    """Raises AssertionError at the first thing that does not happen."""
    print("-- up: both programs start and make progress", flush=True)
    containers.compose("up", "--detach", "--no-build")
    containers.train_on()
    for service in SERVICES:
        print(containers.check_health(service).strip())
    print("-- killed: started again, and resumed", flush=True)
    for service in SERVICES:
        containers.kill(service)
    containers.train_on()
    assert containers.num_starts() == 2
    print("-- stopped: a checkpoint is saved, nothing is started again", flush=True)
    containers.compose("stop", "training")
    assert containers.states()["training"] == ("exited", 130)
    newest = list_checkpoints(containers.run_folder)[-1].position
    assert to_step(newest, _BATCHES_PER_EPOCH) == containers.step() > 0
    words = ["exec", "-T", "preprocessing", "python3", "-m", "resnet50", "status"]
    output = containers.compose(*words, "--check", status=1)
    assert "train.py does not run" in output, output
    containers.compose("stop")
    assert containers.states()["preprocessing"] == ("exited", 130)
    print("-- up again: trained to the end; then once more, as after a reboot")
    for _ in range(2):
        containers.compose("up", "--detach", "--no-build")
        wait_until(lambda: set(containers.states().values()) == {("exited", 0)})
    assert list_checkpoints(containers.run_folder)[-1].position == (_EPOCHS, 0)
    owners = {path.stat().st_uid for path in containers.folder.glob("[br]u*/**/*")}
    assert owners == {_USER}, owners
    print("-- without a GPU the trainer as shipped refuses", flush=True)
    words = ["run", "--rm", "training"]
    output = containers.compose(*words, change="gpu.yaml", status=None)
    assert "--gpus=0: TensorFlow finds no GPU" in output, output


def main() -> None:
    """Builds the image, and runs the containers in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--compose",
        default="docker compose",
        help="the command of Docker Compose; default: docker compose",
    )
    parser.add_argument(
        "--no_build", action="store_true", help="the image is there already"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="container-") as folder:
        containers = Containers(shlex.split(args.compose), Path(folder))
        if not args.no_build:
            containers.compose("build", "--build-arg=EXTRAS=")
        try:
            go_through_all(containers)
        except AssertionError:
            print(containers.states(), containers.compose("logs", "--tail=20"))
            raise
        finally:
            containers.compose("down")
    print("the containers do what docs/container.md says")


if __name__ == "__main__":
    main()
