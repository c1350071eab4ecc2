"""Exports and imports weights with torchvision's and timm's names and layouts.

    python -m resnet50 weights export --run_folder=mytestrun mytestrun.safetensors
    python -m resnet50 weights import resnet50.safetensors --run_folder=finetuned

Export writes the weights of a run's newest checkpoint, or of the one after --epoch.
Import starts a run from exported or published weights:

    python -m resnet50 evaluate --run_folder=finetuned --imported
    python3 train.py --run_folder=finetuned --resume
"""

import argparse
from pathlib import Path

from resnet50 import command_line
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.terminal import say
from resnet50.training.checkpoint_folders import remove_unfinished


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("action", choices=("export", "import"))
    parser.add_argument(
        "file", metavar="FILE.safetensors", type=command_line.local_path
    )
    parser.add_argument("--run_folder", required=True, help="name of the run")
    command_line.add_checkpoint_flag(parser, action="export: ")
    return parser


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = build_parser()
    args = parser.parse_args()
    if args.action == "import" and args.epoch is not None:
        parser.error("--epoch is for export; epoch 0 starts from an import")
    return args


def main() -> None:
    """Exports or imports."""
    args = parse_arguments()
    file = Path(args.file)
    config = command_line.load_config(args)
    run_folder = command_line.run_folder(args, config)
    dataset = open_training_set(config.dataset, config.train.buffer_folder)
    with command_line.loading_tensorflow():
        # TensorFlow takes seconds; everything else has been checked before.
        from resnet50.network.weights_file import write_weights
        from resnet50.training.devices.selection import leave_gpus_alone
        from resnet50.training.imported_weights import import_weights, origin_of
        from resnet50.training.resume import load_network
    leave_gpus_alone()
    if args.action == "export":
        model, path = load_network(config, dataset, run_folder, args.epoch)
        write_weights(file, model, origin_of(config, dataset))
        num_classes = f"{dataset.num_classes:,} classes"
        print(f"{file}: holds the weights of {path}, {num_classes}")
        return
    command_line.make_folder(run_folder, "[train] saved_models_folder")
    with locks.exclusive_role(run_folder, locks.TRAINER):
        remove_unfinished(run_folder)
        path = import_weights(file, config, dataset, run_folder, say)
    print(f"{path}: holds the weights of {file}; evaluate or train them with:")
    for name, flag in ("evaluate", "imported"), ("train", "resume"):
        flags = {"run_folder": args.run_folder, flag: None}
        print(f"    {command_line.command_for(name, args, **flags)}")
