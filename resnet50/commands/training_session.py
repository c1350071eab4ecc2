"""What train.py does once its settings are found sound: the part with TensorFlow."""

import argparse
import dataclasses
import os
import shutil
from pathlib import Path

from resnet50 import command_line
from resnet50.command_line import StatusBar, say
from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.lost_folder import TrainersPlace
from resnet50.handoff.manifest import require_same
from resnet50.handoff.progress import (
    Position,
    ProgressError,
    to_step,
    write_progress,
)
from resnet50.handoff.reader import BatchReader
from resnet50.preprocessing.batches import Assignments, BatchSettings
from resnet50.reports.speed import limit
from resnet50.signals import StopRequest
from resnet50.training import checkpoint, resume
from resnet50.training.devices import meeting as clusters
from resnet50.training.devices.hosts import JointReader, Workers, lost_worker_told
from resnet50.training.devices.meeting import Cluster
from resnet50.training.devices.replicas import (
    OneReplica,
    check_batch_size,
    create_replicas,
)
from resnet50.training.devices.selection import (
    Device,
    can_use_xla,
    check_precision,
    library_versions,
    prepare_device,
)
from resnet50.training.loop import Loop, PerStepNumbers, Run
from resnet50.training.update.step import Training, create_training

# How long the workers of a training on several machines wait for each other.
_MEETING_SECONDS = 120.0

# Keys of [train] that may differ between machines.
_OF_THE_MACHINE = ("buffer_folder", "saved_models_folder", "sleep_time", "read_ahead")


