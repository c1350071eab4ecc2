"""Trains a ResNet-50 on the batches that runtime_preprocessing.py makes.

    python3 train.py --run_folder=mytestrun --epoch_start=0 --epoch_end=30
                     --batch_size=64 --learning_rate=0.01

Resumes with --resume from the newest checkpoint, or with --epoch_start=N from the one
after epoch N-1. Ctrl-C finishes the step and saves.
"""

import argparse
import contextlib
import os

from resnet50 import command_line
from resnet50.atomic_io import remove_temporaries
from resnet50.command_line import say
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import require_same
from resnet50.preprocessing.batches import BatchSettings
from resnet50.training.devices import meeting as clusters


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = command_line.make_parser(__doc__, "batch_size", "learning_rate")
    parser.add_argument(
        "--run_folder",
        required=True,
        help="name of the run; its folder is in saved_models_folder of config.txt",
    )
    command_line.add_epoch_flags(parser)
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint"
    )
    parser.add_argument(
        "--profile",
        type=int,
        default=0,
        metavar="N",
        help="tell the speed and what limits it after every N steps too",
    )
    parser.add_argument(
        "--gpus",
        metavar="LIST",
        help="all, or numbers such as 0,1: these GPUs share each batch; default: the "
        "first one",
    )
    args = parser.parse_args()
    if args.profile < 0:
        parser.error(f"--profile = {args.profile} (must be at least 0)")
    if args.resume and args.epoch_start:
        parser.error("give --resume or --epoch_start, not both")
    return args


def main() -> None:
    """Reads the settings, takes the locks, and trains."""
    args = parse_arguments()
    config = command_line.load_config(args)
    epochs = command_line.epoch_range(args, config)
    # Made first: what is found among the images is remembered in it.
    buffer = BatchBuffer(config.train.buffer_folder)
    command_line.make_folder(buffer.folder, "[train] buffer_folder")
    dataset = open_training_set(config.dataset, buffer.folder, say)
    run_folder = command_line.run_folder(args, config)
    cluster = clusters.parse_cluster(os.environ.get(clusters.VARIABLE))
    roles, run_role = (), None
    with contextlib.ExitStack() as stack:
        if cluster.is_chief:
            command_line.make_folder(run_folder, "[train] saved_models_folder")
            role, run_role = (
                stack.enter_context(locks.exclusive_role(folder, locks.TRAINER))
                for folder in (buffer.folder, run_folder)
            )
            roles += (role,)
            # What a killed trainer was writing: progress and metrics.
            remove_temporaries(buffer.folder, ".txt")
            remove_temporaries(run_folder, ".csv")
        if not cluster.is_alone:
            membership = clusters.membership(buffer.folder, cluster)
            roles += (stack.enter_context(membership),)
        manifest = BatchSettings.from_config(config).manifest(dataset)
        require_same(buffer.folder, manifest)
        with command_line.loading():
            # TensorFlow takes seconds; what can be refused without it has been.
            from resnet50.commands.training_session import Session
        Session(
            args,
            config,
            epochs,
            dataset,
            buffer,
            run_folder,
            cluster,
            roles,
            run_role,
        ).run()
