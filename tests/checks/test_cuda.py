"""Proves the judgements of invented cards, drivers, libraries and builds.

No test needs a GPU.
"""

import ctypes
import re
import signal
import sys
from pathlib import Path

import pytest

from resnet50.checks import cuda, gpu
from resnet50.checks.cuda import Build, Driver, Gpu, Outcome
from resnet50.checks.findings import OK, PROBLEM, WARNING

BUILD = Build(
    "2.21.0", "12.5.1", "9", ("sm_60", "sm_70", "sm_80", "sm_89", "compute_90")
)
NO_FILE = "{}: cannot open shared object file: No such file or directory"


def test_the_libraries_come_from_tensorflows_requirements():
    assert cuda.required_libraries(
        [
            "numpy>=1.26.0",
            'nvidia-cublas-cu12<13.0,>=12.5.3.2; extra == "and-cuda"',
            'nvidia-cuda-nvcc-cu12<13.0,>=12.5.82; extra == "and-cuda"',
            'nvidia-cuda-runtime-cu12<13.0,>=12.5.82; extra == "and-cuda"',
            'nvidia-cufft-cu12<12.0,>=11.2.3.61; extra == "and-cuda"',
        ]
    ) == ["libcublas.so.12", "libcublasLt.so.12", "libcudart.so.12", "libcufft.so.11"]
    # NVIDIA's packages for CUDA 13 have no suffix.
    later = ["nvidia-cuda-runtime==13.0.*", "nvidia-cusparse~=12.6"]
    assert cuda.required_libraries(later) == ["libcudart.so.13", "libcusparse.so.12"]
    assert cuda.required_libraries(["numpy>=1.26.0"]) == []


def test_a_missing_library_is_named_with_the_command_that_installs_it():
    missing = ("libcudnn.so.9", "libcufft.so.11")
    reasons = {name: NO_FILE.format(name) for name in missing}
    assert gpu.check_libraries(BUILD, {"libcudart.so.12": ""}).status == OK
    finding = gpu.check_libraries(BUILD, {"libcudart.so.12": "", **reasons})
    assert str(finding) == (
        "warning  CUDA's libraries: 2 of 3 are missing: libcudnn.so.9, libcufft.so.11 "
        "(python3 -m pip install 'tensorflow[and-cuda]==2.21.0')"
    )
    unknown = gpu.check_libraries(BUILD, {})
    assert (unknown.status, "not checked" in unknown.what) == (OK, True)


def test_a_library_that_lacks_another_one_is_explained():
    lacking = NO_FILE.format("libnvJitLink.so.12")
    reasons = {
        "libcufft.so.11": NO_FILE.format("libcufft.so.11"),
        "libcusparse.so.12": lacking,
    }
    finding = gpu.check_libraries(BUILD, reasons)
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


def test_packages_are_searched_beside_tensorflow():
    # tensorflow[and-cuda] may or may not be installed here.
    assert all(path.parts[-3] == "nvidia" for path in cuda.package_folders())


NO_DRIVER = Driver("", None, NO_FILE.format("libcuda.so.1"))


@pytest.mark.parametrize(
    ("driver", "status", "words"),
    [
        (Driver("550.54.14", (12, 4), ""), OK, "550.54.14, for CUDA 12.4"),
        (Driver("580.1", (13, 0), ""), OK, "580.1"),
        (Driver("470.10", (11, 4), ""), WARNING, "is too old for CUDA 12.5.1"),
        (NO_DRIVER, WARNING, "install an NVIDIA driver for CUDA 12 or later"),
        (Driver("", None, ""), OK, "version unknown"),
        (NO_DRIVER._replace(version="550.54"), WARNING, "docker run --gpus all"),
    ],
)
def test_drivers(driver, status, words):
    finding = gpu.check_driver(driver, BUILD)
    assert finding.status == status
    assert words in str(finding)


class FakeLibrary:
    """The driver's library for CUDA 12.4."""

    status = 0

    def cuDriverGetVersion(self, pointer):  # noqa: N802
        pointer._obj.value = 12040
        return self.status


def test_the_driver_is_asked_for_its_versions(tmp_path, monkeypatch):
    proc = tmp_path / "version"
    library = FakeLibrary()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert cuda.find_driver(proc) == Driver("", (12, 4), "")
    proc.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    )
    assert cuda.find_driver(proc) == Driver("550.54.14", (12, 4), "")
    library.status = 34  # CUDA_ERROR_STUB_LIBRARY
    assert cuda.find_driver(proc) == Driver("550.54.14", None, "")

    def refuse(name):
        raise OSError(NO_FILE.format(name))

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert cuda.find_driver(proc) == NO_DRIVER._replace(version="550.54.14")


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


def devices(*gpus, attempt=None):
    found = gpu.check_devices(list(gpus), BUILD, attempt)
    return {finding.what.split(":")[0]: finding.status for finding in found}


def test_devices():
    card = Gpu("NVIDIA GeForce RTX 2080", (7, 5))
    healthy = devices(card, attempt=lambda with_xla: Outcome(0, ""))
    assert healthy == dict.fromkeys(("GPU", "kernels", "computing", "XLA"), OK)
    without_xla = devices(
        card, attempt=lambda with_xla: Outcome(-6 if with_xla else 0, "")
    )
    assert (without_xla["computing"], without_xla["XLA"]) == (OK, WARNING)
    assert devices(card)["computing"] == OK  # Not tried: a training runs.
    assert devices() == {"GPU": WARNING}


def test_a_build_without_gpus_is_warned_of():
    assert gpu.check_build(Build("2.21.0", "", "", ())).status == WARNING
