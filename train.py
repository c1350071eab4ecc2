"""Trains a ResNet-50 on the batches that runtime_preprocessing.py makes.

    python3 train.py --run_folder=mytestrun --epoch_start=0 --epoch_end=30 \
        --batch_size=64 --learning_rate=0.01

Resumes with --resume from the newest checkpoint, or with --epoch_start=N from the one
after epoch N-1. Ctrl-C finishes the step and saves.
"""

import argparse
import shutil
from pathlib import Path

from resnet50 import command_line
from resnet50.command_line import StatusBar, say
from resnet50.config import Config
from resnet50.handoff import locks
from resnet50.handoff.atomic_io import remove_temporaries
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import require_same
from resnet50.handoff.progress import (
    Position,
    ProgressError,
    to_step,
    write_progress,
)
from resnet50.handoff.reader import BatchReader
from resnet50.preprocessing.batches import Assignments, Recipe
from resnet50.preprocessing.dataset_index import open_training_set
from resnet50.preprocessing.imagenet import Dataset
from resnet50.training import checkpoint, resume
from resnet50.training.devices import prepare_device
from resnet50.training.loop import Loop, PerStepNumbers, Run, StopRequest
from resnet50.training.step import Training


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
    args = parser.parse_args()
    if args.resume and args.epoch_start:
        parser.error("give --resume or --epoch_start, not both")
    return args


def describe_batch(
    args: argparse.Namespace, position: Position, paths: list[str]
) -> str:
    """Lines that name a batch's images, and the command that shows them."""
    command = command_line.command_for(
        "-m resnet50 preview",
        args,
        epoch=position.epoch,
        batch=position.batch_index,
        batch_size=len(paths),
    )
    return "\n".join(["its images:", *paths, f"see them with:\n    {command}"])


def main() -> None:
    """Reads the settings, restores a checkpoint if asked to, and trains."""
    args = parse_arguments()
    config = command_line.load_config(args)
    epochs = command_line.epoch_range(args, config)
    dataset = open_training_set(config.dataset, config.train.buffer_folder)
    buffer = BatchBuffer(config.train.buffer_folder)
    command_line.make_folder(buffer.folder, "[train] buffer_folder")
    run_folder = config.train.saved_models_folder / args.run_folder
    command_line.make_folder(run_folder, "[train] saved_models_folder")
    with (
        locks.exclusive_role(buffer.folder, locks.TRAINER),
        locks.exclusive_role(run_folder, locks.TRAINER),
    ):
        # What a killed trainer was writing: progress and metrics.
        remove_temporaries(buffer.folder, ".txt")
        remove_temporaries(run_folder, ".csv")
        train(args, config, epochs, dataset, buffer, run_folder)


def train(
    args: argparse.Namespace,
    config: Config,
    epochs: range,
    dataset: Dataset,
    buffer: BatchBuffer,
    run_folder: Path,
) -> None:
    """Trains; the caller holds the locks of the buffer and of the run."""
    recipe = Recipe.from_config(config)
    batches_per_epoch = dataset.batches_per_epoch(recipe.batch_size)
    manifest = recipe.manifest(dataset)
    require_same(buffer.folder, manifest)  # Before TensorFlow takes its seconds.
    description = resume.describe(config, dataset, batches_per_epoch)

    prepare_device(deterministic=config.train.deterministic, notify=say)
    training = Training(
        dataset.num_classes, config.model, config.train, recipe.statistics
    )
    say(
        f"ResNet-50 {config.model.variant}, {training.model.num_parameters:,} "
        f"parameters, {dataset.num_classes:,} classes, {batches_per_epoch:,} batches "
        f"of {recipe.batch_size} an epoch"
    )
    size = checkpoint.size_bytes(training)
    room = shutil.disk_usage(run_folder).free // size
    say(f"{run_folder}: a checkpoint takes {size / 1e6:.0f} MB, {room:,} more fit")
    start = resume.restore(
        training,
        run_folder,
        description,
        epoch_start=None if args.resume else epochs.start,
        notify=say,
    )
    end = Position(epochs.stop, 0)
    # Also tells a preprocessor that runs already, or has yet to start, where to begin.
    try:
        write_progress(buffer.folder, min(start, end))
    except OSError as error:
        raise ProgressError(
            f"{buffer.folder}: the progress cannot be written: {error.strerror}"
        ) from None
    if start >= end:
        say(f"{run_folder}: is trained up to {end} already (raise --epoch_end)")
        return
    steps = range(to_step(start, batches_per_epoch), to_step(end, batches_per_epoch))
    stop = StopRequest()
    with (
        stop.caught(),
        BatchReader(
            buffer,
            recipe.spec(dataset),
            steps,
            batches_per_epoch=batches_per_epoch,
            read_ahead=config.train.read_ahead,
            sleep_seconds=config.train.sleep_time,
            is_buffer_ready=lambda: require_same(buffer.folder, manifest),
            should_stop=lambda: stop.is_made,
            notify=say,
            how_to_start=command_line.command_for(
                "runtime_preprocessing.py",
                args,
                epoch_start=start.epoch,
                epoch_end=end.epoch,
                batch_size=recipe.batch_size,
            ),
        ) as reader,
        StatusBar("{desc} {n_fmt}/{total_fmt} |{bar:10}| {unit}") as bar,
    ):
        position = Loop(
            training,
            reader,
            buffer,
            Run(
                run_folder,
                description,
                batches_per_epoch,
                config.train.buffer_size,
                config.train.checkpoint_minutes,
                config.train.keep_checkpoints,
            ),
            PerStepNumbers(config.train, config.batch_renorm, batches_per_epoch),
            describe_batch=lambda position: describe_batch(
                args,
                position,
                Assignments(dataset, recipe)[position].paths[: recipe.batch_size],
            ),
            draw=lambda position, text: bar.draw(
                f"epoch {position.epoch}", position.batch_index, batches_per_epoch, text
            ),
            is_draw_due=bar.is_due,
            should_stop=lambda: stop.is_made,
            notify=say,
        ).run(start)
    if position == end:
        say(f"{run_folder}: trained up to epoch {end.epoch}")
    else:
        command = command_line.command_for(
            "train.py",
            args,
            run_folder=args.run_folder,
            **({"resume": None} if position > Position(0, 0) else {}),
            epoch_end=end.epoch,
            batch_size=recipe.batch_size,
            learning_rate=config.train.learning_rate,
        )
        say(f"stopped before {position}; go on with:\n    {command}")
        raise KeyboardInterrupt


if __name__ == "__main__":
    command_line.run(main)
