"""Checks cores and memory against config.txt, within a container's limits."""

import os
import re
from pathlib import Path

from resnet50.checks.findings import OK, WARNING, Finding

# Memory of a worker, measured with batches of 64 (docs/measurements.md).
WORKER_BYTES = 210 * 10**6

# Memory of the trainer for TensorFlow and CUDA's libraries. TensorFlow 2.21 on a CPU
# takes 0.55 GB before the first step (measured).
TRAINER_BYTES = 2 * 10**9

_CGROUP = Path("/sys/fs/cgroup")


def _number(path: Path, index: int = 0) -> int | None:
    """A word of a file as a number; None if there is none."""
    try:
        return int(path.read_text().split()[index])
    except (OSError, ValueError, IndexError):  # "max" stands for no limit.
        return None


def usable_cores(cgroup: Path = _CGROUP) -> float:
    """Processor cores that this process may use, within a container's limit.

    In version 2 of Linux's control groups, cpu.max holds quota and period in
    microseconds. Version 1 has a file for each, and a quota of -1 if there is no limit.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota, period = (_number(cgroup / "cpu.max", index) for index in (0, 1))
    if period is None:
        quota = _number(cgroup / "cpu/cpu.cfs_quota_us")
        period = _number(cgroup / "cpu/cpu.cfs_period_us")
    return min(cores, quota / period) if quota and period and quota > 0 else cores


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP
) -> int | None:
    """Bytes of memory that programs can still take; None if unknown."""
    text = meminfo.read_text() if meminfo.exists() else ""
    match = re.search(r"^MemAvailable: *([0-9]+) kB", text, re.MULTILINE)
    if match is None:
        return None
    free = [int(match[1]) * 1024]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, taken = _number(cgroup / limit), _number(cgroup / used)
        if most is not None and taken is not None:
            free.append(most - taken)
    return min(free)


def check_cores(cores: float, num_workers: int) -> Finding:
    """Checks num_workers."""
    what = f"cores: {cores:g}, for the trainer and num_workers = {num_workers}"
    best = max(1, int(cores) - 1)
    if num_workers > best:
        remedy = f"set [runtime_preprocessing] num_workers = {best}, "
        return Finding(WARNING, what, f"{remedy}so that the trainer has a core")
    more = f"; up to {best} workers are possible" if num_workers < best else ""
    return Finding(OK, what + more)


def check_memory(
    available: int | None, num_workers: int, read_ahead_bytes: int, ram_disk_bytes: int
) -> Finding:
    """Checks the free memory, if it is known.

    The trainer holds read_ahead_bytes of batches in memory. ram_disk_bytes of batches
    are still to be written to a RAM disk.
    """
    needed = TRAINER_BYTES + read_ahead_bytes + ram_disk_bytes
    needed += num_workers * WORKER_BYTES
    if available is None:
        what = f"memory: {needed / 1e9:.1f} GB needed; how much is free is unknown"
        return Finding(OK, what)
    what = f"memory: {available / 1e9:.1f} GB are free, about {needed / 1e9:.1f} needed"
    remedy = "lower [runtime_preprocessing] num_workers"
    if ram_disk_bytes:
        what += f", {ram_disk_bytes / 1e9:.1f} of them by the buffer on a RAM disk"
        remedy = "lower [train] buffer_size, or move buffer_folder to a disk"
    if needed <= available:
        return Finding(OK, what)
    return Finding(WARNING, what, f"{remedy}; a process may be killed otherwise")
