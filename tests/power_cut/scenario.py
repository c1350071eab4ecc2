"""What is recorded: a user's session with the programs.

    start      the preprocessor and a new run "one"; Ctrl-C inside epoch 0
    resume     the trainer with --resume, to the end; the preprocessor ends too
    evaluate   twice: two rows of evaluation.csv
    refill     the preprocessor alone, with the old settings, until the buffer is full
    change     another seed: the preprocessor replaces the batches; a new run "two"

The programs write below ``work``; their output is in ``logs``.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from resnet50.demo.pictures import make_images
from tests.settings import PROJECT, write_small_config

EPOCHS, BATCHES_PER_EPOCH = 2, 3  # of 10 images
CROPS = (1, 10)  # of the two evaluations
SECONDS = 120
SEEDS = {"old": 0, "new": 1}

_STOP_AFTER = "saved one 0 1\n"


def prepare(folder: Path) -> None:
    """Makes the images and a config.txt for each seed."""
    (folder / "work").mkdir()
    (folder / "logs").mkdir()
    for part, seed in ("train", 1), ("val", 2):
        images = folder / "images" / part
        make_images(images, 1, seed, with_odd_files=part == "train")
        # Images that have just changed are not remembered in an index.
        for path in [images, *images.rglob("*")]:
            os.utime(path, (1e9, 1e9))


def write_config(
    folder: Path, images: Path, seed: int, checkpoint_minutes: float = 1e-6
) -> Path:
    """Writes the config.txt of a seed; returns its path.

    By default a checkpoint follows each step. A recovery is faster without them.
    """
    path = write_small_config(
        folder,
        dataset={
            "training_images": str(images / "train"),
            "validation_images": str(images / "val"),
        },
        train={
            "seed": seed,
            "epochs": EPOCHS,
            "batch_size": 3,
            "buffer_size": 3,
            "buffer_folder": "work/buffer",
            "saved_models_folder": "work/saved_models",
            "checkpoint_minutes": checkpoint_minutes,
            "keep_checkpoints": 1,
        },
        runtime_preprocessing={"sleep_time": 0.05},
    )
    return path.rename(folder / f"seed-{seed}.txt")


def flags(program: str, config: Path, run: str = "") -> list[str]:
    """The words of a program's command line."""
    words = [program, f"--config={config}"]
    if program == "train":
        words.append(f"--run_folder={run}")
    if program == "evaluate":
        words += [f"--run_folder={run}", "--epoch_start=1"]
    return words


def _start(folder: Path, log: str, *words: str) -> subprocess.Popen:
    with (folder / "logs" / log).open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.power_cut.program", *words],
            cwd=PROJECT,
            stdout=file,
            stderr=file,
        )


def _finish(process: subprocess.Popen, status: int = 0) -> None:
    found = process.wait(SECONDS)
    if found != status:
        raise SystemExit(f"{process.args[3]} ended with status {found}")


def _wait_for(is_there: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_there():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.005)


def _begin(folder: Path, phase: str) -> None:
    with (folder / "logs" / "phases").open("a") as file:
        file.write(f"phase {phase}\n")


def play(folder: Path) -> None:
    """Plays the session in a prepared folder."""
    old, new = (write_config(folder, folder / "images", s) for s in SEEDS.values())
    _begin(folder, "start")
    preprocessor = _start(folder, "0", *flags("runtime_preprocessing", old))
    trainer = _start(folder, "1", *flags("train", old, "one"))
    log = folder / "logs" / "1"
    _wait_for(lambda: _STOP_AFTER in log.read_text(), _STOP_AFTER)
    trainer.send_signal(signal.SIGINT)
    _finish(trainer, 130)
    _begin(folder, "resume")
    _finish(_start(folder, "2", *flags("train", old, "one"), "--resume"))
    _finish(preprocessor)
    _begin(folder, "evaluate")
    for log, crops in zip("34", CROPS):
        evaluation = flags("evaluate", old, "one")
        _finish(_start(folder, log, *evaluation, f"--crops={crops}"))
    _begin(folder, "refill")
    preprocessor = _start(folder, "5", *flags("runtime_preprocessing", old))
    last = folder / "work/buffer" / "images_0000_00002.npy"
    _wait_for(last.exists, last.name)
    preprocessor.send_signal(signal.SIGTERM)
    _finish(preprocessor, 130)
    _begin(folder, "change")
    preprocessor = _start(folder, "6", *flags("runtime_preprocessing", new))
    _finish(_start(folder, "7", *flags("train", new, "two")))
    _finish(preprocessor)


def play_short(folder: Path) -> None:
    """Plays one undisturbed training in a prepared folder."""
    config = write_config(folder, folder / "images", SEEDS["old"])
    _begin(folder, "start")
    preprocessor = _start(folder, "0", *flags("runtime_preprocessing", config))
    _finish(_start(folder, "1", *flags("train", config, "one")))
    _finish(preprocessor)


if __name__ == "__main__":
    player = {"long": play, "short": play_short}[sys.argv[1]]
    player(Path(sys.argv[2]))
