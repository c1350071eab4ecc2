"""What the files of a running pair of programs say. Only reads."""

import contextlib
from pathlib import Path

from resnet50.config.settings import TrainConfig
from resnet50.errors import UserError
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import manifest_rows, read_manifest
from resnet50.handoff.progress import ProgressError, read_progress, to_position
from resnet50.handoff.waiting import read_waiting
from resnet50.message_log import Message, file_name, newest_messages
from resnet50.reports.tables import METRICS_FILE, read_table

# A step that no training exceeds: the trainer may have another --epoch_end.
_ANY_END = 10**18


def find_trained_run(saved_models_folder: Path) -> Path | None:
    """The folder of the run that is being trained; None if there is none."""
    with contextlib.suppress(OSError):  # Such as a missing folder.
        for folder in sorted(saved_models_folder.iterdir()):
            if locks.is_alive(folder, locks.TRAINER):
                return folder
    return None


def duration(seconds: float) -> str:
    """Days, hours and minutes; seconds if it is less than a minute."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes:02d} min"


class PairFiles:
    """Reads the buffer folder and the run's folder; the latter may be unknown."""

    def __init__(self, train: TrainConfig, run_folder: Path | None, epoch_end: int):
        """Reads the buffer's manifest."""
        self.buffer = BatchBuffer(train.buffer_folder)
        self.buffer_size, self.epoch_end = train.buffer_size, epoch_end
        self.run_folder = run_folder
        self._manifest: dict = {}
        self.read_manifest()

    def read_manifest(self) -> None:
        """Reads the manifest again; keeps the old one if the buffer was emptied."""
        with contextlib.suppress(OSError):
            self._manifest = read_manifest(self.buffer.folder) or self._manifest
        self.buffer = BatchBuffer(self.buffer.folder, manifest_rows(self._manifest))

    @property
    def batch_size(self) -> int:
        """From the buffer's manifest; 0 if that does not say."""
        size = self._manifest.get("batch_size")
        return size if isinstance(size, int) else 0

    @property
    def batches_per_epoch(self) -> int:
        """From the buffer's manifest.

        Raises:
            ProgressError: That does not say.
        """
        num_images = self._manifest.get("num_images")
        if isinstance(num_images, int) and 0 < self.batch_size <= num_images:
            return num_images // self.batch_size
        raise ProgressError(
            f"{self.buffer.folder}: no batches have been made here yet "
            "(runtime_preprocessing.py makes them)"
        )

    @property
    def end_step(self) -> int:
        """The step after the last one of the training.

        Raises:
            ProgressError: It is unknown.
        """
        return self.epoch_end * self.batches_per_epoch

    def read_step(self) -> int:
        """The step of the next batch that the trainer needs.

        Raises:
            ProgressError: It is unknown.
        """
        return read_progress(self.buffer.folder, self.batches_per_epoch, _ANY_END)

    def step_or_none(self) -> int | None:
        """The same; None if it is unknown."""
        with contextlib.suppress(ProgressError):
            return self.read_step()
        return None

    def num_wanted(self, step: int) -> int:
        """How many batches a full buffer has ahead of a step."""
        return min(self.buffer_size, max(self.end_step - step, 0))

    def steps_ready(self, step: int) -> tuple[int, bool]:
        """How many batches are ready from a step on, and whether its own is."""
        position = to_position(step, self.batches_per_epoch)
        try:
            ready = self.buffer.ready()
        except OSError:  # Such as a deleted folder.
            return 0, False
        return sum(other >= position for other in ready), position in ready

    def waiting_for(self) -> str:
        """Which of several hosts the training waits for; "" if for none."""
        return read_waiting(self.buffer.folder)

    def metrics(self) -> list[dict[str, str]]:
        """The rows of the run's metrics.csv; none if there is no such table.

        Raises:
            TableError: It is damaged.
        """
        return read_table(self.run_folder / METRICS_FILE) if self.run_folder else []

    def metrics_or_none(self) -> list[dict[str, str]]:
        """The same; none, too, if the table is damaged."""
        with contextlib.suppress(UserError, OSError):
            return self.metrics()
        return []

    def newest_messages(self, number: int) -> list[tuple[str, Message]]:
        """The last messages of both programs, with the role of each; oldest first."""
        folders = {locks.PREPROCESSOR: self.buffer.folder}
        if self.run_folder is not None:
            folders[locks.TRAINER] = self.run_folder
        found = [
            (role, message)
            for role, folder in folders.items()
            for message in newest_messages(folder / file_name(role), number)
        ]
        return sorted(found, key=lambda pair: pair[1].time)[-number:]
