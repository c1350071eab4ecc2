r"""Trains a ResNet-50 on the batches that runtime_preprocessing.py makes.

    python3 train.py --run_folder=mytestrun --epoch_start=0 --epoch_end=30 \
        --batch_size=64 --learning_rate=0.01

Resumes with --resume from the newest checkpoint, or with --epoch_start=N from the one
after epoch N-1; --resume_or_start also begins a run. Ctrl-C finishes the step and
saves.
"""

import argparse
import contextlib
import os
import shlex
import signal
from pathlib import Path

from resnet50 import command_line, message_log
from resnet50.atomic_io import remove_temporaries
from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_training_set
from resnet50.errors import printable_line
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.cluster import VARIABLE, Cluster, parse_cluster
from resnet50.handoff.manifest import require_same
from resnet50.handoff.progress import Position
from resnet50.handoff.reader import BatchSource
from resnet50.installation import PROJECT, typed_command_line
from resnet50.preprocessing.batches import Assignments, BatchSettings
from resnet50.reports.speed import Speed, limit
from resnet50.reports.starts import find_commit
from resnet50.signals import StopRequest
from resnet50.terminal import StatusBar, keep_messages, say
from resnet50.training.checkpoint_folders import list_checkpoints
from resnet50.training.description import describe
from resnet50.training.training_observer import TrainingObserver, TrainingStatus

# How much later than this program a preprocessor that is started at the same moment
# may take its lock. Both import their modules first.
_START_SECONDS = 3.0


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__, "batch_size", "learning_rate")
    parser.add_argument(
        "--run_folder",
        required=True,
        help="name of the run; its folder is in saved_models_folder of config.txt",
    )
    command_line.add_epoch_flags(parser)
    parser.add_argument(
        "--resume", action="store_true", help="continue from the newest checkpoint"
    )
    parser.add_argument(
        "--resume_or_start",
        action="store_true",
        help="the same, but start a new training if the run has no checkpoint",
    )
    parser.add_argument(
        "--profile",
        type=int,
        default=0,
        metavar="N",
        help="also report the speed and what limits it after every N steps",
    )
    parser.add_argument(
        "--gpus",
        metavar="LIST",
        help="all, or numbers such as 0,1: these GPUs share each batch; default: the "
        "first one",
    )
    return parser


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = build_parser()
    args = parser.parse_args()
    if args.profile < 0:
        parser.error(f"--profile = {args.profile} (must be at least 0)")
    if args.resume + args.resume_or_start + bool(args.epoch_start) > 1:
        parser.error("give one of --resume, --resume_or_start and --epoch_start")
    return args


class _Terminal(TrainingObserver):
    """Shows a training on the terminal, and words the commands that help its user."""

    def __init__(
        self, args: argparse.Namespace, config: Config, dataset: Dataset, bar: StatusBar
    ):
        self._args, self._config, self._bar = args, config, bar
        self._assignments = Assignments(dataset, BatchSettings.from_config(config))
        self._batches_per_epoch = dataset.batches_per_epoch(config.train.batch_size)

    notify = staticmethod(say)

    def is_due(self) -> bool:
        return self._bar.is_due()

    def show(self, status: TrainingStatus) -> None:
        position, means, speed, num_ready = status
        self._bar.show(
            f"epoch {position.epoch}",
            position.batch_index,
            self._batches_per_epoch,
            [
                speed.waiting_text(),
                f"loss {means['loss']:.3f}",
                f"{speed.images_per_second:.1f} images/s",
                f"buffer {'?' if num_ready is None else num_ready}/"
                f"{self._config.train.buffer_size}",
                f"top-1 {means['top1']:.1%}",
            ],
        )

    def advise(self, speed: Speed) -> str:
        return limit(speed, self._config, os.cpu_count() or 1)

    def describe(self, position: Position) -> str:
        batch_size = self._config.train.batch_size
        sources = self._assignments[position].sources[:batch_size]
        names = (printable_line(str(source)) for source in sources)
        command = command_line.command_for(
            "preview",
            self._args,
            epoch=position.epoch,
            batch=position.batch_index,
            batch_size=batch_size,
        )
        return "\n".join(["its images:", *names, f"see them with:\n    {command}"])

    def preprocessor_command(self, epochs: range) -> str:
        command = command_line.command_for(
            "preprocess",
            self._args,
            epoch_start=epochs.start,
            epoch_end=epochs.stop,
            batch_size=self._config.train.batch_size,
        )
        if self._config.train.local_folders and (value := os.environ.get(VARIABLE)):
            return f"{VARIABLE}={shlex.quote(value)} {command}"
        return command

    def resume_command(self, position: Position, end: int) -> str:
        args, train = self._args, self._config.train
        resume = "resume_or_start" if args.resume_or_start else "resume"
        # At the first batch, only imported weights can be resumed from.
        is_resumable = args.resume or args.resume_or_start or position > Position(0, 0)
        return command_line.command_for(
            "train",
            args,
            run_folder=args.run_folder,
            **({resume: None} if is_resumable else {}),
            **({"gpus": args.gpus} if args.gpus else {}),
            epoch_end=end,
            batch_size=train.batch_size,
            learning_rate=train.learning_rate,
        )


