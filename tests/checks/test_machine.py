"""Proves the judgements of invented cores and memories, and how limits are read."""

import os

import pytest

from resnet50.checks.findings import OK, WARNING
from resnet50.checks.machine import (
    available_memory,
    check_cores,
    check_memory,
    usable_cores,
)


@pytest.mark.parametrize(
    ("cores", "num_workers", "status"),
    [(8, 7, OK), (8, 4, OK), (8, 8, WARNING), (1, 1, OK), (1.5, 2, WARNING)],
)
def test_one_core_is_the_trainers(cores, num_workers, status):
    assert check_cores(cores, num_workers).status == status


def test_the_right_number_of_workers_is_named():
    assert "num_workers = 3," in str(check_cores(4, 9))
    assert "up to 7 workers" in str(check_cores(8, 2))


def write(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_cores_of_a_container(tmp_path):
    cores = len(os.sched_getaffinity(0))
    assert usable_cores(tmp_path) == cores
    write(tmp_path, cpu_dot_max="max 100000\n")
    assert usable_cores(tmp_path) == cores
    write(tmp_path, cpu_dot_max="50000 100000\n")
    assert usable_cores(tmp_path) == 0.5
    (tmp_path / "cpu.max").unlink()
    write(tmp_path, cpu__cpu_dot_cfs_quota_us="-1")
    assert usable_cores(tmp_path) == cores
    write(
        tmp_path,
        cpu__cpu_dot_cfs_quota_us="20000",
        cpu__cpu_dot_cfs_period_us="100000",
    )
    assert usable_cores(tmp_path) == 0.2


def test_memory_of_a_container(tmp_path):
    meminfo = tmp_path / "meminfo"
    assert available_memory(meminfo, tmp_path) is None
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:   70 kB\n")
    assert available_memory(meminfo, tmp_path) == 70 * 1024
    write(tmp_path, memory_dot_max="max", memory_dot_current="5")
    assert available_memory(meminfo, tmp_path) == 70 * 1024
    write(tmp_path, memory_dot_max="3000", memory_dot_current="1000")
    assert available_memory(meminfo, tmp_path) == 2000


def test_a_buffer_in_memory_counts():
    gigabyte = 10**9
    # 4 workers of 210 MB, 2 GB for the trainer, 0.1 GB read ahead: 2.94 GB.
    arguments = 4, gigabyte // 10
    assert check_memory(3 * gigabyte, *arguments, 0).status == OK
    assert check_memory(2 * gigabyte, *arguments, 0).status == WARNING
    on_ram_disk = check_memory(3 * gigabyte, *arguments, gigabyte)
    assert on_ram_disk.status == WARNING
    assert "about 3.9 needed, 1.0 of them by the buffer" in on_ram_disk.what
    assert "lower [train] buffer_size" in on_ram_disk.remedy
    assert "is unknown" in check_memory(None, *arguments, 0).what
