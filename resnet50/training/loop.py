"""The training loop: takes batches from a reader and makes a step with each."""

import time
from typing import NamedTuple, NoReturn

import numpy as np
import tensorflow as tf

from resnet50.errors import UserError
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.cluster import Cluster
from resnet50.handoff.progress import Position, to_position, to_step
from resnet50.handoff.reader import Batch, BatchReader
from resnet50.reports.speed import THIS_WORKER, Speed
from resnet50.reports.tables import EarlyStop
from resnet50.training.devices.hosts import JointReader
from resnet50.training.run_files import Run, RunFiles
from resnet50.training.training_observer import Clock, TrainingObserver, TrainingStatus
from resnet50.training.update.schedules import PerStepNumbers
from resnet50.training.update.step import Training

# How often the loop checks the losses and the preprocessor.
_POLL_SECONDS = 1.0


class LossError(UserError):
    """The loss or a weight is infinite or not a number, so the weights are lost."""


class PlacedBatch(NamedTuple):
    """A batch on the device."""

    step: int
    position: Position
    arguments: tuple[tf.Tensor, ...]  # of ``Training.step``


def place(training: Training, numbers: PerStepNumbers, batch: Batch) -> PlacedBatch:
    """Copies a batch and the numbers of its step to the device."""
    arguments = training.place(
        batch.images, batch.labels, batch.shifts, numbers.at(batch.step)
    )
    return PlacedBatch(batch.step, batch.position, arguments)


def _workers(cluster: Cluster) -> list[str]:
    """The names of the hosts, if each has its own preprocessing."""
    if not cluster.has_local_folders:
        return []
    names = [cluster.name(index) for index in range(len(cluster.addresses))]
    names[cluster.index] = THIS_WORKER
    return names


