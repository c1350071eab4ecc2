"""One start of train.py, from TensorFlow's first use to the last checkpoint."""

import contextlib
import dataclasses
import functools
import platform
import shutil

from resnet50.config.settings import Config
from resnet50.dataset.decoding import decoder_versions
from resnet50.dataset.images import Dataset
from resnet50.handoff import locks
from resnet50.handoff.locks import Role
from resnet50.handoff.lost_folder import TrainerFiles
from resnet50.handoff.progress import Position, ProgressError, StepRange, write_progress
from resnet50.handoff.reader import BatchReader, BatchSource, ReaderSettings
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.reports.starts import recorded_settings
from resnet50.reports.tables import EarlyStop
from resnet50.signals import StopRequest
from resnet50.training import resume
from resnet50.training.checkpoint import DamagedCheckpointError, checkpoint_bytes
from resnet50.training.checkpoint_folders import set_aside
from resnet50.training.description import CheckpointError, MissingCheckpointError
from resnet50.training.devices import (
    choices,
    hosts,
    introduction,
    meeting,
    memory,
    page_locked,
    selection,
)
from resnet50.training.devices.protocol import Devices
from resnet50.training.loop import Loop, place
from resnet50.training.run_files import Run
from resnet50.training.training_observer import TrainingObserver
from resnet50.training.update.loss import balanced_class_weights
from resnet50.training.update.schedules import PerStepNumbers
from resnet50.training.update.step import Training, create_training

# How long the hosts of a training wait for each other.
_MEETING_SECONDS = 120.0

# Keys of [train] that may differ between hosts.
_HOST_KEYS = (
    "buffer_folder",
    "buffer_size",
    "saved_models_folder",
    "sleep_time",
    "read_ahead",
)


