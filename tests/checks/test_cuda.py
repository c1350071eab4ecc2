"""Proves what is judged of made-up cards, drivers, libraries and builds.

No test needs a GPU: TensorFlow's answers and the libraries' are made up.
"""

import re
import signal
import sys
from pathlib import Path

import pytest

from resnet50.checks import cuda, gpu
from resnet50.checks.cuda import Build, Gpu, Outcome
from resnet50.checks.findings import OK, PROBLEM, WARNING

BUILD = Build(
    "2.21.0", "12.5.1", "9", ("sm_60", "sm_70", "sm_80", "sm_89", "compute_90")
)
NO_FILE = "{}: cannot open shared object file: No such file or directory"


def loader(*missing):
    """Loads every library but these."""
    return lambda name: NO_FILE.format(name) if name in missing else ""


def test_libraries_of_the_build():
    assert BUILD.libraries == (
        "libcudart.so.12",
        "libcublas.so.12",
        "libcublasLt.so.12",
        "libcufft.so.11",
        "libcusolver.so.11",
        "libcusparse.so.12",
        "libcudnn.so.9",
    )
    assert "libcufft.so.12" in BUILD._replace(cuda="13.0").libraries


def test_the_missing_library_is_named_with_the_command_that_installs_it():
    assert gpu.check_libraries(BUILD, loader()).status == OK
    finding = gpu.check_libraries(BUILD, loader("libcudnn.so.9", "libcufft.so.11"))
    assert str(finding) == (
        "warning  CUDA's libraries: 2 of 7 are missing: libcufft.so.11, libcudnn.so.9 "
        "(python3 -m pip install 'tensorflow[and-cuda]==2.21.0')"
    )


def test_what_a_library_lacks_itself_is_told():
    lacking = NO_FILE.format("libnvJitLink.so.12")
    reasons = {
        "libcufft.so.11": NO_FILE.format("libcufft.so.11"),
        "libcusparse.so.12": lacking,
    }
    finding = gpu.check_libraries(BUILD, lambda name: reasons.get(name, ""))
    assert finding.what.endswith(
        f"libcufft.so.11, libcusparse.so.12; libcusparse.so.12: {lacking}"
    )


def test_libraries_are_loaded_from_the_system_and_from_packages(tmp_path):
    assert cuda.load_library("libc.so.6", []) == ""
    folder = tmp_path / "nvidia" / "cudnn" / "lib"
    folder.mkdir(parents=True)
    absent = cuda.load_library("libnone.so.9", [folder])
    assert "libnone.so.9: cannot open shared object file" in absent
    (folder / "libnone.so.9").write_bytes(b"torn")
    assert "file too short" in cuda.load_library("libnone.so.9", [folder])
    link = folder / "libother.so.9"
    maps = Path("/proc/self/maps").read_text().splitlines()
    (libc,) = {line.split()[-1] for line in maps if re.search(r"/libc[.-]", line)}
    link.symlink_to(libc)
    assert cuda.load_library("libother.so.9", [tmp_path, folder]) == ""


def test_packages_are_looked_for_beside_tensorflow():
    # tensorflow[cuda] may or may not be installed here.
    assert all(path.parts[-3] == "nvidia" for path in cuda.package_folders())


@pytest.mark.parametrize(
    ("version", "has_card", "missing", "status", "words"),
    [
        ("550.54.14", True, (), OK, "550.54.14"),
        ("470.10", True, (), WARNING, "470.10 is too old for CUDA 12.5.1"),
        (None, True, ("libcuda.so.1",), WARNING, "card is there, but no driver"),
        (None, False, ("libcuda.so.1",), WARNING, "no NVIDIA card"),
        (None, False, (), OK, "its version is unknown"),
        ("550.54.14", True, ("libcuda.so.1",), WARNING, "docker run --gpus all"),
    ],
)
def test_drivers(version, has_card, missing, status, words):
    finding = gpu.check_driver(version, BUILD, has_card=has_card, load=loader(*missing))
    assert finding.status == status
    assert words in str(finding)