class Loop:
    """Trains on the batches of a reader until the reader ends."""

    def __init__(
        self,
        training: Training,
        reader: BatchReader | JointReader,
        buffer: BatchBuffer,
        run: Run,
        numbers: PerStepNumbers,
        observer: TrainingObserver,
    ):
        """Takes the buffer to write the progress into and to count ready batches in.

        The reader delivers PlacedBatches in order; it ends early if a stop is
        requested, or if there is an ``early_stop``.
        """
        self._training = training
        self._reader = reader
        self._buffer = buffer
        self._run = run
        self._numbers = numbers
        self._observer = observer
        self._clock = Clock(reader, _workers(run.cluster))
        self._files = RunFiles(
            training, buffer.folder, run, self._clock, observer.notify
        )
        self._position: Position | None = None  # of the next batch
        self._unchecked: list[tuple[Position, tf.Tensor]] = []
        self._polled_at = time.monotonic()
        # The first step, which compiles the network, is in no profile.
        self._steps_in_profile = -1
        self._profile_start = self._clock.mark()

    def run(self, start: Position) -> Position:
        """Trains until the reader ends; returns the next position, which is saved.

        Raises:
            LossError: The loss or a weight is no longer finite.
            UserError: The reader has failed; the trained steps are saved.
        """
        self._position = start
        self._files.begin(start)
        try:
            for batch in self._reader:
                self._train(batch)
        except LossError:
            raise
        except UserError:  # The reader has failed, but the weights are sound.
            if self._position != self._files.saved:
                self._require_finite(self._position)
                self._files.save_at_end(self._position)
            raise
        if self._position != self._files.saved:
            self._require_finite(self._position)
            self._files.save_at_end(self._position)
        return self._position

    @property
    def early_stop(self) -> EarlyStop | None:
        """Why the reader should end the training now; None if it should not."""
        return self._files.early_stop

    def _train(self, batch: PlacedBatch) -> None:
        """Makes one step and everything due after it."""
        is_update = self._numbers.is_update(batch.step)
        train = self._training.step if is_update else self._training.accumulate
        loss = train(*batch.arguments)
        self._unchecked.append((batch.position, loss))
        _, labels, *_ = batch.arguments
        self._clock.num_images += len(labels) * self._run.cluster.num_parts
        # At once: if something below fails, the step is part of what is saved.
        position = to_position(batch.step + 1, self._run.batches_per_epoch)
        self._position = position
        if not self._run.cluster.is_alone:
            # Waits for the loss. Then all hosts have read the batch, so the progress
            # may let it be deleted. If it is not finite, all hosts end here.
            self._check_losses()
        self._files.write_progress(position)
        if position.batch_index == 0:
            self._finish_epoch(batch.position.epoch, position)
        elif self._is_save_due():
            self._save(position)
        elif time.monotonic() > self._polled_at + _POLL_SECONDS:
            self._poll(position)
        if self._run.profile_steps:
            self._profile()

    def is_save_due(self) -> bool:
        """Whether it is time for a checkpoint inside an epoch, by this host's clock."""
        return self._files.is_save_due()

    def _is_save_due(self) -> bool:
        """Whether to save now; several hosts save after the same step."""
        if isinstance(self._reader, JointReader):
            return self._reader.is_save_due
        return self.is_save_due()

    def _poll(self, position: Position) -> None:
        """Checks the losses, for which the host waits, and the preprocessor."""
        self._polled_at = time.monotonic()
        is_due = self._observer.is_due()
        # Before the losses: meanwhile the device works.
        num_ready = self._count_ready(position) if is_due else None
        self._check_losses()
        self._reader.check_preprocessor()
        speed = self._clock.speed()
        self._files.write_waiting(speed.waiting_for())
        if not is_due:
            return
        means = self._training.totals.means()
        self._observer.show(TrainingStatus(position, means, speed, num_ready))

    def _count_ready(self, position: Position) -> int | None:
        """How many batches are ready from a position on; None if that is unknown."""
        try:
            return sum(ready >= position for ready in self._buffer.ready())
        except OSError:  # The reader, which needs the folder, reports this.
            return None

    def _profile(self) -> None:
        """Counts a step; after every ``profile_steps`` reports their speed."""
        self._steps_in_profile += 1
        if self._steps_in_profile in (0, self._run.profile_steps):
            self._check_losses()  # Waits for the device.
            if self._steps_in_profile:
                speed = self._clock.since(self._profile_start)
                self._report(f"the last {self._run.profile_steps} steps", speed)
            self._profile_start = self._clock.mark()
            self._steps_in_profile = 0

    def _report(self, stretch: str, speed: Speed) -> None:
        advice = self._observer.advise(speed)
        self._observer.notify(f"{stretch}: {speed.line()}\n    {advice}")

    def _check_losses(self) -> None:
        """Raises LossError if a loss since the last check is not finite."""
        losses = np.array([float(loss) for _, loss in self._unchecked])
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            position = self._unchecked[bad[0]][0]
            self._raise_lost(position, f"the loss is {losses[bad[0]]}")
        self._unchecked.clear()

    def _require_finite(self, position: Position) -> None:
        """Raises LossError rather than let lost weights replace a good checkpoint.

        A loss predates its step's update, so the weights are checked too.
        """
        self._check_losses()
        if self._run.cluster.writes_files and not self._training.is_finite():
            step = to_step(position, self._run.batches_per_epoch) - 1
            last = to_position(step, self._run.batches_per_epoch)
            self._raise_lost(last, "the weights are not finite after it")

    def _raise_lost(self, position: Position, what: str) -> NoReturn:
        step = to_step(position, self._run.batches_per_epoch)
        raise LossError(
            f"{position} (step {step}): {what} (resume from the last checkpoint with "
            "--resume, or from an earlier one with --epoch_start, and a lower "
            "--learning_rate)",
            *self._observer.describe(position).splitlines(),
        )

    def _save(self, position: Position) -> None:
        self._require_finite(position)
        self._files.save(position)

    def _finish_epoch(self, epoch: int, position: Position) -> None:
        self._check_losses()
        totals, scale = self._training.totals, self._training.loss_scale
        means, speed = totals.means(), self._clock.speed()
        num_steps = to_step(position, self._run.batches_per_epoch)
        row = {
            "epoch": epoch,
            "steps": num_steps,  # since the training's start
            **{name: f"{value:.6g}" for name, value in means.items()},
            "learning_rate": f"{self._numbers.learning_rate(num_steps - 1):.6g}",
            "images_per_second": f"{speed.images_per_second:.2f}",
            "waiting": f"{speed.share(speed.waiting):.4f}",
            "saving": f"{speed.share(speed.saving):.4f}",
            "reading": f"{speed.share(speed.reading):.4f}",
            "seconds": f"{speed.seconds:.1f}",
        }
        line = (
            f"epoch {epoch}: loss {means['loss']:.3f}, top-1 {means['top1']:.1%}, "
            f"top-5 {means['top5']:.1%}, {speed.images_per_second:.1f} images/s, "
            + speed.waiting_text()
        )
        if scale is not None:
            row["skipped"] = int(totals.num_skipped.numpy())
            row["loss_scale"] = f"{scale.scale.numpy():g}"
            line += f", skipped {row['skipped']}, loss scale {row['loss_scale']}"
        if self._run.cluster.writes_files:
            self._observer.notify(line)
            self._report(f"epoch {epoch}", speed)
        # First, as a checkpoint after an error below must hold the next epoch's totals.
        totals.reset()
        self._files.record(row)
        # Before the checkpoint, so that its time counts in the next epoch.
        self._clock.restart()
        self._save(position)
        self._files.find_early_stop()
