"""The speed in the bar is that of making batches, not of two that came at once."""

from types import SimpleNamespace

from resnet50.commands import runtime_preprocessing
from resnet50.handoff.progress import Position
from resnet50.preprocessing.refill import Status


class _Bar:
    """Remembers the words of the last drawing."""

    def is_due(self) -> bool:
        return True

    def show(self, description: str, done: int, total: int, parts: list[str]) -> None:
        self.parts = parts


def test_the_speed_stays_while_there_is_nothing_to_make(monkeypatch):
    # Two batches come 0.01 s apart, after 4 s; then come 100 s without any.
    seconds = iter([0.0, 1.0, 3.99, 4.0, 104.0])
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr(runtime_preprocessing, "time", clock)
    bar = _Bar()
    observer = runtime_preprocessing.BufferBar(bar)
    for num_made in (1, 7, 8, 8):
        observer.show(Status(0, 4, Position(0, 0), False, num_made, 0))
    assert bar.parts[0] == "2.00 batches/s"
