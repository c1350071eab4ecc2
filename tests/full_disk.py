"""Scenarios on a full disk; test_full_disk runs them where a tmpfs can be mounted.

unshare --user --map-root-user --mount python -m tests.full_disk buffer FOLDER
"""

import subprocess
import sys
import time
from pathlib import Path

from resnet50.demo.pictures import make_images
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.settings import PROJECT, write_small_config

SECONDS = 100


UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount() -> bool:
    """Whether this user may mount a tmpfs, in a namespace of its own."""
    trial = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(trial, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class Program:
    """A running script whose output can be searched while it runs."""

    def __init__(self, config: Path, script: str, *flags: str):
        self._log = config.parent / f"{script}.log"
        self._process = subprocess.Popen(
            [sys.executable, script, f"--config={config}", *flags],
            cwd=PROJECT,
            stdout=self._log.open("wb"),
            stderr=subprocess.STDOUT,
        )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in self.output:
            assert self._process.poll() is None, (
                f"ended without {text!r}:\n{self.output}"
            )
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.output}"
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        self.finish(130)

    def finish(self, status: int = 0) -> str:
        assert self._process.wait(SECONDS) == status, self.output
        assert "Traceback" not in self.output, self.output
        return self.output


def mount(folder: Path, megabytes: float) -> Path:
    """Mounts a tmpfs, which lives as long as the process's namespace."""
    folder.mkdir(parents=True)
    options = f"size={int(megabytes * 1024)}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    return folder


def fill(folder: Path) -> None:
    """Fills a disk with the file "ballast"."""
    with (folder / "ballast").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def wait_for_batches(preprocessor: Program, folder: Path, number: int) -> None:
    """Waits for a number of batches; the bar is shown too rarely for that."""
    deadline = time.monotonic() + SECONDS
    while len(list(folder.glob("images_*.npy"))) < number:
        assert time.monotonic() < deadline, preprocessor.output
        time.sleep(0.05)


def buffer(folder: Path, config: Path) -> None:
    """Another program fills the buffer's disk, and later frees it."""
    disk = mount(folder / "buffer", 4)
    preprocessor = Program(config, "runtime_preprocessing.py")
    wait_for_batches(preprocessor, disk, 6)
    fill(disk)
    refused = Program(config, "train.py", "--run_folder=run").finish(1)
    assert refused.endswith("No space left on device\n")
    (disk / "ballast").unlink()

    trainer = Program(config, "train.py", "--run_folder=run")
    while not (disk / "training_progress.txt").exists():
        time.sleep(0.05)
    message = "No space left on device; trying again every 0.2 s"
    while "waiting for the next batch" not in trainer.output:
        fill(disk)  # Again and again: the trainer's steps make room.
    assert message in preprocessor.output
    assert not list(disk.glob(".writing-*.npy.tmp")), list(disk.iterdir())
    (disk / "ballast").unlink()
    trainer.finish()
    output = preprocessor.finish()
    assert "batches are being created again" in output
    names = [c.path.name for c in list_checkpoints(folder / "saved_models/run")]
    assert names == ["0", "1"]


def container(folder: Path, config: Path) -> None:
    """With a /dev/shm as small as a container's, the program says what fits."""
    mount(folder / "buffer", 64)
    shipped = (PROJECT / "config.txt").read_text()
    images = shipped.replace('"imagenet/', f'"{folder}/images/')
    config.write_text(images.replace("sleep_time = 10", "sleep_time = 0.2"))
    output = Program(config, "runtime_preprocessing.py", "--batch_size=128")
    message = output.finish(1)
    assert "67.1 MB free, but two batches take 77.1 MB" in message, message
    preprocessor = Program(config, "runtime_preprocessing.py", "--batch_size=16")
    preprocessor.wait_for("1000 batches of 4.8 MB take 4.8 GB; only 13 fit")
    wait_for_batches(preprocessor, folder / "buffer", 13)
    preprocessor.stop()


def checkpoints(folder: Path, config: Path) -> None:
    """There is room for one checkpoint, then for none, then for all."""
    disk = mount(folder / "saved_models", 500)
    (disk / "reserved").write_bytes(bytes(200 * 2**20))
    preprocessor = Program(config, "runtime_preprocessing.py")
    trainer = Program(config, "train.py", "--run_folder=run")
    trainer.wait_for("a checkpoint takes 188 MB, 1 more fit")
    trainer.wait_for("saving a checkpoint failed, trying again later")
    # The training continues to its end, and then waits for room.
    run_folder = disk / "run"
    assert [c.path.name for c in list_checkpoints(run_folder)] == ["0"]
    (disk / "reserved").unlink()
    output = trainer.finish()
    assert "saving a checkpoint works again" in output
    assert output.count("saving a checkpoint failed") == 1
    assert [c.path.name for c in list_checkpoints(run_folder)] == ["0", "1"]
    assert not list(run_folder.glob(".writing-*")), list(run_folder.iterdir())
    preprocessor.finish()


def main() -> None:
    """Runs the scenario that the command line names."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    make_images(folder / "images" / "train", 16, 1, with_odd_files=False)
    config = write_small_config(folder, train={"batch_size": 4})
    {"buffer": buffer, "container": container, "checkpoints": checkpoints}[name](
        folder, config
    )
    print(f"{name}: as it should be")


if __name__ == "__main__":
    main()
