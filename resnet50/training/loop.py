"""The epoch loop: batches in, weights, progress, checkpoints and metrics out."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import tensorflow as tf

from resnet50.config.settings import BatchRenormConfig, TrainConfig
from resnet50.errors import UserError
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.locks import Role
from resnet50.handoff.progress import (
    Position,
    to_position,
    to_step,
    write_progress,
)
from resnet50.handoff.reader import Batch, BatchReader
from resnet50.reports.speed import Speed
from resnet50.reports.tables import METRICS_FILE, TableError, record_epoch
from resnet50.training import checkpoint
from resnet50.training.clock import Clock
from resnet50.training.devices.meeting import ALONE, Cluster
from resnet50.training.update.mixup import mixing_share_at
from resnet50.training.update.schedules import (
    is_update_at,
    learning_rate_at,
    renorm_limits_at,
)
from resnet50.training.update.step import StepNumbers, Training

# How often the loop looks at the losses and at the other process.
_LOOK_SECONDS = 1.0

# After how long a checkpoint that could not be saved is tried again.
_RETRY_SECONDS = 30.0
_END_RETRY_SECONDS = 3.0


class LossError(UserError):
    """The loss is infinite or not a number: the weights are lost."""


class PerStepNumbers:
    """What changes from step to step: the numbers of ``schedules``."""

    def __init__(
        self, train: TrainConfig, renorm: BatchRenormConfig, batches_per_epoch: int
    ):
        """Turns the configuration's epochs into steps."""
        self._schedule = {
            "base_learning_rate": train.learning_rate,
            "schedule": train.schedule,
            "total_steps": train.epochs * batches_per_epoch,
            "warmup_steps": round(train.warmup_epochs * batches_per_epoch),
            "decay_steps": [round(e * batches_per_epoch) for e in train.decay_epochs],
            "decay_factor": train.decay_factor,
        }
        self._renorm = {
            "r_max": renorm.r_max,
            "r_start_step": renorm.r_start_step,
            "r_end_step": renorm.r_end_step,
            "d_max": renorm.d_max,
            "d_start_step": renorm.d_start_step,
            "d_end_step": renorm.d_end_step,
        }
        self._mixup = {"seed": train.seed, "alpha": train.mixup_alpha}
        self._groups = {
            "batches_per_epoch": batches_per_epoch,
            "accumulate_batches": train.accumulate_batches,
        }

    def is_update(self, step: int) -> bool:
        """Whether a step ends a group of batches and updates the weights."""
        return is_update_at(step, **self._groups)

    def learning_rate(self, step: int) -> float:
        """Of a step."""
        return learning_rate_at(step, **self._schedule)

    def at(self, step: int) -> StepNumbers:
        """All numbers of a step."""
        r_max, d_max = renorm_limits_at(step, **self._renorm)
        share = mixing_share_at(step, **self._mixup) if self._mixup["alpha"] else 1.0
        return StepNumbers(self.learning_rate(step), r_max, d_max, share)


class Run(NamedTuple):
    """Where a run stands and what belongs to it."""

    folder: Path
    description: dict  # see checkpoint.save
    batches_per_epoch: int
    buffer_size: int
    checkpoint_minutes: float
    keep_checkpoints: int
    # Of several workers, each trains all steps, and the chief alone writes.
    cluster: Cluster = ALONE
    role: Role | None = None  # the trainer's in the folder