@dataclasses.dataclass(frozen=True)
class Session:
    """A start of train.py: what it has read, checked and locked before TensorFlow."""

    config: Config
    dataset: Dataset
    epochs: range
    is_resumed: bool  # whether to start from the newest checkpoint
    gpus: str | None  # the value of --gpus; see ``select_gpus``
    source: BatchSource
    role: Role | None  # held in the buffer folder; None: the chief holds it
    run: Run
    observer: TrainingObserver
    stop: StopRequest  # which the training catches

    def train(self) -> Position:
        """Trains up to the last epoch or a stop signal; returns the next position.

        If the training has stopped early (see ``tables.early_stop``), that is the end.

        Raises:
            UserError: The training cannot start or continue.
        """
        device = selection.prepare_device(
            deterministic=self.config.train.deterministic,
            notify=self.observer.notify,
            gpus=self.gpus,
        )
        # Measured now: TensorFlow takes memory as soon as it creates a variable.
        free_bytes = memory.free_gpu_bytes(device.name) if device.num_gpus else None
        return self._choose(device)._train_on(device, free_bytes)

    def _choose(self, device: selection.Device) -> "Session":
        """Returns this session with every "auto" of [train] decided."""
        run, num_hosts = self.run, max(1, len(self.run.cluster.addresses))
        train, recorded = self.config.train, {}
        if run.cluster.writes_files and "auto" in (train.precision, train.xla):
            try:
                recorded = resume.recorded(run.folder, self._epoch_start)
            except MissingCheckpointError:
                if not run.cluster.has_local_folders:
                    raise
        train = choices.choose(
            train,
            device,
            max(1, device.num_gpus) * num_hosts,
            recorded,
            self.observer.notify,
        )
        chosen = {key: getattr(train, key) for key in ("precision", "tf32", "xla")}
        config = dataclasses.replace(self.config, train=train)
        return dataclasses.replace(
            self,
            config=config,
            run=run._replace(
                description={**run.description, **chosen},
                start=self._start_record(config, device),
            ),
        )

    def _start_record(self, config: Config, device: selection.Device) -> dict:
        """With what this start trains, for starts.jsonl."""
        dataset, cluster = self.dataset, self.run.cluster
        return {
            **(self.run.start or {}),
            "epoch_end": self.epochs.stop,
            "device": (f"{device.num_gpus} x " if device.num_gpus > 1 else "")
            + device.name
            + ("" if cluster.is_alone else f", {len(cluster.addresses)} hosts"),
            "images": f"{dataset.num_images:,} of {dataset.num_classes:,} classes, "
            f"fingerprint {dataset.fingerprint}",
            "versions": {
                "Python": platform.python_version(),
                **selection.library_versions(),
                **decoder_versions(),
            },
            "settings": recorded_settings(config),
        }

    @property
    def _epoch_start(self) -> int | None:
        return None if self.is_resumed else self.epochs.start

    def _train_on(self, device: selection.Device, free_bytes: int | None) -> Position:
        train, notify = self.config.train, self.observer.notify
        cluster = self.run.cluster
        met = None
        if not cluster.is_alone:
            describe = functools.partial(self._joint_settings, device)
            seconds = _MEETING_SECONDS
            met = meeting.meet(cluster, describe, seconds=seconds, notify=notify)
        with hosts.lost_hosts_reported(met):
            devices = selection.create_devices(device, cluster, train.batch_size)
            training = self._create_training(devices)
            start = self._restore(training, devices)
            end = Position(self.epochs.stop, 0)
            if cluster.writes_files:
                self._announce(min(start, end))
            if start >= end:
                notify(f"{self.run.folder}: is already trained up to {end}")
                return start
            with self._memory_watched(training, devices, free_bytes):
                return self._run_loop(training, devices, start, end, met)

    def _memory_watched(
        self, training: Training, devices: Devices, free_bytes: int | None
    ) -> contextlib.AbstractContextManager:
        """Reports the GPU memory that is needed, and that it is full in one line."""
        if not devices.has_gpu:
            return contextlib.nullcontext()
        train, crop_size = self.config.train, self.config.augmentation.crop_size
        need = memory.MemoryNeed(
            train,
            crop_size,
            training.model.num_parameters,
            num_trained=training.model.num_trained,
            trainable=self.config.model.trainable,
        )
        batch_size = train.batch_size // devices.count
        if free_bytes is not None:
            self.observer.notify(need.line(batch_size, free_bytes))
        return need.reported(batch_size, free_bytes)

    def _joint_settings(self, device: selection.Device) -> dict:
        """What must be equal on all hosts."""
        config, folder = self.config, self.source.buffer.folder
        sections = {
            f"[{name}] {key}": value
            for name in ("augmentation", "model", "batch_renorm", "train")
            for key, value in dataclasses.asdict(getattr(config, name)).items()
            if key not in _HOST_KEYS
        }
        if self.run.cluster.has_local_folders:
            # Each host makes its rows from its own copy of the images.
            shared = {"digest of 16 images": self.dataset.sample_digest()}
        else:
            # The chief's process, for all that see its folder.
            owner = locks.owner_id(folder, locks.TRAINER)
            shared = {introduction.SHARED_FOLDER: owner}
        return {
            "number of GPUs": device.num_gpus,
            **selection.library_versions(),
            **decoder_versions(),
            "[dataset] channel_mean": config.dataset.channel_mean,
            "[dataset] channel_std": config.dataset.channel_std,
            **sections,
            **self.run.description,
            "epoch_end": self.epochs.stop,
            **shared,
        }

    def _create_training(self, devices: Devices) -> Training:
        config, train, notify = self.config, self.config.train, self.observer.notify
        weights = None
        if train.class_weights == "balanced":
            weights = balanced_class_weights(self.dataset.class_counts)
            notify(f"class weights from {weights.min():.3g} to {weights.max():.3g}")
        training = create_training(
            self.dataset.num_classes,
            config.model,
            train,
            ChannelStatistics.from_config(config.dataset),
            devices,
            class_weights=weights,
        )
        group, model = train.accumulate_batches, training.model
        trained = f", {model.num_trained:,} of them trained"
        notify(
            f"ResNet-50 {config.model.variant}, {model.num_parameters:,} parameters"
            + (trained if config.model.trainable != "all" else "")
            + f", {self.dataset.num_classes:,} classes, "
            f"{self.run.batches_per_epoch:,} batches of {train.batch_size} an epoch"
            + (f", {group} to an update" if group > 1 else "")
            + f", in {train.precision}"
            + (", compiled by XLA" if train.xla else "")
            + (f", shared by {devices.count} devices" if devices.count > 1 else "")
        )
        if self.run.cluster.writes_files:
            size = checkpoint_bytes(training)
            room = shutil.disk_usage(self.run.folder).free // size
            notify(
                f"{self.run.folder}: a checkpoint takes {size / 1e6:.0f} MB, "
                f"{room:,} more fit"
            )
        return training

    def _restore(
        self, training: Training, devices: Devices | hosts.HostDevices
    ) -> Position:
        """Restores the checkpoint to start from; returns the next position."""
        if isinstance(devices, hosts.HostDevices):
            return self._restore_jointly(training, devices)
        return self._restore_own(training)

    def _restore_own(self, training: Training) -> Position:
        return resume.restore(
            training,
            self.run.folder,
            self.run.description,
            epoch_start=self._epoch_start,
            notify=self.observer.notify,
        )

    def _restore_jointly(
        self, training: Training, devices: hosts.HostDevices
    ) -> Position:
        """All hosts copy from the first of those that have the newest checkpoint.

        Without local folders, only the chief has any.
        """
        run, own = self.run, None
        name = run.cluster.name
        missing = CheckpointError(f"{name(0)}, has no checkpoint to start from")
        if run.cluster.writes_files:
            try:
                own = self._restore_own(training)
            except (MissingCheckpointError, DamagedCheckpointError) as error:
                missing = error
        found = devices.gather(own)
        newest = max((position for position in found if position), default=None)
        if newest is None:
            raise missing
        source = found.index(newest)
        if run.cluster.has_local_folders and own != newest:
            self.observer.notify(
                f"{run.folder}: {name(source)}, has the newest checkpoint, {newest}; "
                f"this host, which has {own or 'none'}, copies it"
            )
            # Such as those after --epoch_start; the next --resume would take them.
            set_aside(run.folder, newest, self.observer.notify)
        devices.copy_from(source, training.variables)
        return newest

    def _announce(self, position: Position) -> None:
        """Writes the first position for a preprocessor, running or yet to start."""
        folder = self.source.buffer.folder
        try:
            write_progress(folder, position)
        except OSError as error:
            raise ProgressError(
                f"{folder}: the progress cannot be written: {error.strerror}"
            ) from None

    def _run_loop(
        self,
        training: Training,
        devices: Devices | hosts.HostDevices,
        start: Position,
        end: Position,
        met: meeting.Meeting | None,
    ) -> Position:
        """Trains from a position; returns what ``train`` does."""
        run, observer, stop = self.run, self.observer, self.stop
        self.source.read_into(page_locked.find_allocator())
        config, train, cluster = self.config, self.config.train, run.cluster
        command = observer.preprocessor_command(range(start.epoch, end.epoch))
        numbers = PerStepNumbers(train, config.batch_renorm, run.batches_per_epoch)
        with (
            stop.caught(),
            BatchReader(
                self.source,
                StepRange.between(start, end, run.batches_per_epoch),
                ReaderSettings(train.read_ahead, train.sleep_time, command),
                TrainerFiles(self.role, observer, writes_progress=cluster.writes_files),
                observer,
                # The reader asks only while the loop runs.
                should_stop=lambda: stop.is_made or loop.early_stop is not None,
                place=functools.partial(place, training, numbers),
            ) as reader,
        ):
            batches: BatchReader | hosts.JointReader = reader
            if isinstance(devices, hosts.HostDevices) and met is not None:
                batches = hosts.JointReader(
                    reader, devices, met, lambda: loop.is_save_due()
                )
            loop = Loop(training, batches, self.source.buffer, run, numbers, observer)
            position = loop.run(start)
        if position == end:
            observer.notify(f"{run.folder}: trained up to epoch {end.epoch}")
        elif train.patience and self._is_over(loop, devices):
            if loop.early_stop is not None:
                self._end_early(loop.early_stop)
            if cluster.writes_files:
                self._announce(end)  # Lets the preprocessor end, too.
            return end
        return position

    def _is_over(self, loop: Loop, devices: Devices | hosts.HostDevices) -> bool:
        """Whether the training has ended early; one host may know it first."""
        is_over = loop.early_stop is not None
        if isinstance(devices, hosts.HostDevices):
            return devices.any(is_over)
        return is_over

    def _end_early(self, reason: EarlyStop) -> None:
        """Says why."""
        folder, patience = self.run.folder, self.config.train.patience
        self.observer.notify(
            f"{folder}: stopped early: the top-1 of epoch {reason.best} was not "
            f"exceeded up to epoch {reason.epoch} (to continue, set [train] patience "
            f"= {patience} to more, or to 0, and --resume)"
        )
