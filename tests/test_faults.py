"""Proves that a disk that fails at any one operation leaves the old or the new state.

Each thing that a program writes is written once with a disk that fails at its first
operation, once with one that fails at its second, and so on.
"""

import errno
import itertools
import os
import shutil

import numpy as np
import pytest

from resnet50.atomic_io import atomic_file
from resnet50.config.settings import ConfigError
from resnet50.config.toml_file import read_config, write_channel_statistics
from resnet50.handoff.buffer import BatchBuffer, BatchSpec
from resnet50.handoff.manifest import read_manifest, write_manifest
from resnet50.handoff.progress import Position, read_progress, write_progress
from resnet50.preprocessing.buffer_folder import UnreadableLog
from resnet50.reports import tables
from resnet50.training import checkpoint
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.faults import FailingDisk
from tests.settings import write_small_config
from tests.training.tiny import TinyTraining

SPEC = BatchSpec(batch_size=2, crop_size=4, dtype="float32", num_classes=9)
TRAINING = TinyTraining()


class WholeFile:
    """A file written by atomic_file."""

    errors = (OSError,)

    def write(self, folder, number):
        with atomic_file(folder / "file") as file:
            file.write(f"{number}".encode() * 50_000)

    def read(self, folder):
        content = (folder / "file").read_bytes()
        assert len(content) == 50_000
        return int(content[:1])


class Manifest:
    errors = (OSError,)

    def write(self, folder, number):
        write_manifest(folder, {"seed": number})

    def read(self, folder):
        return read_manifest(folder)["seed"]


class Progress:
    errors = (OSError,)

    def write(self, folder, number):
        write_progress(folder, Position(number, 3))

    def read(self, folder):
        return read_progress(folder, 10, 1000) // 10


class Batch:
    """The old batch and the new one have different positions, as always."""

    errors = (OSError,)

    def write(self, folder, number):
        images = np.full((2, 4, 4, 3), number, np.float32)
        labels = np.full(2, number, np.int32)
        BatchBuffer(folder).write(Position(0, number), images, labels)

    def read(self, folder):
        newest = max(BatchBuffer(folder).ready())
        images, labels, _ = BatchBuffer(folder).read(newest, SPEC)
        assert (images == newest.batch_index).all()
        assert (labels == newest.batch_index).all()
        return newest.batch_index


class Table:
    errors = (OSError,)

    def write(self, folder, number):
        tables.record_epoch(folder / "metrics.csv", {"epoch": number, "loss": "1"})

    def read(self, folder):
        rows = tables.read_table(folder / "metrics.csv")
        assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
        return len(rows)


class ChannelStatisticsInConfig:
    errors = (ConfigError,)

    def write(self, folder, number):
        path = folder / "config.txt"
        if not path.exists():
            write_small_config(folder)
        write_channel_statistics(path, [number / 10] * 3, [0.5] * 3)

    def read(self, folder):
        config = read_config(folder / "config.txt")
        return round(config.dataset.channel_mean[0] * 10)


class Checkpoint:
    errors = (checkpoint.SaveError,)

    def write(self, folder, number):
        TRAINING.model.kernel.assign(np.full((3, 3), number, np.float32))
        checkpoint.save(TRAINING, folder, Position(number, 0), {"seed": 0})

    def read(self, folder):
        other = TinyTraining()
        for found in list_checkpoints(folder):
            checkpoint.load(other, found, {"seed": 0})
            assert (other.model.kernel.numpy() == found.position.epoch).all()
        return found.position.epoch


KINDS = [WholeFile, Manifest, Progress, Batch, Table, ChannelStatisticsInConfig]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("kind", [*KINDS, Checkpoint], ids=lambda kind: kind.__name__)
def test_every_single_failure(tmp_path, monkeypatch, kind, number):
    subject, failed = kind(), []
    for fail_at in itertools.count(1):
        folder = tmp_path / str(fail_at)
        folder.mkdir()
        subject.write(folder, 1)
        disk = FailingDisk(fail_at, number)
        try:
            with disk.in_force(monkeypatch):
                subject.write(folder, 2)
        except subject.errors as error:
            assert os.strerror(number) in str(error)
            assert subject.read(folder) == 1 or disk.failed == "fsync"
        else:
            assert subject.read(folder) == 2
        assert not list(folder.glob(".writing-*")), disk.failed
        if disk.failed is None:
            break
        failed.append(disk.failed)
        # The disk works again:
        subject.write(folder, 2)
        assert subject.read(folder) == 2
        shutil.rmtree(folder)
    assert {"fsync", "open"} & set(failed)
    assert {"replace", "rename"} & set(failed)


def test_unreadable_images_wait_in_memory_for_a_full_disk(tmp_path, monkeypatch):
    log = UnreadableLog(tmp_path)
    with FailingDisk(1).in_force(monkeypatch):
        assert log.add("a.jpg", "torn")
    assert log.add("b.jpg", "empty")
    assert log.path.read_text() == "a.jpg\ttorn\nb.jpg\tempty\n"
    assert not log.add("a.jpg", "torn")
