"""Checks the folders that are written to: permission, file system, clock, space."""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from resnet50.checks.findings import OK, PROBLEM, WARNING, Finding
from resnet50.config.settings import TrainConfig
from resnet50.errors import UserError
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import open_buffer
from resnet50.preprocessing.buffer_folder import fitting_buffer_size

# Kinds in /proc/mounts whose files are on another machine.
_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "lustre", "ceph", "beegfs"),
    *("gpfs", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse"),
}
RAM_DISKS = {"tmpfs", "ramfs"}

# dataset.listing distrusts a folder's cached listing if the folder changed this shortly
# before it was listed.
_MAX_SKEW_SECONDS = 2.0

# Parameters of the network without the classifier, parameters of the classifier per
# class, and moving statistics; see network.model.
_PARAMETERS, _PER_CLASS, _STATISTICS = 23_508_032, 2_049, 53_120


class Trial(NamedTuple):
    """The result of writing to a folder."""

    obstacle: str  # why it failed, or ""
    skew_seconds: float  # how far the folder's clock is ahead of this machine's


def existing_part(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(part for part in (path, *path.parents) if part.exists())


def try_to_write(folder: Path) -> Trial:
    """Writes, locks and removes a file in a folder, or where it would be created.

    Both programs hold locks in their folders, and some file systems have no locks.
    """
    try:
        with tempfile.TemporaryFile(dir=existing_part(folder)) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(b"resnet50 doctor")
            file.flush()
            return Trial("", os.fstat(file.fileno()).st_mtime - time.time())
    except OSError as error:
        return Trial(error.strerror or str(error), 0.0)


def check_writing(setting: str, folder: Path, trial: Trial) -> Finding:
    """Checks whether the folder that a setting of config.txt names can be used."""
    if trial.obstacle:
        what = f"{folder}: cannot be written to: {trial.obstacle}"
        return Finding(PROBLEM, what, f"change its permissions, or {setting}")
    if abs(trial.skew_seconds) > _MAX_SKEW_SECONDS:
        what = f"{folder}: its clock is {trial.skew_seconds:+.0f} s off this machine's"
        return Finding(WARNING, what, "set both by NTP")
    return Finding(OK, f"{folder}: can be written to and locked, its clock is right")


def file_system_of(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of file system of an absolute path, such as "ext4"; "" if unknown."""
    found, kind = -1, ""
    for line in mounts.read_text().splitlines() if mounts.exists() else []:
        words = line.split()
        if len(words) < 3:
            continue
        point = Path(words[1].replace("\\040", " "))  # For a space.
        # The later of two mounts at the same point hides the other.
        if folder.is_relative_to(point) and len(point.parts) >= found:
            found, kind = len(point.parts), words[2]
    return kind


def check_file_system(folder: Path, kind: str) -> Finding:
    """Checks the file system of the buffer folder."""
    if kind in _NETWORK:
        what = f"buffer: {folder} is on a network file system, {kind}"
        remedy = "set [train] buffer_folder to a local SSD or to /dev/shm/buffer"
        return Finding(WARNING, what, remedy)
    where = "in memory" if kind in RAM_DISKS else "on a disk"
    return Finding(OK, f"buffer: {folder} is {where} ({kind or 'unknown'})")


def check_buffer_room(folder: Path, buffer_size: int, batch_bytes: int) -> Finding:
    """Checks the free space for the buffer by the preprocessor's own rule.

    The folder need not exist.
    """
    buffer = BatchBuffer(existing_part(folder))
    try:
        fitting = fitting_buffer_size(buffer, buffer_size, batch_bytes)
    except UserError as error:
        is_in_shm = Path("/dev/shm") in (folder, *folder.parents)
        hint = "a container's /dev/shm: docker run --shm-size=8g" if is_in_shm else ""
        return Finding(PROBLEM, str(error), hint)
    what = f"buffer: {buffer_size} batches of {batch_bytes / 1e6:.1f} MB "
    what += f"take {buffer_size * batch_bytes / 1e9:.1f} GB"
    if fitting == buffer_size:
        return Finding(OK, what)
    what += f", but {folder} has room for {fitting}"
    remedy = f"set [train] buffer_size = {fitting}, or free some space"
    return Finding(WARNING, what, remedy)


def check_cache_room(folder: Path, max_bytes: int, used_bytes: int) -> Finding:
    """Checks the free space for the cache of images from a server.

    The folder need not exist.
    """
    free = free_bytes(folder)
    what = f"image cache: {used_bytes / 1e9:.1f} of {max_bytes / 1e9:.1f} GB are in "
    what += f"{folder}, {free / 1e9:.1f} GB are free there"
    if used_bytes + free < max_bytes:
        remedy = "lower [dataset] cache_gigabytes, or change cache_folder"
        return Finding(WARNING, what, remedy)
    return Finding(OK, what)


def missing_buffer_bytes(folder: Path, buffer_size: int, batch_bytes: int) -> int:
    """Size of the batches that are still missing in the buffer."""
    num_ready = len(open_buffer(folder).ready()) if folder.is_dir() else 0
    return max(0, buffer_size - num_ready) * batch_bytes


def check_shared_memory(free_bytes: int, buffer_size: int, batch_bytes: int) -> Finding:
    """Says whether the buffer would fit into /dev/shm, the fastest folder for it."""
    fitting = min(buffer_size, free_bytes // batch_bytes)
    room = f"room for {fitting} of the buffer's {buffer_size} batches"
    return Finding(OK, f"/dev/shm: {free_bytes / 1e9:.1f} GB are free, {room}")


def plain_checkpoint_bytes(num_classes: int) -> int:
    """Size of a checkpoint: parameters, momentum and statistics in float32."""
    return 4 * (2 * (_PARAMETERS + _PER_CLASS * num_classes) + _STATISTICS)


def check_checkpoint_room(
    train: TrainConfig, free_bytes: int, num_classes: int
) -> Finding:
    """Checks the free space for a run's checkpoints.

    Besides keep_checkpoints there are: the one being written, the one inside an epoch,
    and the best ones by one crop and by ten crops.
    """
    size, keep = plain_checkpoint_bytes(num_classes), train.keep_checkpoints
    number = 2 + (min(train.epochs, keep + 2) if keep else train.epochs)
    what = (
        f"checkpoints: {number} of {size / 1e6:.0f} MB take {number * size / 1e9:.1f} "
        f"GB, {free_bytes / 1e9:.1f} GB are free in {train.saved_models_folder}"
    )
    if free_bytes < 2 * size:
        remedy = "free some space, or change [train] saved_models_folder"
        return Finding(PROBLEM, what, remedy)
    if free_bytes < number * size:
        fitting = max(1, free_bytes // size - 4)
        return Finding(WARNING, what, f"set [train] keep_checkpoints = {fitting}")
    return Finding(OK, what)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist."""
    return shutil.disk_usage(existing_part(folder)).free


def is_same_disk(first: Path, second: Path) -> bool:
    """Whether two folders, which need not exist, share their free space."""
    return existing_part(first).stat().st_dev == existing_part(second).stat().st_dev
