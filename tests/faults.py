"""A disk that fails at its n-th operation.

Opening for writing, writing, flushing to the disk, renaming and making folders count as
operations. A failing write writes half of its bytes, as on a full disk.
"""

import contextlib
import errno
import os
from pathlib import Path

import tensorflow as tf

from tests.doubles import FileDouble


class _File(FileDouble):
    """An open file whose writes are counted."""

    def __init__(self, file, disk):
        super().__init__(file)
        self._disk = disk

    def write(self, data):
        with self._disk.maybe_failing("write", lambda: self._write_half(data)):
            return self._file.write(data)

    def _write_half(self, data):
        self._file.write(data[: len(data) // 2])
        self._file.flush()


class FailingDisk:
    """Makes one operation fail while it is in force.

    Attributes:
        failed: Name of the operation that failed; None if there were fewer.
    """

    def __init__(self, fail_at: int, error_number: int = errno.ENOSPC):
        """Fails at the operation with that number, counted from 1."""
        self._left = fail_at
        self._error_number = error_number
        self.failed: str | None = None

    @contextlib.contextmanager
    def maybe_failing(self, name: str, half=lambda: None):
        self._left -= 1
        if self._left == 0:
            half()
            self.failed = name
            raise OSError(self._error_number, os.strerror(self._error_number))
        yield

    def _counted(self, name, function):
        def counted(*arguments, **keywords):
            with self.maybe_failing(name):
                return function(*arguments, **keywords)

        return counted

    @contextlib.contextmanager
    def in_force(self, monkeypatch):
        """Replaces the real disk inside the block."""
        real_open, real_save = Path.open, tf.train.Checkpoint.write

        def open_counted(path, mode="r", *arguments, **keywords):
            if set(mode) <= set("rb"):
                return real_open(path, mode, *arguments, **keywords)
            with self.maybe_failing("open"):
                return _File(real_open(path, mode, *arguments, **keywords), self)

        def save_counted(checkpoint, prefix, *arguments, **keywords):
            def half():
                real_save(checkpoint, prefix)
                (data,) = Path(prefix).parent.glob("*.data-*")
                os.truncate(data, data.stat().st_size // 2)

            with self.maybe_failing("tf.train.Checkpoint.write", half):
                return real_save(checkpoint, prefix, *arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", open_counted)
            patch.setattr(tf.train.Checkpoint, "write", save_counted)
            patch.setattr(os, "fsync", self._counted("fsync", os.fsync))
            for name in ("replace", "rename", "mkdir"):
                function = getattr(Path, name)
                patch.setattr(Path, name, self._counted(name, function))
            yield