def test_the_drivers_version_is_read(tmp_path):
    proc = tmp_path / "version"
    none = str(tmp_path / "no-such-command")
    assert cuda.driver_version(proc, none) is None
    proc.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    )
    assert cuda.driver_version(proc, none) == "550.54.14"
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 535.161.08\n")
    command.chmod(0o755)
    assert cuda.driver_version(tmp_path / "none", str(command)) == "535.161.08"
    command.write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert cuda.driver_version(tmp_path / "none", str(command)) is None


def test_cards_on_the_bus(tmp_path):
    assert not cuda.has_nvidia_card(tmp_path / "none")
    for name, vendor, kind in (
        ("0000:00:02.0", "0x8086", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # The card's sound.
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert not cuda.has_nvidia_card(tmp_path)
    (tmp_path / "0000:01:00.1" / "class").write_text("0x030200\n")
    assert cuda.has_nvidia_card(tmp_path)


@pytest.mark.parametrize(
    ("capability", "status"),
    [
        ((7, 5), OK),  # RTX 2080: sm_70 runs there.
        ((8, 6), OK),
        ((8, 9), OK),
        ((9, 0), OK),
        ((12, 0), WARNING),  # RTX 5090: compiled by the driver from compute_90.
        ((10, 0), WARNING),
        ((5, 2), PROBLEM),
    ],
)
def test_kernels(capability, status):
    finding = gpu.check_kernels(Gpu("card", capability), BUILD)
    assert finding.status == status
    with_own = BUILD._replace(capabilities=("sm_50", "sm_120", "sm_100"))
    if capability != (12, 0) and status == WARNING:
        assert gpu.check_kernels(Gpu("card", capability), with_own).status == OK


def test_without_code_to_compile_a_later_card_is_a_problem():
    build = BUILD._replace(capabilities=("sm_80",))
    assert gpu.check_kernels(Gpu("card", (12, 0)), build).status == PROBLEM


def test_a_trial_that_is_killed_does_not_kill_the_doctor():
    program = "import os, sys; print('no kernel image', file=sys.stderr); os.abort()"
    outcome = cuda.run_child(sys.executable, "-c", program)
    assert outcome == Outcome(-signal.SIGABRT, "no kernel image")
    finding = gpu.check_trial(outcome, with_xla=False)
    assert finding.status == PROBLEM
    assert "killed by SIGABRT: no kernel image" in finding.what
    assert gpu.check_trial(outcome, with_xla=True).status == WARNING
    assert gpu.check_trial(Outcome(0, "noise"), with_xla=True).status == OK
    assert "exit status 1" in gpu.check_trial(Outcome(1, "x"), with_xla=True).what


def test_a_trial_that_does_not_end_is_ended():
    outcome = cuda.run_child(
        sys.executable, "-c", "import time; time.sleep(60)", timeout_seconds=0.5
    )
    assert outcome.last_line == "not ready after 0.5 s"
    assert gpu.check_trial(outcome, with_xla=False).status == PROBLEM


def findings(build=BUILD, gpus=(), missing=(), attempt=None):
    found = gpu.check_gpu(build, list(gpus), load=loader(*missing), attempt=attempt)
    return {finding.what.split(":")[0]: finding.status for finding in found}


def test_all_together():
    card = Gpu("NVIDIA GeForce RTX 2080", (7, 5))
    healthy = findings(gpus=[card], attempt=lambda with_xla: Outcome(0, ""))
    assert set(healthy.values()) == {OK}
    assert healthy.keys() >= {"GPU", "kernels", "computing", "XLA"}
    without_xla = findings(
        gpus=[card], attempt=lambda with_xla: Outcome(-6 if with_xla else 0, "")
    )
    assert (without_xla["computing"], without_xla["XLA"]) == (OK, WARNING)
    assert findings(gpus=[card])["computing"] == OK  # Not tried: a training runs.
    bare = findings(missing=("libcuda.so.1", "libcudnn.so.9"))
    assert (bare["GPU"], bare["CUDA's libraries"]) == (WARNING, WARNING)
    on_a_mac = findings(build=Build("2.21.0", "", "", ()))
    assert on_a_mac == {"TensorFlow": WARNING, "GPU": WARNING}
