"""One start of train.py, from TensorFlow's first use to the last checkpoint."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

from resnet50.config.settings import Config
from resnet50.dataset.images import Dataset
from resnet50.handoff.locks import Role
from resnet50.handoff.lost_folder import TrainerFiles
from resnet50.handoff.progress import (
    Position,
    ProgressError,
    StepRange,
    write_progress,
)
from resnet50.handoff.reader import BatchReader, BatchSource, ReaderSettings
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.signals import StopRequest
from resnet50.training import description, resume
from resnet50.training.checkpoint import checkpoint_bytes
from resnet50.training.devices import hosts, meeting, selection
from resnet50.training.devices.protocol import Devices
from resnet50.training.loop import Loop
from resnet50.training.per_step import PerStepNumbers
from resnet50.training.run_files import Run
from resnet50.training.training_observer import TrainingObserver
from resnet50.training.update.step import Training, create_training

# How long the hosts of a training wait for each other.
_MEETING_SECONDS = 120.0

# Keys of [train] that may differ between hosts.
_HOST_KEYS = ("buffer_folder", "saved_models_folder", "sleep_time", "read_ahead")


@dataclasses.dataclass(frozen=True)
class Session:
    """What train.py has read, checked and locked before TensorFlow is loaded."""

    config: Config
    dataset: Dataset
    epochs: range
    is_resumed: bool  # whether to start from the newest checkpoint
    gpus: str | None  # the value of --gpus; see ``select_gpus``
    profile_steps: int  # see ``Run``
    source: BatchSource
    run_folder: Path
    cluster: meeting.Cluster
    roles: tuple[Role, ...]  # held in the buffer folder
    run_role: Role | None  # held in the run's folder, by the chief

    @property
    def batches_per_epoch(self) -> int:
        """Number of whole batches in an epoch."""
        return self.dataset.batches_per_epoch(self.config.train.batch_size)

    @property
    def description(self) -> dict:
        """What identifies this training."""
        return description.describe(self.config, self.dataset)


def run_session(session: Session, observer: TrainingObserver) -> Position:
    """Trains up to the last epoch or a stop signal.

    Returns:
        The position of the next batch.

    Raises:
        UserError: The training cannot start or go on.
    """
    train, notify = session.config.train, observer.notify
    folder, cluster = session.source.buffer.folder, session.cluster
    device = selection.prepare_device(
        deterministic=train.deterministic, notify=notify, gpus=session.gpus
    )
    selection.check_precision(train.precision, device, notify)
    if not cluster.is_alone:
        settings = _joint_settings(session, device)
        meeting.meet(folder, cluster, settings, seconds=_MEETING_SECONDS, notify=notify)
    with hosts.lost_hosts_reported(folder, cluster):
        devices = selection.create_devices(device, cluster, train.batch_size)
        training = _create_training(session, device, devices, notify)
        start = _restore(session, training, devices, notify)
        end = Position(session.epochs.stop, 0)
        if cluster.is_chief:
            _announce(folder, min(start, end))
        if start >= end:
            notify(f"{session.run_folder}: is trained up to {end} already")
            return start
        return _train(session, training, devices, start, observer)


def _joint_settings(session: Session, device: selection.Device) -> dict:
    """What must be equal on all hosts."""
    sections = {
        f"[{name}] {key}": value
        for name in ("model", "batch_renorm", "train")
        for key, value in dataclasses.asdict(getattr(session.config, name)).items()
        if key not in _HOST_KEYS
    }
    return {
        "number of workers": len(session.cluster.addresses),
        "number of GPUs": device.num_gpus,
        **selection.library_versions(),
        **sections,
        **session.description,
        "epoch_end": session.epochs.stop,
    }


def _create_training(
    session: Session,
    device: selection.Device,
    devices: Devices,
    notify: Callable[[str], None],
) -> Training:
    config, train = session.config, session.config.train
    uses_xla = train.xla and selection.can_use_xla(device, devices.count, notify)
    training = create_training(
        session.dataset.num_classes,
        config.model,
        dataclasses.replace(train, xla=uses_xla),
        ChannelStatistics.from_config(config.dataset),
        devices,
    )
    group = train.accumulate_batches
    notify(
        f"ResNet-50 {config.model.variant}, {training.model.num_parameters:,} "
        f"parameters, {session.dataset.num_classes:,} classes, "
        f"{session.batches_per_epoch:,} batches of {train.batch_size} an epoch"
        + (f", {group} to an update" if group > 1 else "")
        + (f", shared by {devices.count} devices" if devices.count > 1 else "")
    )
    if session.cluster.is_chief:
        size = checkpoint_bytes(training)
        room = shutil.disk_usage(session.run_folder).free // size
        notify(
            f"{session.run_folder}: a checkpoint takes {size / 1e6:.0f} MB, "
            f"{room:,} more fit"
        )
    return training


def _restore(
    session: Session,
    training: Training,
    devices: Devices | hosts.HostDevices,
    notify: Callable[[str], None],
) -> Position:
    """Restores the checkpoint to start from; the other hosts copy from the chief."""
    start = None
    if session.cluster.is_chief:
        start = resume.restore(
            training,
            session.run_folder,
            session.description,
            epoch_start=None if session.is_resumed else session.epochs.start,
            notify=notify,
        )
    if session.cluster.is_alone:
        return start
    return devices.copy_from_chief(training.variables, start)


def _announce(buffer_folder: Path, position: Position) -> None:
    """Writes the first position for a preprocessor, running or yet to start."""
    try:
        write_progress(buffer_folder, position)
    except OSError as error:
        raise ProgressError(
            f"{buffer_folder}: the progress cannot be written: {error.strerror}"
        ) from None


def _train(
    session: Session,
    training: Training,
    devices: Devices | hosts.HostDevices,
    start: Position,
    observer: TrainingObserver,
) -> Position:
    """Runs the loop; returns the position of the next batch."""
    config, end, stop = session.config, session.epochs.stop, StopRequest()
    run = Run(
        session.run_folder,
        session.description,
        session.batches_per_epoch,
        config.train.checkpoint_minutes,
        config.train.keep_checkpoints,
        session.profile_steps,
        session.cluster,
        session.run_role,
    )
    numbers = PerStepNumbers(config.train, config.batch_renorm, run.batches_per_epoch)
    with stop.caught(), _open_reader(session, start, stop, observer) as reader:
        if not session.cluster.is_alone:
            reader = hosts.JointReader(reader, devices)
        buffer = session.source.buffer
        position = Loop(training, reader, buffer, run, numbers, observer).run(start)
    if position == Position(end, 0):
        observer.notify(f"{session.run_folder}: trained up to epoch {end}")
    return position


def _open_reader(
    session: Session, start: Position, stop: StopRequest, observer: TrainingObserver
) -> BatchReader:
    train, end = session.config.train, session.epochs.stop
    command = observer.preprocessor_command(range(start.epoch, end))
    return BatchReader(
        session.source,
        StepRange.between(start, Position(end, 0), session.batches_per_epoch),
        ReaderSettings(train.read_ahead, train.sleep_time, command),
        TrainerFiles(session.roles, observer, writes_progress=session.cluster.is_chief),
        observer,
        should_stop=lambda: stop.is_made,
    )
