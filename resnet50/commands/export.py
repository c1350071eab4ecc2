"""Exports a run's network with its preprocessing, for programs that classify images.

    python -m resnet50 export --run_folder=mytestrun --output=mytestrun_model
    python -m resnet50 export --run_folder=mytestrun --output=mytestrun.onnx

The output is a SavedModel, or an ONNX file if its name ends in .onnx. Both take decoded
images, uint8 [N, H, W, 3], and return probabilities, float32 [N, K].
"""

import argparse
from pathlib import Path

from resnet50 import command_line
from resnet50.dataset.listing import open_training_set
from resnet50.pixels.augmentation import ChannelStatistics


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("--run_folder", required=True, help="name of the run")
    command_line.add_checkpoint_flag(parser)
    parser.add_argument(
        "--output", type=Path, required=True, help="a folder, or a file named *.onnx"
    )
    return parser


def main() -> None:
    """Exports the network of one checkpoint."""
    args = build_parser().parse_args()
    config = command_line.load_config(args)
    run_folder = command_line.run_folder(args, config)
    dataset = open_training_set(config.dataset, config.train.buffer_folder)
    with command_line.loading_tensorflow():
        # TensorFlow takes seconds; everything else has been checked before.
        from resnet50.network.exporters import Classifier, write_onnx, write_saved_model
        from resnet50.training.devices.selection import leave_gpus_alone
        from resnet50.training.resume import load_network
    leave_gpus_alone()
    model, path = load_network(config, dataset, run_folder, args.epoch)
    classifier = Classifier(
        model,
        ChannelStatistics.from_config(config.dataset),
        shorter_side=config.evaluation.shorter_side,
        crop_size=config.augmentation.crop_size,
    )
    write = write_onnx if args.output.suffix == ".onnx" else write_saved_model
    write(classifier, dataset.class_names, args.output)
    print(f"{args.output}: holds the network of {path}")
