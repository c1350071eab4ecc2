"""Fine-tunes a network on new classes, beside trainings from random weights.

The demo's pictures of six classes train the network whose weights are imported; the
other four are the new classes: 20 pictures of each to train, 80 to validate, divided by
``init``. All trainings have crops of 64 pixels and the same number of epochs.
"""

import shutil
from pathlib import Path
from typing import Any

from benchmarks.learning.photographs import working_folder
from resnet50.config.toml_file import read_config, write_changed
from resnet50.demo.pictures import PATTERNS, make_images
from resnet50.demo.processes import ProgramProcess, write_config
from resnet50.reports.tables import EVALUATION_FILE, read_table

_FIRST = ("checkerboard", "disc", "dots", "horizontal-stripes", "triangle", "waves")
_NEW = tuple(name for name in PATTERNS if name not in _FIRST)
_PER_CLASS, _VALIDATION_SHARE = 100, 0.8
_SMALL = {
    "augmentation": {
        "shorter_side_min": 73,
        "shorter_side_max": 137,
        "shorter_side_step": 2,
        "crop_size": 64,
    },
    "evaluation": {"shorter_side": 73},
}
_SOURCE = {
    "dataset": {"training_images": "first", "validation_images": "first"},
    "train": {
        "buffer_size": 40,
        "batch_size": 16,
        "epochs": 6,
        "learning_rate": 0.04,
        "schedule": "cosine",
        "warmup_epochs": 1,
    },
    "runtime_preprocessing": {"num_workers": 1, "sleep_time": 1},
}

# For each training from random weights, its learning rate; None is that of init.
_FROM_RANDOM = {"random": None, "random, rate * 4": 0.0125}
_FINE_TUNED = ("classifier", "all")


def _run(*words: object) -> None:
    ProgramProcess("", *map(str, words)).wait()


def _train(config: Path, *flags: str) -> None:
    words = f"--config={config}", *flags
    with ProgramProcess("prep", "preprocess", words[0]) as preprocessor:
        with ProgramProcess("train", "train", "--run_folder=run", *words) as trainer:
            trainer.wait()
        preprocessor.wait()


def _accuracy(config: Path, epochs: int) -> float:
    """The top-1 of the last epoch's weights on the validation images."""
    flags = f"--config={config}", "--run_folder=run", f"--epoch_start={epochs - 1}"
    _run("evaluate", *flags)
    folder = read_config(config).train.saved_models_folder
    return float(read_table(folder / "run" / EVALUATION_FILE)[-1]["top1"])


def _init(folder: Path, name: str, changes: dict[str, Any], *flags: str) -> Path:
    """Writes a configuration by ``init``, in a folder of its own, and changes it."""
    path = folder / name / "config.txt"
    path.parent.mkdir()
    share = f"--validation_share={_VALIDATION_SHARE}"
    _run("init", folder / "new", f"--output={path}", share, *flags)
    changes["train"] = {"buffer_folder": "buffer", **changes["train"]}
    write_changed(path, path, {**_SMALL, **changes})
    return path


def run(epochs: int, folder: Path | None) -> None:
    """Trains in a working folder, and prints the accuracies."""
    with working_folder(folder) as folder:
        make_images(folder / "first", _PER_CLASS, 11, with_odd_files=False)
        for name in _NEW:
            (folder / "new").mkdir(exist_ok=True)
            shutil.move(folder / "first" / name, folder / "new" / name)
        source, weights = folder / "config.txt", folder / "first.safetensors"
        write_config(source, {**_SMALL, **_SOURCE})
        _run("stats", f"--config={source}", "--write")
        _train(source)
        flags = f"--config={source}", "--run_folder=run"
        _run("weights", "export", weights, *flags)
        first = read_config(source).dataset
        statistics = {
            key: list(getattr(first, key)) for key in ("channel_mean", "channel_std")
        }
        accuracies = {}
        for name, rate in _FROM_RANDOM.items():
            train = {"epochs": epochs, "warmup_epochs": 1}
            train |= {"learning_rate": rate} if rate else {}
            path = _init(folder, name, {"train": train})
            _train(path)
            accuracies[name] = _accuracy(path, epochs)
        for trainable in _FINE_TUNED:
            changes = {
                "train": {"epochs": epochs},
                "model": {"trainable": trainable},
                "dataset": statistics,
            }
            path = _init(folder, trainable, changes, "--recipe=finetuning")
            words = "weights", "import", weights, f"--config={path}", "--run_folder=run"
            _run(*words)
            _train(path, "--resume")
            accuracies[f"imported, trained: {trainable}"] = _accuracy(path, epochs)
        train = read_config(path).train
    print(f"\n{len(_NEW)} new classes, {epochs} epochs, batches of {train.batch_size}")
    for name, top1 in accuracies.items():
        print(f"{name:30} top-1 {top1:.1%}")
