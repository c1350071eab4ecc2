"""What identifies a training, and what must agree with a checkpoint to load it.

Each checkpoint holds a description. RULES says of every key when the checkpoint's value
must be the same as here.
"""

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.errors import UserError


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another training."""


def describe_model(config: Config, dataset: Dataset) -> dict:
    """The part of a description that the network and its outputs depend on."""
    return {
        "num_classes": dataset.num_classes,
        "class_names": list(dataset.class_names),
        "variant": config.model.variant,
        "normalization": config.model.normalization,
    }


def describe(config: Config, dataset: Dataset, batches_per_epoch: int) -> dict:
    """Describes a training.

    The names and words of the classes make a checkpoint usable without its images.
    """
    return {
        **describe_model(config, dataset),
        "class_words": list(dataset.class_words),
        "dataset_fingerprint": dataset.fingerprint,
        "seed": config.train.seed,
        "batches_per_epoch": batches_per_epoch,
        "precision": config.train.precision,
        "accumulate_batches": config.train.accumulate_batches,
    }


class When(enum.Enum):
    """For which checkpoints a value must be the same."""

    ALWAYS = enum.auto()
    INSIDE_EPOCHS = enum.auto()
    NEVER = enum.auto()


def _compare_values(key: str, theirs: Any, ours: Any) -> str | None:
    if theirs != ours:
        return f"was trained with {key} = {theirs}, here it is {ours}"
    return None


def _compare_classes(key: str, theirs: list[str], ours: list[str]) -> str | None:
    for label, (there, here) in enumerate(zip(theirs, ours)):
        # In a list file, the name of a class may be its number.
        if there != here and str(label) not in (there, here):
            return f"its class {label} is {there}, here it is {here}"
    return None


class Rule(NamedTuple):
    """When the values of a key must be the same, and what to do if they are not."""

    when: When = When.ALWAYS
    remedy: str = "change that back, or use another --run_folder"
    # Returns what is wrong, or None. Gets the key and both values.
    compare: Callable[[str, Any, Any], str | None] = _compare_values
    is_optional: bool = False  # the oldest checkpoints lack it
    changes_variables: bool = False  # another value needs other variables


RULES = {
    "num_classes": Rule(),
    "class_names": Rule(
        remedy="are [dataset]'s images those that it was trained on?",
        compare=_compare_classes,
        is_optional=True,
    ),
    "variant": Rule(),
    "normalization": Rule(),
    "class_words": Rule(When.NEVER),
    "dataset_fingerprint": Rule(
        remedy="restore the list of training images as it was, or use another "
        "--run_folder"
    ),
    "seed": Rule(),
    "batches_per_epoch": Rule(When.INSIDE_EPOCHS),
    "precision": Rule(When.INSIDE_EPOCHS, changes_variables=True),
    "accumulate_batches": Rule(When.INSIDE_EPOCHS, changes_variables=True),
}


def require_agreement(
    path: Path, theirs: dict, ours: dict, *, is_inside_epoch: bool
) -> None:
    """Compares a checkpoint's description with that of the training here.

    Args:
        path: The checkpoint's folder.
        theirs: Its description.
        ours: The description here, or a part of it; only its keys are compared.
        is_inside_epoch: Whether the checkpoint was saved inside an epoch.

    Raises:
        CheckpointError: They do not agree.
    """
    for key, value in ours.items():
        rule = RULES[key]
        if rule.when is When.NEVER or (rule.is_optional and key not in theirs):
            continue
        if rule.when is When.INSIDE_EPOCHS and not is_inside_epoch:
            continue
        problem = rule.compare(key, theirs.get(key), value)
        if problem:
            raise CheckpointError(f"{path}: {problem} ({rule.remedy})")


def has_same_variables(theirs: dict, ours: dict) -> bool:
    """Whether two trainings that agree between epochs have the same variables."""
    return all(
        theirs.get(key) == ours.get(key)
        for key, rule in RULES.items()
        if rule.changes_variables
    )
