"""Test doubles that several tests share. No test."""

from collections.abc import Callable

from resnet50.handoff.lost_folder import TrainerFiles
from resnet50.observer import Observer


class RecordingObserver(Observer):
    """Keeps every line and every status, and passes them on.

    Attributes:
        lines: Every line so far.
        statuses: Every status so far.
    """

    def __init__(
        self,
        *,
        notify: Callable = lambda line: None,
        show: Callable = lambda status: None,
    ):
        """Takes functions to call with each line and each status."""
        self.lines, self.statuses = [], []
        self._notify, self._show = notify, show

    def notify(self, line):
        self.lines.append(line)
        self._notify(line)

    def is_due(self):
        return True

    def show(self, status):
        self.statuses.append(status)
        self._show(status)


class NoFiles(TrainerFiles):
    """Files of a trainer that holds no role; keeps the positions that it gets."""

    def __init__(self, restore: Callable = lambda position: None):
        """Takes a function to call with each position."""
        self.positions = []
        self._restore = restore

    def restore(self, position):
        self.positions.append(position)
        self._restore(position)


class FileDouble:
    """An open file; subclasses replace some of its methods."""

    def __init__(self, file):
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()
