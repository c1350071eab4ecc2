"""Proves the judgements of folders, file systems and invented free space."""

import dataclasses
import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from resnet50.checks import disks
from resnet50.checks.disks import Trial
from resnet50.checks.findings import OK, PROBLEM, WARNING
from tests.settings import SETTINGS

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
nas:/export /mnt/my\\040disk nfs4 rw 0 0
/dev/sdb1 /data xfs rw 0 0
none /data tmpfs rw 0 0
torn
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me/buffer", "ext4"),
        ("/dev/shm/buffer", "tmpfs"),
        ("/dev/shmem", "ext4"),
        ("/mnt/my disk/b", "nfs4"),
        ("/data/b", "tmpfs"),
    ],
)
def test_the_nearest_and_latest_mount_counts(folder, kind, tmp_path):
    mounts = tmp_path / "mounts"
    assert disks.file_system_of(Path(folder), mounts) == ""
    mounts.write_text(MOUNTS)
    assert disks.file_system_of(Path(folder), mounts) == kind


def test_a_network_file_system_is_a_warning():
    folder = Path("/mnt/b")
    assert disks.check_file_system(folder, "nfs4").status == WARNING
    assert disks.check_file_system(folder, "ext4").status == OK
    assert "in memory" in disks.check_file_system(folder, "tmpfs").what


def test_a_folder_is_tried_and_left_as_it_was(tmp_path):
    trial = disks.try_to_write(tmp_path / "not" / "yet" / "there")
    assert trial.obstacle == ""
    assert abs(trial.skew_seconds) < 2
    assert list(tmp_path.iterdir()) == []
    assert disks.check_writing("[train] x", tmp_path, trial).status == OK


def test_a_folder_that_cannot_be_used_is_a_problem(tmp_path, monkeypatch):
    def refuse(**settings):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    finding = disks.check_writing("[train] x", tmp_path, disks.try_to_write(tmp_path))
    assert str(finding) == (
        f"problem  {tmp_path}: cannot be written to: Read-only file system (change its "
        "permissions, or [train] x)"
    )


def test_a_wrong_clock_is_a_warning(tmp_path):
    finding = disks.check_writing("[train] x", tmp_path, Trial("", -70.0))
    assert finding.status == WARNING
    assert "-70 s off" in finding.what


def test_room_for_the_buffer_is_the_preprocessors_own_sum(tmp_path, monkeypatch):
    # 100 MB are free; 2 % of the disk, 20 MB, are a reserve.
    usage = shutil._ntuple_diskusage(10**9, 9 * 10**8, 10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    folder = tmp_path / "buffer"
    assert disks.free_bytes(folder) == 10**8
    assert disks.check_buffer_room(folder, 80, 10**6).status == OK
    less = disks.check_buffer_room(folder, 81, 10**6)
    assert less.status == WARNING
    assert "has room for 80" in less.what
    none = disks.check_buffer_room(folder, 81, 5 * 10**7)
    assert none.status == PROBLEM
    assert "lower --batch_size" in none.what


def test_room_for_the_image_cache(tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10**11, 5 * 10**10, 5 * 10**10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    folder = tmp_path / "cache"
    assert disks.check_cache_room(folder, 6 * 10**10, 10**10).status == OK
    assert str(disks.check_cache_room(folder, 6 * 10**10, 9 * 10**9)) == (
        f"warning  image cache: 9.0 of 60.0 GB are in {folder}, 50.0 GB are free there "
        "(lower [dataset] cache_gigabytes, or change cache_folder)"
    )


def test_batches_that_are_there_need_no_room(tmp_path):
    assert disks.missing_buffer_bytes(tmp_path / "none", 5, 10) == 50
    for name in ("images_0000_00001.npy", "labels_0000_00001.npy"):
        (tmp_path / name).touch()
    assert disks.missing_buffer_bytes(tmp_path, 5, 10) == 40
    assert disks.missing_buffer_bytes(tmp_path, 0, 10) == 0


def test_room_in_shared_memory():
    finding = disks.check_shared_memory(64 * 10**6, 1000, 19_300_000)
    assert "room for 3 of the buffer's 1000 batches" in finding.what


def judge_checkpoints(number, epochs, keep):
    """The finding if there is room for a number of checkpoints."""
    train = dataclasses.replace(
        SETTINGS.train,
        saved_models_folder=Path("/runs"),
        epochs=epochs,
        keep_checkpoints=keep,
    )
    free = number * disks.plain_checkpoint_bytes(1000)
    return disks.check_checkpoint_room(train, free, 1000)


def test_checkpoints_by_hand():
    # 25,557,032 parameters, as many momenta, 53,120 statistics, of 4 bytes each.
    assert disks.plain_checkpoint_bytes(1000) == 204_668_736
    # All of 90, one inside an epoch, one being written.
    assert judge_checkpoints(92, 90, 0).status == OK
    assert judge_checkpoints(91, 90, 0).status == WARNING
    # The newest 5, the best two, and the same two more.
    assert judge_checkpoints(9, 90, 5).status == OK
    assert judge_checkpoints(8, 90, 5).status == WARNING
    assert judge_checkpoints(5, 3, 5).status == OK
    assert judge_checkpoints(1, 90, 5).status == PROBLEM


@pytest.mark.parametrize("number", [9, 20, 91])
def test_the_advice_for_checkpoints_fits(number):
    advice = judge_checkpoints(number, 90, 0).remedy
    keep = int(advice.rpartition(" ")[2])
    assert judge_checkpoints(number, 90, keep).status == OK


def test_same_disk(tmp_path):
    assert disks.is_same_disk(tmp_path / "a", tmp_path / "b")
    assert not disks.is_same_disk(tmp_path, Path("/proc"))
