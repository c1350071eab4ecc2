"""Proves the judgements of invented cards, drivers, libraries and builds.

No test needs a GPU.
"""

import ctypes
import re
import sys
from pathlib import Path

import pytest

from resnet50.checks import cuda, gpu
from resnet50.checks.cuda import Build, CardMemory, Driver, Gpu
from resnet50.checks.findings import OK, PROBLEM, WARNING
from resnet50.checks.gpu_trials import TrialOutcome

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


def test_packages_are_searched_next_to_tensorflow():
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
        ((12, 0), PROBLEM),  # RTX 5090: compute_90 does not help.
        ((10, 0), PROBLEM),  # B200
        ((5, 2), PROBLEM),
        ((0, 0), OK),  # Unknown.
    ],
)
def test_kernels(capability, status):
    assert gpu.check_kernels(Gpu("card", capability), BUILD).status == status
    with_own = BUILD._replace(capabilities=("sm_50", "sm_120", "sm_100"))
    if status == PROBLEM:
        assert gpu.check_kernels(Gpu("card", capability), with_own).status == OK


def test_a_card_without_kernels_is_named_with_its_remedy():
    finding = gpu.check_kernels(Gpu("NVIDIA GeForce RTX 5090", (12, 0)), BUILD)
    assert str(finding) == (
        "problem  kernels: TensorFlow 2.21.0 has none for NVIDIA GeForce RTX 5090, "
        "compute capability 12.0, only for sm_60, sm_70, sm_80, sm_89, compute_90 (use "
        "NVIDIA's own container of TensorFlow (NGC), or a TensorFlow built for this "
        "card)"
    )
    old = gpu.check_kernels(Gpu("NVIDIA Tesla M40", (5, 2)), BUILD)
    assert old.remedy == "use another card, or a TensorFlow built for this one"
    unknown = gpu.check_kernels(Gpu("card", (12, 0)), BUILD._replace(capabilities=()))
    assert (unknown.status, "not checked" in unknown.what) == (OK, True)


@pytest.mark.parametrize(
    ("capability", "version", "status"),
    [
        ((6, 1), (9, 10, 2), OK),
        ((6, 1), (9, 11, 0), PROBLEM),
        ((5, 2), (9, 19, 1), PROBLEM),
        ((7, 0), (9, 11, 0), PROBLEM),
        ((7, 5), (9, 11, 0), OK),
        ((12, 0), (9, 19, 1), OK),
        ((0, 0), (9, 11, 0), OK),  # Unknown.
    ],
)
def test_cudnn_has_kernels_for_the_card(capability, version, status):
    assert gpu.check_cudnn(Gpu("card", capability), version).status == status


def test_a_cudnn_without_kernels_is_named_with_the_command_that_replaces_it():
    card = Gpu("NVIDIA GeForce GTX 1080", (6, 1))
    assert str(gpu.check_cudnn(card, (9, 11, 0))) == (
        "problem  cuDNN: 9.11.0 has no kernels for NVIDIA GeForce GTX 1080, compute "
        "capability 6.1 (python3 -m pip install 'nvidia-cudnn-cu12<9.11')"
    )
    assert str(gpu.check_cudnn(card, (9, 10, 2))) == "ok       cuDNN: 9.10.2"


def write_program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_cudnn_is_asked_for_its_version_in_a_child(tmp_path, monkeypatch):
    assert cuda.find_cudnn("libnone.so.9", [tmp_path]) is None
    (tmp_path / "libnone.so.9").write_bytes(b"torn")
    assert cuda.find_cudnn("libnone.so.9", [tmp_path]) is None
    python = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    # The library in the package is asked first.
    write_program(python, f"test $3 = {tmp_path}/libnone.so.9 && echo 91002")
    assert cuda.find_cudnn("libnone.so.9", [tmp_path / "none", tmp_path]) == (9, 10, 2)
    write_program(python, "test $3 = libnone.so.9 && echo 91100")
    assert cuda.find_cudnn("libnone.so.9", [tmp_path]) == (9, 11, 0)
    write_program(python, "kill -ABRT $$")  # One of cuDNN's own libraries is missing.
    assert cuda.find_cudnn("libnone.so.9", [tmp_path]) is None


def test_nvidia_smi_is_asked_for_the_memory_of_the_cards(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cuda.find_memory() == []
    query = "--query-gpu=name,memory.free,memory.total --format=csv,noheader,nounits"
    lines = "NVIDIA H100, 80GB, 80000, 81559", "GB10, [N/A], [N/A]", "A, 0, 1024"
    smi = tmp_path / "nvidia-smi"
    write_program(
        smi,
        "\n".join(
            [f'test "$*" = "{query}" || exit 1', *(f'echo "{line}"' for line in lines)]
        ),
    )
    cards = cuda.find_memory()
    assert cards == [
        CardMemory("NVIDIA H100, 80GB", 80000 * 2**20, 81559 * 2**20),
        CardMemory("A", 0, 2**30),
    ]
    assert [str(finding) for finding in gpu.check_gpu_memory(cards)] == [
        "ok       GPU memory: 83.9 of 85.5 GB are free on NVIDIA H100, 80GB",
        "ok       GPU memory: 0.0 of 1.1 GB are free on A",
    ]
    write_program(smi, "echo A, 0, 1024; exit 9")  # The driver does not run.
    assert cuda.find_memory() == []


def test_a_trial_that_fails_stops_no_training_if_it_was_with_xla():
    failed = TrialOutcome(None, "killed by SIGABRT: no kernel image")
    finding = gpu.check_trial(failed, with_xla=False)
    assert finding.status == PROBLEM
    assert "fails on the GPU: killed by SIGABRT: no kernel image" in finding.what
    assert gpu.check_trial(failed, with_xla=True).status == WARNING
    assert gpu.check_trial(TrialOutcome({}), with_xla=True).status == OK


def devices(*gpus, cudnn=None, attempt=None):
    found = gpu.check_devices(list(gpus), BUILD, cudnn, attempt)
    return {finding.what.split(":")[0]: finding.status for finding in found}


def test_devices():
    card = Gpu("NVIDIA GeForce RTX 2080", (7, 5))
    healthy = devices(card, attempt=lambda card, with_xla: TrialOutcome({}))
    assert healthy == dict.fromkeys(("GPU", "kernels", "computing", "XLA"), OK)
    without_xla = devices(
        card, attempt=lambda card, with_xla: TrialOutcome(None if with_xla else {})
    )
    assert (without_xla["computing"], without_xla["XLA"]) == (OK, WARNING)
    assert devices(card)["computing"] == OK  # Not tried: a training runs.
    assert devices() == {"GPU": WARNING}
    assert devices(card, cudnn=(9, 11, 0))["cuDNN"] == OK
    newer = Gpu("NVIDIA GeForce RTX 5090", (12, 0))
    assert devices(newer, attempt=pytest.fail) == {"GPU": OK, "kernels": PROBLEM}


def test_a_build_without_gpus_is_a_warning():
    assert gpu.check_build(Build("2.21.0", "", "", ())).status == WARNING
