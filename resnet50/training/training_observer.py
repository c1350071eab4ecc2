"""What the training loop reports, and the observer that receives it."""

from typing import NamedTuple

from resnet50.handoff.progress import Position
from resnet50.observer import Observer
from resnet50.reports.speed import Speed


class TrainingStatus(NamedTuple):
    """How a training is going.

    Attributes:
        position: The position of the next batch.
        means: The means of the epoch so far; see ``Totals.means``.
        speed: The speed since the start of the epoch or of this process.
        num_ready: Number of ready batches in the buffer; None if it cannot be read.
    """

    position: Position
    means: dict[str, float]
    speed: Speed
    num_ready: int | None


class EpochResult(NamedTuple):
    """A trained epoch.

    Attributes:
        epoch: Its index, from 0.
        num_steps: Number of steps since the start of the training.
        means: The epoch's means; see ``Totals.means``.
        learning_rate: The learning rate of its last step.
        speed: The time it took.
        num_skipped: Number of skipped batches, in float16; otherwise None.
        loss_scale: The loss scale at its end, in float16; otherwise None.
    """

    epoch: int
    num_steps: int
    means: dict[str, float]
    learning_rate: float
    speed: Speed
    num_skipped: int | None
    loss_scale: float | None

    def row(self) -> dict:
        """The epoch's row in metrics.csv."""
        speed = self.speed
        row = {
            "epoch": self.epoch,
            "steps": self.num_steps,
            **{name: f"{value:.6g}" for name, value in self.means.items()},
            "learning_rate": f"{self.learning_rate:.6g}",
            "images_per_second": f"{speed.images_per_second:.2f}",
            "waiting": f"{speed.share(speed.waiting):.4f}",
            "saving": f"{speed.share(speed.saving):.4f}",
            "reading": f"{speed.share(speed.reading):.4f}",
            "seconds": f"{speed.seconds:.1f}",
        }
        if self.loss_scale is not None:
            row["skipped"] = self.num_skipped
            row["loss_scale"] = f"{self.loss_scale:g}"
        return row

    def line(self) -> str:
        """The epoch in one line for the user."""
        means, speed = self.means, self.speed
        line = (
            f"epoch {self.epoch}: loss {means['loss']:.3f}, top-1 {means['top1']:.1%}, "
            f"top-5 {means['top5']:.1%}, {speed.images_per_second:.1f} images/s, "
            f"waiting {speed.share(speed.waiting):.1%}"
        )
        if self.loss_scale is not None:
            line += f", skipped {self.num_skipped}, loss scale {self.loss_scale:g}"
        return line


class TrainingObserver(Observer):
    """Receives the news of a training, and words what only its program knows."""

    def advise(self, speed: Speed) -> str:
        """Says in one sentence what limits a speed."""
        return ""

    def describe(self, position: Position) -> str:
        """Describes the batch of a position, for a message about a lost loss."""
        return ""

    def preprocessor_command(self, epochs: range) -> str:
        """The command that starts the preprocessor for some epochs."""
        return ""
