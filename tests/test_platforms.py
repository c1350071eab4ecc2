"""Proves what the programs do on systems that lack something of Linux.

The absence is imitated. ``python -m tests.platforms`` finds out where the packages are.
"""

import errno
import os
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from resnet50 import command_line
from resnet50.checks import disks, machine
from resnet50.installation import install_command
from tests.docs.documents import read
from tests.images import make_class_folders
from tests.platforms import PLATFORMS, PYTHONS, missing_wheel
from tests.processes import ROOT
from tests.settings import PROJECT, write_small_config
from tests.test_container import project


def run_without(module, folder, *words):
    """Runs a program without a module, which is absent or not installed."""
    (folder / "sitecustomize.py").write_text(
        f"import sys; sys.modules[{module!r}] = None"
    )
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, *words],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "words",
    [("train.py", "--run_folder=x"), ("-m", "resnet50", "status")],
    ids=["script", "command"],
)
def test_windows_is_refused_in_one_line(tmp_path, words):
    result = run_without("fcntl", tmp_path, *words)
    assert result.returncode == 1
    assert result.stderr == (
        "resnet50: this Python has no fcntl, and cannot lock files (on Windows, use "
        "WSL2: see docs/container.md)\n"
    )


def test_training_without_tensorflow_is_refused_in_one_line(tmp_path):
    make_class_folders(tmp_path / "images" / "train", 2, 4)
    config = write_small_config(tmp_path)
    words = "train.py", f"--config={config}", "--run_folder=run"
    result = run_without("tensorflow", tmp_path, *words)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last == f"TensorFlow is not installed ({install_command()})"
    assert "Traceback" not in result.stderr
    log = tmp_path / "saved_models" / "run" / "train.log"
    assert last in log.read_text(encoding="utf-8")


def test_a_mac_that_has_no_tensorflow_is_told_so(monkeypatch, capsys):
    def train():
        raise ModuleNotFoundError(name="tensorflow")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(command_line.platform, "machine", lambda: "x86_64")
    with pytest.raises(SystemExit) as ended:
        command_line.run(train)
    assert ended.value.code == 1
    assert "there is none for macOS on Intel" in capsys.readouterr().err


def test_macos_has_no_set_of_cores(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert machine.usable_cores(tmp_path) == 10


def test_macos_has_no_folder_of_memory_or_processes(tmp_path):
    nowhere = tmp_path / "missing"
    assert machine.available_memory(nowhere, nowhere) is None
    assert disks.file_system_of(tmp_path, nowhere) == ""


def test_a_folder_of_windows_may_have_no_locks(tmp_path, monkeypatch):
    """Such as /mnt/c in WSL2; the doctor and the programs say so."""

    def refuse(file, operation):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(disks.fcntl, "flock", refuse)
    trial = disks.try_to_write(tmp_path)
    assert "not supported" in str(disks.check_writing("buffer_folder", tmp_path, trial))
    mounts = tmp_path / "mounts"
    mounts.write_text("C:\\134 /mnt/c 9p rw 0 0\n/dev/sdc / ext4 rw 0 0\n")
    folder = disks.Path("/mnt/c/buffer")
    kind = disks.file_system_of(folder, mounts)
    assert "network file system, 9p" in str(disks.check_file_system(folder, kind))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_each_platform_installs_what_the_page_says(platform):
    """Of the packages whose markers hold there; the page has the wheels."""
    environment = PLATFORMS[platform].markers
    installed = {
        requirement.name
        for requirement in map(Requirement, project()["dependencies"])
        if not requirement.marker or requirement.marker.evaluate(environment)
    }
    assert ("nvidia-nvimgcodec-cu12" in installed) == platform.startswith("Linux")
    assert ("tensorflow" in installed) == (platform != "macOS, Intel")


def test_the_page_has_a_row_for_each_platform():
    for platform in PLATFORMS:
        assert f"| {platform} |" in read("container.md")
    assert PYTHONS == ("3.10", "3.11", "3.12", "3.13")


def test_the_reason_why_a_package_is_missing_is_found():
    text = "error: No solution found\n  cause: Because tensorflow>=2.20.0 has no wheels"
    assert missing_wheel(text) == "tensorflow>=2.20.0 has no wheels"
    assert missing_wheel("error: no network") == "error: no network"