@dataclasses.dataclass(frozen=True)
class Session:
    """One start of the program, from the restored checkpoint to its end."""

    args: argparse.Namespace
    config: Config
    epochs: range
    dataset: Dataset
    buffer: BatchBuffer
    run_folder: Path
    cluster: Cluster
    # Held in the buffer folder; and in the run's, by the chief alone.
    roles: tuple[locks.Role, ...]
    run_role: locks.Role | None

    @property
    def recipe(self) -> BatchSettings:
        """What the batches must have been made with."""
        return BatchSettings.from_config(self.config)

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.dataset.batches_per_epoch(self.config.train.batch_size)

    @property
    def description(self) -> dict:
        """What makes it this training and no other."""
        return resume.describe(self.config, self.dataset, self.batches_per_epoch)

    def run(self) -> None:
        """Trains; the caller holds the locks of the buffer and of the run."""
        device = prepare_device(
            deterministic=self.config.train.deterministic,
            notify=say,
            gpus=self.args.gpus,
        )
        check_precision(self.config.train.precision, device, say)
        if not self.cluster.is_alone:
            clusters.meet(
                self.buffer.folder,
                self.cluster,
                self._settings(device),
                seconds=_MEETING_SECONDS,
                notify=say,
            )
        with lost_worker_told(self.buffer.folder, self.cluster):
            self._run_on(device)

    def _run_on(self, device: Device) -> None:
        replicas = (
            create_replicas(device.num_gpus)
            if self.cluster.is_alone
            else Workers(self.cluster)
        )
        check_batch_size(self.config.train.batch_size, replicas)
        training = self._create_training(device, replicas)
        start = self._restore(training, replicas)
        end = Position(self.epochs.stop, 0)
        if self.cluster.is_chief:
            self._announce(min(start, end))
        if start >= end:
            say(f"{self.run_folder}: is trained up to {end} already")
            return
        position = self._train(training, replicas, start, end)
        if position < end:
            say(f"stopped before {position}; go on with:\n    {self._resume(position)}")
            raise KeyboardInterrupt
        say(f"{self.run_folder}: trained up to epoch {end.epoch}")

    def _settings(self, device: Device) -> dict:
        """What must be the same for all workers."""
        sections = {
            f"[{name}] {key}": value
            for name in ("model", "batch_renorm", "train")
            for key, value in dataclasses.asdict(getattr(self.config, name)).items()
            if key not in _OF_THE_MACHINE
        }
        return {
            "number of workers": len(self.cluster.addresses),
            "number of GPUs": device.num_gpus,
            **library_versions(),
            **sections,
            **self.description,
            "epoch_end": self.epochs.stop,
        }

    def _create_training(self, device: Device, replicas: OneReplica) -> Training:
        config, group = self.config, self.config.train.accumulate_batches
        xla = config.train.xla and (
            replicas.can_use_xla(say) and can_use_xla(device, say)
        )
        training = create_training(
            self.dataset.num_classes,
            config.model,
            dataclasses.replace(config.train, xla=xla),
            self.recipe.statistics,
            replicas,
        )
        say(
            f"ResNet-50 {config.model.variant}, {training.model.num_parameters:,} "
            f"parameters, {self.dataset.num_classes:,} classes, "
            f"{self.batches_per_epoch:,} batches of {config.train.batch_size} an epoch"
            + (f", {group} to an update" if group > 1 else "")
            + (f", shared by {replicas.count} devices" if replicas.count > 1 else "")
        )
        if not self.cluster.is_chief:
            return training
        size = checkpoint.checkpoint_bytes(training)
        room = shutil.disk_usage(self.run_folder).free // size
        say(
            f"{self.run_folder}: a checkpoint takes {size / 1e6:.0f} MB, "
            f"{room:,} more fit"
        )
        return training

    def _restore(self, training: Training, replicas: OneReplica) -> Position:
        """Restores the checkpoint to start from; of several workers, the chief does."""
        start = None
        if self.cluster.is_chief:
            start = resume.restore(
                training,
                self.run_folder,
                self.description,
                epoch_start=None if self.args.resume else self.epochs.start,
                notify=say,
            )
        if self.cluster.is_alone:
            return start
        return replicas.copy_from_chief(training.variables, start)

    def _announce(self, position: Position) -> None:
        """Tells a preprocessor, running or yet to start, where to begin."""
        try:
            write_progress(self.buffer.folder, position)
        except OSError as error:
            raise ProgressError(
                f"{self.buffer.folder}: the progress cannot be written: "
                f"{error.strerror}"
            ) from None

    def _train(
        self,
        training: Training,
        replicas: OneReplica,
        start: Position,
        end: Position,
    ) -> Position:
        """Runs the loop; returns the position of the next batch."""
        stop = StopRequest()
        batches_per_epoch, train = self.batches_per_epoch, self.config.train
        with (
            stop.caught(),
            self._open_reader(start, end, stop) as reader,
            StatusBar("{desc} {n_fmt}/{total_fmt} |{bar:10}| {unit}") as bar,
        ):
            return Loop(
                training,
                reader if self.cluster.is_alone else JointReader(reader, replicas),
                self.buffer,
                Run(
                    self.run_folder,
                    self.description,
                    batches_per_epoch,
                    train.buffer_size,
                    train.checkpoint_minutes,
                    train.keep_checkpoints,
                    self.cluster,
                    self.run_role,
                ),
                PerStepNumbers(train, self.config.batch_renorm, batches_per_epoch),
                describe_batch=self._describe_batch,
                draw=lambda position, text: bar.draw(
                    f"epoch {position.epoch}",
                    position.batch_index,
                    batches_per_epoch,
                    text,
                ),
                is_draw_due=bar.is_due,
                # Several workers stop together, before the next batch.
                should_stop=lambda: self.cluster.is_alone and stop.is_made,
                notify=say,
                advise=lambda speed: limit(
                    speed,
                    train,
                    self.config.runtime_preprocessing,
                    os.cpu_count() or 1,
                ),
                profile_steps=self.args.profile,
            ).run(start)

    def _open_reader(
        self, start: Position, end: Position, stop: StopRequest
    ) -> BatchReader:
        train, batches_per_epoch = self.config.train, self.batches_per_epoch
        manifest = self.recipe.manifest(self.dataset)
        return BatchReader(
            self.buffer,
            self.recipe.spec(self.dataset),
            range(to_step(start, batches_per_epoch), to_step(end, batches_per_epoch)),
            batches_per_epoch=batches_per_epoch,
            read_ahead=train.read_ahead,
            sleep_seconds=train.sleep_time,
            is_buffer_ready=lambda: require_same(self.buffer.folder, manifest),
            should_stop=lambda: stop.is_made,
            notify=say,
            how_to_start=command_line.command_for(
                "runtime_preprocessing.py",
                self.args,
                epoch_start=start.epoch,
                epoch_end=end.epoch,
                batch_size=train.batch_size,
            ),
            keep_place=TrainersPlace(
                self.roles, say, writes_progress=self.cluster.is_chief
            ).keep,
        )

    def _describe_batch(self, position: Position) -> str:
        """Lines that name a batch's images, and the command that shows them."""
        assignment = Assignments(self.dataset, self.recipe)[position]
        command = command_line.command_for(
            "-m resnet50 preview",
            self.args,
            epoch=position.epoch,
            batch=position.batch_index,
            batch_size=self.config.train.batch_size,
        )
        names = map(str, assignment.sources[: self.config.train.batch_size])
        return "\n".join(["its images:", *names, f"see them with:\n    {command}"])

    def _resume(self, position: Position) -> str:
        """The command that goes on from a position."""
        # At the first batch there is something to resume only if weights are imported.
        is_resumable = self.args.resume or position > Position(0, 0)
        return command_line.command_for(
            "train.py",
            self.args,
            run_folder=self.args.run_folder,
            **({"resume": None} if is_resumable else {}),
            **({"gpus": self.args.gpus} if self.args.gpus else {}),
            epoch_end=self.epochs.stop,
            batch_size=self.config.train.batch_size,
            learning_rate=self.config.train.learning_rate,
        )
