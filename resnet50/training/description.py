"""What identifies a training, and what must agree with a checkpoint to load it.

Each checkpoint holds a description. For every key, RULES says when the checkpoint's
value must agree with the value here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from resnet50.config.settings import Config, ModelConfig
from resnet50.dataset.images import Dataset
from resnet50.errors import UserError


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another training."""


class MissingCheckpointError(CheckpointError):
    """There is no checkpoint to start from."""


def describe_layers(model: ModelConfig) -> dict:
    """The part of a description that the layers depend on, without the classes."""
    return {"variant": model.variant, "normalization": model.normalization}


def describe_model(config: Config, dataset: Dataset) -> dict:
    """The part of a description that the network and its outputs depend on."""
    return {
        "num_classes": dataset.num_classes,
        "class_names": list(dataset.class_names),
        **describe_layers(config.model),
    }


def describe(config: Config, dataset: Dataset) -> dict:
    """Describes a training.

    The names and words of the classes make a checkpoint usable without its images.
    """
    return {
        **describe_model(config, dataset),
        "class_words": list(dataset.class_words),
        "dataset_fingerprint": dataset.fingerprint,
        "seed": config.train.seed,
        "batches_per_epoch": dataset.batches_per_epoch(config.train.batch_size),
        "precision": config.train.precision,
        "tf32": config.train.tf32,
        "xla": config.train.xla,
        "accumulate_batches": config.train.accumulate_batches,
        "optimizer": config.train.optimizer,
        "trainable": config.model.trainable,
    }


def _require_equal(path: Path, key: str, theirs: Any, ours: Any) -> None:
    if theirs != ours:
        raise CheckpointError(
            f"{path}: was trained with {key} = {theirs}, here it is {ours} "
            f"({RULES[key].remedy}, or use another --run_folder)"
        )


def _require_same_classes(path: Path, key: str, theirs: list, ours: list) -> None:
    for label, (there, here) in enumerate(zip(theirs, ours)):
        # In a list file, the name of a class may be its number.
        if there != here and str(label) not in (there, here):
            raise CheckpointError(
                f"{path}: its class {label} is {there}, here it is {here} (are "
                "[dataset]'s images those that it was trained on?)"
            )


class Rule(NamedTuple):
    """When the values of a key must agree, and what to do if they do not."""

    remedy: str = "change that back"
    require: Callable[[Path, str, Any, Any], None] | None = _require_equal
    only_inside_epochs: bool = False  # for checkpoints inside an epoch
    is_optional: bool = False  # the oldest checkpoints lack the key
    absent: Any = None  # what it was where a checkpoint lacks it
    changes_variables: bool = False  # another value needs other variables
    changes_optimizer: bool = False  # some of them are the optimizer's


RULES = {
    "num_classes": Rule(),
    "class_names": Rule(require=_require_same_classes, is_optional=True),
    "variant": Rule(),
    "normalization": Rule(),
    "class_words": Rule(require=None),
    "dataset_fingerprint": Rule(remedy="restore the list of training images as it was"),
    "seed": Rule(),
    "batches_per_epoch": Rule(only_inside_epochs=True),
    "precision": Rule(only_inside_epochs=True, changes_variables=True),
    "tf32": Rule(require=None),
    "xla": Rule(require=None),
    "accumulate_batches": Rule(only_inside_epochs=True, changes_variables=True),
    "optimizer": Rule(absent="sgd"),
    "trainable": Rule(
        only_inside_epochs=True,
        absent="all",
        changes_variables=True,
        changes_optimizer=True,
    ),
}


def require_lists_of_names(description: dict) -> None:
    """Raises ValueError unless the names and words of the classes are lists of texts.

    There may be none, and then there are no words either.
    """
    names = description.get("class_names", [])
    words = description.get("class_words", [])
    for value in names, words:
        if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
            raise ValueError("the names of the classes are no list of texts")
    if words and len(words) != len(names):
        raise ValueError(f"{len(names)} names of classes, but {len(words)} words")


def require_agreement(
    path: Path, theirs: dict, ours: dict, *, is_inside_epoch: bool
) -> None:
    """Compares a checkpoint's description with that of the training here.

    Only the keys of the latter, which may be a part of a description, are compared.

    Raises:
        CheckpointError: They do not agree.
    """
    for key, value in ours.items():
        rule = RULES[key]
        is_missing = rule.is_optional and key not in theirs
        is_free = rule.only_inside_epochs and not is_inside_epoch
        if rule.require and not is_missing and not is_free:
            rule.require(path, key, theirs.get(key, rule.absent), value)


def has_same_variables(theirs: dict, ours: dict, *, of_optimizer: bool = False) -> bool:
    """Whether two trainings that agree between epochs have the same variables.

    With of_optimizer: whether their optimizers have the same ones.
    """
    return all(
        theirs.get(key, rule.absent) == ours.get(key, rule.absent)
        for key, rule in RULES.items()
        if (rule.changes_optimizer if of_optimizer else rule.changes_variables)
    )
