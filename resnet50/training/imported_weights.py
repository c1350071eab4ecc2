"""Starts a run from exported or published weights."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.handoff.progress import Position
from resnet50.network.torchvision_names import assign_state_dict
from resnet50.network.weights_file import (
    Origin,
    WeightsFile,
    read_weights,
    require_same_network,
)
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.training import checkpoint
from resnet50.training.checkpoint_folders import list_checkpoints
from resnet50.training.description import CheckpointError, describe
from resnet50.training.update.step import create_training


def origin_of(config: Config, dataset: Dataset) -> Origin:
    """What the weights of a network trained with these settings depend on."""
    return Origin(
        config.model.variant,
        config.model.epsilon,
        config.dataset.channel_mean,
        config.dataset.channel_std,
        dataset.class_names,
    )


def report_differences(
    weights: WeightsFile, here: Origin, notify: Callable[[str], None]
) -> None:
    """Says how the weights' origin differs from config.txt, and what follows."""
    origin, path = weights.origin, weights.path
    num_classes = len(here.class_names)
    if weights.num_classes != num_classes:
        notify(
            f"{path}: has {weights.num_classes:,} classes, the training images have "
            f"{num_classes:,}: the last layer is initialized again"
        )
    elif origin.class_names not in ((), here.class_names):
        pairs = zip(origin.class_names, here.class_names)
        label = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
        notify(
            f"warning: {path}: class {label} is {origin.class_names[label]!r} there, "
            f"{here.class_names[label]!r} here; the last layer is kept"
        )
    for key in ("channel_mean", "channel_std"):
        expected, actual = getattr(origin, key), getattr(here, key)
        if expected != actual:
            usual = " (as published ones usually do)" if weights.is_published else ""
            notify(
                f"warning: {path}: expects {key} = {list(expected)}{usual}, "
                f"[dataset] in config.txt has {list(actual)}"
            )


def import_weights(
    file: Path,
    config: Config,
    dataset: Dataset,
    run_folder: Path,
    notify: Callable[[str], None],
) -> Path:
    """Makes the checkpoint that a run starts from, and returns its path.

    The caller holds the run's lock.

    Raises:
        CheckpointError: The run has a checkpoint already.
        ExchangeError: The file cannot be read, or is of another network.
    """
    if list_checkpoints(run_folder):
        raise CheckpointError(
            f"{run_folder}: already holds a training (import into another --run_folder)"
        )
    here, num_classes = origin_of(config, dataset), dataset.num_classes
    statistics = ChannelStatistics.from_config(config.dataset)
    train = config.train
    if train.precision == "auto":  # train.py chooses; the weights are always float32.
        train = dataclasses.replace(train, precision="float32")
    training = create_training(num_classes, config.model, train, statistics)
    weights = read_weights(file, training.model)
    require_same_network(weights, here.variant, here.epsilon)
    report_differences(weights, here, notify)
    assign_state_dict(training.model, weights.tensors)
    if training.average is not None:
        training.average.start()
    description = describe(config, dataset)
    return checkpoint.save(training, run_folder, Position(0, 0), description)
