"""Small settings for tests, based on config.txt as shipped."""

import dataclasses
from pathlib import Path

import tomlkit

from resnet50.config.toml_file import read_config

PROJECT = Path(__file__).parent.parent
SHIPPED = read_config(PROJECT / "config.txt")
# As train.py chooses on a CPU.
SETTINGS = dataclasses.replace(
    SHIPPED, train=dataclasses.replace(SHIPPED.train, precision="float32", xla=False)
)

# With these a ResNet-50 trains some steps per second on a CPU.
SMALL = {
    "augmentation": {
        "shorter_side_min": 34,
        "shorter_side_max": 48,
        "shorter_side_step": 7,
        "crop_size": 32,
    },
    "train": {
        "buffer_size": 6,
        "sleep_time": 0.02,
        "deterministic": True,
        "batch_size": 4,
        "epochs": 2,
        "warmup_epochs": 0,
        "learning_rate": 0.01,
    },
    "runtime_preprocessing": {"num_workers": 1, "sleep_time": 0.2},
    "evaluation": {"shorter_side": 36, "batch_size": 10, "num_workers": 2},
}


def write_small_config(folder: Path, **changes: dict) -> Path:
    """Writes config.txt as shipped, with SMALL, into a folder.

    Args:
        folder: The images go into its images/train and images/val.
        changes: For each section, values that override those of SMALL.
    """
    document = tomlkit.parse((PROJECT / "config.txt").read_text(encoding="utf-8"))
    images = {"training_images": "images/train", "validation_images": "images/val"}
    for values in ({"dataset": images}, SMALL, changes):
        for section, keys in values.items():
            document[section].update(keys)
    path = folder / "config.txt"
    path.write_text(tomlkit.dumps(document), encoding="utf-8")
    return path