@contextlib.contextmanager
def _locked(buffer_folder: Path, run_folder: Path, cluster: Cluster):
    """Holds the locks of the training; yields those of the buffer and of the run."""
    if not cluster.writes_files:  # The chief has them.
        yield None, None
        return
    command_line.make_folder(run_folder, "[train] saved_models_folder")
    with contextlib.ExitStack() as stack:
        try:
            role, run_role = (
                stack.enter_context(locks.exclusive_role(folder, locks.TRAINER))
                for folder in (buffer_folder, run_folder)
            )
        except locks.AlreadyRunningError as error:
            if not cluster.has_local_folders:
                raise
            raise locks.AlreadyRunningError(
                f"{error}; with [train] local_folders = true, each host needs a "
                "buffer_folder and a saved_models_folder of its own"
            ) from None
        # A killed trainer may have left them.
        remove_temporaries(buffer_folder, ".txt")
        for suffix in (".csv", ".jsonl"):
            remove_temporaries(run_folder, suffix)
        yield role, run_role


def main() -> None:
    """Reads the settings, takes the locks, and trains."""
    args = parse_arguments()
    config = command_line.load_config(args)
    epochs = command_line.epoch_range(args, config)
    is_local = config.train.local_folders
    cluster = parse_cluster(os.environ.get(VARIABLE), has_local_folders=is_local)
    rows = cluster.rows(config.train.batch_size)
    # Before the dataset, whose listing is remembered in this folder.
    buffer = BatchBuffer(config.train.buffer_folder, rows)
    command_line.make_folder(buffer.folder, "[train] buffer_folder")
    dataset = open_training_set(config.dataset, buffer.folder, say)
    if dataset.imbalance:
        say(dataset.imbalance)
    run_folder = command_line.run_folder(args, config)
    settings = BatchSettings.from_config(config, rows)
    manifest = settings.manifest(dataset)
    # Before the lock, which would keep the preprocessor from replacing the batches.
    require_same(buffer.folder, manifest, wait_seconds=_START_SECONDS)
    with (
        _locked(buffer.folder, run_folder, cluster) as (role, run_role),
        StatusBar(bar_width=10) as bar,
    ):
        if cluster.writes_files:
            keep_messages(run_folder / message_log.file_name(locks.TRAINER))
        with command_line.loading_tensorflow():
            # TensorFlow takes seconds; everything else has been checked before.
            from resnet50.training.run_files import Run
            from resnet50.training.session import Session
        observer = _Terminal(args, config, dataset, bar)
        run = Run(
            run_folder,
            describe(config, dataset),
            batches_per_epoch=dataset.batches_per_epoch(config.train.batch_size),
            checkpoint_minutes=config.train.checkpoint_minutes,
            keep_checkpoints=config.train.keep_checkpoints,
            patience=config.train.patience,
            profile_steps=args.profile,
            cluster=cluster,
            role=run_role,
            start={
                "command": typed_command_line(),
                "commit": find_commit(PROJECT),
            },
        )
        stop = StopRequest()
        session = Session(
            config,
            dataset,
            epochs,
            is_resumed=args.resume
            or (args.resume_or_start and bool(list_checkpoints(run_folder))),
            gpus=args.gpus,
            source=BatchSource(buffer, settings.spec(dataset), manifest),
            role=role,
            run=run,
            observer=observer,
            stop=stop,
        )
        position = session.train()
    if position < Position(epochs.stop, 0):
        command = observer.resume_command(position, epochs.stop)
        say(f"stopped before {position}; resume with:\n    {command}")
        # The other hosts of a training stop without a signal.
        raise KeyboardInterrupt(stop.number or signal.SIGINT)
