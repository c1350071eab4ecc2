"""Exports and imports weights with torchvision's and timm's names and layouts.

    python -m resnet50 weights export --run_folder=mytestrun mytestrun.safetensors
    python -m resnet50 weights import resnet50.safetensors --run_folder=finetuned

Export writes the weights of a run's newest checkpoint, or of the one after --epoch.
Import starts a run from exported or published weights:

    python -m resnet50 evaluate --run_folder=finetuned --imported
    python3 train.py --run_folder=finetuned --resume
"""

import argparse
import dataclasses
from pathlib import Path

from resnet50 import command_line
from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.handoff.progress import Position
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.terminal import say
from resnet50.training.checkpoint_folders import list_checkpoints, remove_unfinished
from resnet50.training.description import CheckpointError, describe

with command_line.loading_tensorflow():
    from resnet50.network.torchvision_names import assign_state_dict
    from resnet50.network.weights_file import (
        Origin,
        WeightsFile,
        read_weights,
        require_same_network,
        write_weights,
    )
    from resnet50.training import checkpoint, resume
    from resnet50.training.devices.selection import leave_gpus_alone
    from resnet50.training.update.step import create_training


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("action", choices=("export", "import"))
    parser.add_argument("file", metavar="FILE.safetensors", type=Path)
    parser.add_argument("--run_folder", required=True, help="name of the run")
    command_line.add_checkpoint_flag(parser, action="export: ")
    args = parser.parse_args()
    if args.action == "import" and args.epoch is not None:
        parser.error("--epoch is for export; epoch 0 starts from an import")
    return args


def origin_of(config: Config, dataset: Dataset) -> Origin:
    """What the weights of a network trained with these settings depend on."""
    return Origin(
        config.model.variant,
        config.model.epsilon,
        config.dataset.channel_mean,
        config.dataset.channel_std,
        dataset.class_names,
    )


def report_differences(weights: WeightsFile, here: Origin) -> None:
    """Says how the weights' origin differs from config.txt, and what follows."""
    origin, path = weights.origin, weights.path
    num_classes = len(here.class_names)
    if weights.num_classes != num_classes:
        say(
            f"{path}: has {weights.num_classes:,} classes, the training images have "
            f"{num_classes:,}: the last layer is initialized again"
        )
    elif origin.class_names not in ((), here.class_names):
        pairs = zip(origin.class_names, here.class_names)
        label = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
        say(
            f"warning: {path}: class {label} is {origin.class_names[label]!r} there, "
            f"{here.class_names[label]!r} here; the last layer is kept"
        )
    for key in ("channel_mean", "channel_std"):
        expected, actual = getattr(origin, key), getattr(here, key)
        if expected != actual:
            usual = " (as published ones usually do)" if weights.is_published else ""
            say(
                f"warning: {path}: expects {key} = {list(expected)}{usual}, "
                f"[dataset] in config.txt has {list(actual)}"
            )


def import_weights(args, config: Config, dataset: Dataset, run_folder: Path) -> None:
    """Makes the checkpoint that a run starts from; the caller holds the run's lock."""
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
    weights = read_weights(args.file, training.model)
    require_same_network(weights, here.variant, here.epsilon)
    report_differences(weights, here)
    assign_state_dict(training.model, weights.tensors)
    if training.average is not None:
        training.average.start()
    description = describe(config, dataset)
    path = checkpoint.save(training, run_folder, Position(0, 0), description)
    print(f"{path}: holds the weights of {args.file}; evaluate or train them with:")
    for script, flag in ("-m resnet50 evaluate", "imported"), ("train.py", "resume"):
        flags = {"run_folder": args.run_folder, flag: None}
        print(f"    {command_line.command_for(script, args, **flags)}")


def main() -> None:
    """Exports or imports."""
    args = parse_arguments()
    config = command_line.load_config(args)
    run_folder = command_line.run_folder(args, config)
    leave_gpus_alone()
    dataset = open_training_set(config.dataset, config.train.buffer_folder)
    if args.action == "export":
        model, path = resume.load_network(config, dataset, run_folder, args.epoch)
        write_weights(args.file, model, origin_of(config, dataset))
        num_classes = f"{dataset.num_classes:,} classes"
        print(f"{args.file}: holds the weights of {path}, {num_classes}")
        return
    command_line.make_folder(run_folder, "[train] saved_models_folder")
    with locks.exclusive_role(run_folder, locks.TRAINER):
        remove_unfinished(run_folder)
        import_weights(args, config, dataset, run_folder)