class Loop:
    """Trains on the batches of a reader until they end or a stop is requested."""

    def __init__(
        self,
        training: Training,
        reader: BatchReader,
        buffer: BatchBuffer,
        run: Run,
        numbers: PerStepNumbers,
        *,
        describe_batch: Callable[[Position], str],
        draw: Callable[[Position, str], None],
        is_draw_due: Callable[[], bool],
        should_stop: Callable[[], bool],
        notify: Callable[[str], None],
        advise: Callable[[Speed], str],
        profile_steps: int = 0,
    ):
        """Prepares; nothing happens before ``run``.

        Args:
            training: What is trained.
            reader: Delivers the batches, in order.
            buffer: Where the progress is written.
            run: Where checkpoints and metrics go.
            numbers: What changes from step to step.
            describe_batch: Lines about the batch of a position, for LossError.
            draw: Shows what the training is at: takes a position and a line of text.
            is_draw_due: Whether the last drawing is old enough for another.
            should_stop: Asked after each step.
            notify: Takes a line for the user.
            advise: Says in one sentence what limits a speed.
            profile_steps: After how many steps to tell the speed, again and again; 0:
                only after each epoch.
        """
        self._training = training
        self._reader = reader
        self._buffer = buffer
        self._run = run
        self._numbers = numbers
        self._describe_batch = describe_batch
        self._show = draw
        self._is_draw_due = is_draw_due
        self._should_stop = should_stop
        self._notify = notify
        self._advise = advise
        self._clock = Clock(reader)
        self._profile_steps = profile_steps
        # The first step, which compiles the network, counts in no profile.
        self._steps_in_profile = -1
        self._unchecked: list[tuple[Position, tf.Tensor]] = []
        self._obstacles: set[str] = set()
        self._obstacles_at_end = False
        self._checkpoint_seconds = 60 * run.checkpoint_minutes or float("inf")
        self._looked_at = time.monotonic()
        self._save_at = self._looked_at + self._checkpoint_seconds

    def run(self, start: Position) -> Position:
        """Trains from a position on.

        Returns:
            The position of the next batch; a checkpoint of it is on the disk.

        Raises:
            LossError: The loss has become infinite or not a number.
            UserError: What the reader raises.
        """
        position = self._saved = start
        try:
            for batch in self._reader:
                position = self._train(batch)
                if self._should_stop():
                    break
        except LossError:
            raise
        except UserError:  # Of the reader; what is trained is sound.
            if position != self._saved:
                self._save(position)
            raise
        while self._saved != position and not self._save(position):
            if not self._obstacles_at_end:
                self._obstacles_at_end = True
                self._notify(
                    f"{self._run.folder}: free some room; what was trained since "
                    f"{self._saved} is lost otherwise (trying again every "
                    f"{_END_RETRY_SECONDS:g} s; Ctrl-C gives up)"
                )
            time.sleep(_END_RETRY_SECONDS)
        return position

    def _train(self, batch: Batch) -> Position:
        """Makes one step and all that is due after it; returns the next position."""
        numbers = self._numbers.at(batch.step)
        is_update = self._numbers.is_update(batch.step)
        train = self._training.step if is_update else self._training.accumulate
        loss = train(batch.images, batch.labels, batch.shifts, numbers)
        self._unchecked.append((batch.position, loss))
        self._clock.num_images += len(batch.labels)
        position = to_position(batch.step + 1, self._run.batches_per_epoch)
        if not self._run.cluster.is_alone:
            # Once the loss is there, all workers have read the batch, and the progress
            # lets it be deleted. And if it is not finite, all end here.
            self._check_losses()
        if self._run.cluster.is_chief:
            # Of a folder that has gone the reader tells, and writes it again.
            with (
                self._obstacle_told("writing the progress"),
                contextlib.suppress(FileNotFoundError),
            ):
                write_progress(self._buffer.folder, position)
        if position.batch_index == 0:
            self._finish_epoch(batch.position.epoch, position)
        elif time.monotonic() > self._save_at:
            self._save(position)
        elif time.monotonic() > self._looked_at + _LOOK_SECONDS:
            self._look(position)
        if self._profile_steps:
            self._profile()
        return position

    def _profile(self) -> None:
        """Counts a step; after profile_steps of them tells their speed."""
        self._steps_in_profile += 1
        if self._steps_in_profile in (0, self._profile_steps):
            self._check_losses()  # Waits for the device.
            if self._steps_in_profile:
                speed = self._clock.since(self._profile_start)
                self._tell_speed(f"the last {self._profile_steps} steps", speed)
            self._profile_start = self._clock.mark()
            self._steps_in_profile = 0

    def _tell_speed(self, of_what: str, speed: Speed) -> None:
        self._notify(f"{of_what}: {speed.line()}\n    {self._advise(speed)}")

    def _look(self, position: Position) -> None:
        """What is done once a second: it makes the host wait for the device."""
        self._looked_at = time.monotonic()
        self._check_losses()
        self._reader.check_preprocessor()
        if self._is_draw_due():
            self._draw(position)

    def _check_losses(self) -> None:
        """Raises LossError if a loss since the last look is not finite."""
        losses = np.array([float(loss) for _, loss in self._unchecked])
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            position = self._unchecked[bad[0]][0]
            self._raise_lost(position, f"the loss is {losses[bad[0]]}")
        self._unchecked.clear()

    def _raise_lost(self, position: Position, what: str) -> NoReturn:
        step = to_step(position, self._run.batches_per_epoch)
        raise LossError(
            f"{position} (step {step}): {what} (go on from the last checkpoint with "
            "--resume, or from an earlier one with --epoch_start, and a lower "
            "--learning_rate)\n" + self._describe_batch(position)
        )

    @contextlib.contextmanager
    def _obstacle_told(self, what: str) -> Iterator[None]:
        """Lets the training go on where a file cannot be written, and says so once."""
        try:
            yield
        except (OSError, checkpoint.SaveError, TableError) as error:
            if what not in self._obstacles:
                self._obstacles.add(what)
                self._notify(f"{what} failed, trying again later: {error}")
        else:
            if what in self._obstacles:
                self._obstacles.remove(what)
                self._notify(f"{what} works again")

    def _save(self, position: Position) -> bool:
        """Saves a checkpoint; False, having said why, if that is not possible now."""
        if not self._run.cluster.is_chief:
            self._saved = position
            return True
        # A loss tells of the weights before its step; what that has made of them shows
        # in themselves only. Lost weights must not replace a good checkpoint.
        self._check_losses()
        if not self._training.is_finite():
            step = to_step(position, self._run.batches_per_epoch) - 1
            last = to_position(step, self._run.batches_per_epoch)
            self._raise_lost(last, "the weights are not finite after it")
        self._save_at = time.monotonic() + _RETRY_SECONDS
        with self._clock.saving(), self._obstacle_told("saving a checkpoint"):
            self._keep_folder()
            checkpoint.save(
                self._training, self._run.folder, position, self._run.description
            )
            self._saved = position
            self._save_at = time.monotonic() + self._checkpoint_seconds
        with self._clock.saving(), self._obstacle_told("deleting old checkpoints"):
            checkpoint.prune(self._run.folder, self._run.keep_checkpoints)
        return self._saved == position

    def _finish_epoch(self, epoch: int, position: Position) -> None:
        self._check_losses()
        step = to_step(position, self._run.batches_per_epoch) - 1
        means, speed = self._training.totals.means(), self._clock.speed()
        row = {
            "epoch": epoch,
            "steps": step + 1,
            **{name: f"{value:.6g}" for name, value in means.items()},
            "learning_rate": f"{self._numbers.learning_rate(step):.6g}",
            "images_per_second": f"{speed.images_per_second:.2f}",
            "waiting": f"{speed.share(speed.waiting):.4f}",
            "saving": f"{speed.share(speed.saving):.4f}",
            "reading": f"{speed.share(speed.reading):.4f}",
            "seconds": f"{speed.seconds:.1f}",
        }
        line = (
            f"epoch {epoch}: loss {means['loss']:.3f}, top-1 {means['top1']:.1%}, "
            f"top-5 {means['top5']:.1%}, {speed.images_per_second:.1f} images/s, "
            f"waiting {speed.share(speed.waiting):.1%}"
        )
        if self._training.loss_scale is not None:
            row["skipped"] = int(self._training.totals.num_skipped.numpy())
            row["loss_scale"] = f"{self._training.loss_scale.scale.numpy():g}"
            line += f", skipped {row['skipped']}, loss scale {row['loss_scale']}"
        if self._run.cluster.is_chief:
            self._notify(line)
            self._tell_speed(f"epoch {epoch}", speed)
            self._record(row)
        self._training.totals.reset()
        # The checkpoint counts in the epoch after it, so that no time is in none.
        self._clock.restart()
        self._save(position)

    def _record(self, row: dict) -> None:
        # The row before the checkpoint: killed between them, a resumed training comes
        # here again and replaces the row. The other way round it would be missing.
        with self._obstacle_told(f"writing {METRICS_FILE}"):
            self._keep_folder()
            record_epoch(self._run.folder / METRICS_FILE, row)

    def _keep_folder(self) -> None:
        """Makes the run's folder, and the lock in it, again if they were deleted."""
        role = self._run.role
        if role is None or role.is_held():
            return
        missing = role.path if role.folder.is_dir() else role.folder
        role.take_again(make_folder=True)
        self._notify(f"{missing}: was deleted; made again")

    def _draw(self, position: Position) -> None:
        means, speed = self._training.totals.means(), self._clock.speed()
        try:
            num_ready = sum(ready >= position for ready in self._buffer.ready())
        except OSError:  # To be told by the reader, which needs the folder.
            num_ready = "?"
        self._show(
            position,
            f"waiting {speed.share(speed.waiting):.1%}, "
            f"buffer {num_ready}/{self._run.buffer_size}, "
            f"loss {means['loss']:.3f}, top-1 {means['top1']:.1%}, "
            f"{speed.images_per_second:.1f} images/s",
        )
