"""The observer of a training, and the status that it shows."""

from typing import NamedTuple

from resnet50.handoff.progress import Position
from resnet50.observer import Observer
from resnet50.reports.speed import Speed


class TrainingStatus(NamedTuple):
    """How a training is going."""

    position: Position  # of the next batch
    means: dict[str, float]  # of the epoch so far; see ``Totals.means``
    speed: Speed  # since the start of the epoch or of this process
    num_ready: int | None  # ready batches in the buffer; None if it cannot be read


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
