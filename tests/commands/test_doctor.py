"""Proves that the doctor runs to its end on any machine and says if training can start.

One test runs a real process with TensorFlow; the others leave out the GPU.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet50.checks import cuda, disks
from resnet50.checks.agreement import Programs
from resnet50.checks.cuda import Build, CardMemory, Gpu
from resnet50.checks.findings import OK, PROBLEM, WARNING, Finding, guarded
from resnet50.commands import doctor
from resnet50.commands.doctor import CannotTrainError
from resnet50.errors import UserError
from resnet50.handoff.manifest import write_manifest
from resnet50.network.model import ResNet50
from resnet50.training.devices import reported
from tests.images import make_class_folders
from tests.settings import PROJECT, SETTINGS, write_small_config


@pytest.fixture
def config(tmp_path):
    make_class_folders(tmp_path / "images" / "train", 3, 4)
    make_class_folders(tmp_path / "images" / "val", 3, 1)
    return write_small_config(tmp_path)


def test_the_command_for_real(config):
    process = subprocess.run(
        [sys.executable, "-m", "resnet50", "doctor", f"--config={config}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = process.stdout.splitlines()
    assert process.returncode == 0, process.stdout + process.stderr
    assert lines[-1].startswith("a training can start; problems: 0, ")
    assert all(line.split()[0] in (OK, WARNING) for line in lines[:-1])
    for subject in ("Python", "packages", "cores", "memory", "buffer", "GPU"):
        assert any(line[9:].startswith(f"{subject}: ") for line in lines), subject
    assert any("12 of 3 classes (4 to 4 each), 3 batches of 4" in x for x in lines)
    assert any("3 of 3 classes, the training images' own" in x for x in lines)
    assert "Traceback" not in process.stderr
    assert {path.name for path in config.parent.iterdir()} == {"config.txt", "images"}


@pytest.fixture
def run(config, monkeypatch, capsys):
    def run(*flags, path=config):
        gpu = [Finding(OK, "GPU: made up")]
        monkeypatch.setattr(doctor, "inspect_gpu", lambda running, config: gpu)
        monkeypatch.setattr("sys.argv", ["doctor", f"--config={path}", *flags])
        try:
            doctor.main()
        except CannotTrainError as error:
            return [*capsys.readouterr().out.splitlines(), str(error)]
        return capsys.readouterr().out.splitlines()

    return run


def test_a_wrong_config_does_not_end_the_other_checks(run, tmp_path):
    lines = run("--batch_size=0")
    assert "problem  --batch_size = 0 (must be at least 1)" in lines
    assert lines[-2:] == [
        "ok       GPU: made up",
        "a training cannot start; problems: 1, warnings: 0",
    ]


def test_images_that_are_missing_do_not_end_the_other_checks(run, config):
    (config.parent / "images").rename(config.parent / "elsewhere")
    lines = run()
    assert any(
        line.startswith("problem  training images: ")
        and "images/train: cannot be read: No such file" in line
        for line in lines
    )
    assert lines[-2] == "ok       GPU: made up"
    assert lines[-1].startswith("a training cannot start; problems: 1")


def test_a_training_needs_no_validation_images(run, config):
    (config.parent / "images" / "val").rename(config.parent / "elsewhere")
    lines = run()
    assert any(line.startswith("warning  validation images: ") for line in lines)
    assert lines[-1].startswith("a training can start; problems: 0")


def test_batches_of_other_settings_are_named(run, config):
    buffer = config.parent / "buffer"
    buffer.mkdir()
    write_manifest(buffer, {"seed": 5})
    lines = run()
    assert any(
        line.startswith("warning  settings: in the buffer, ")
        and "seed is 5 there and 0 here" in line
        for line in lines
    )


def test_too_many_workers_on_the_command_line(run):
    lines = run("--num_workers=900")
    assert any("set [runtime_preprocessing] num_workers = " in line for line in lines)


def test_the_facts_about_a_gpu_reach_its_checks(monkeypatch):
    build = Build("2.21.0", "12.5.1", "9", ("sm_60", "compute_90"))
    versions = {"libcudnn.so.9": (9, 11, 0)}
    memory = [CardMemory("GeForce GTX 1080", 7 * 10**9, 8 * 10**9)]
    monkeypatch.setattr(reported, "find_build", lambda: build)
    monkeypatch.setattr(
        reported, "find_gpus", lambda: [Gpu("GeForce GTX 1080", (6, 1))]
    )
    monkeypatch.setattr(cuda, "find_cudnn", lambda name, folders: versions[name])
    monkeypatch.setattr(cuda, "find_memory", lambda: memory)
    lines = list(map(str, doctor.inspect_gpu(Programs(None, "1"), None)))
    assert lines[0] == "ok       TensorFlow: 2.21.0, CUDA 12.5.1, cuDNN 9"
    assert lines[3:] == [
        "ok       GPU memory: 7.0 of 8.0 GB are free on GeForce GTX 1080",
        "ok       GPU: GeForce GTX 1080, compute capability 6.1",
        "problem  cuDNN: 9.11.0 has no kernels for GeForce GTX 1080, compute "
        "capability 6.1 (python3 -m pip install 'nvidia-cudnn-cu12<9.11')",
        "ok       kernels: TensorFlow's are for sm_60, compute_90",
        "ok       computing: not tried, as train.py runs or config.txt is wrong",
    ]


def test_tensorflow_is_quoted_if_it_finds_no_gpu_in_spite_of_a_driver(monkeypatch):
    lines = [
        "WARNING: All log messages before absl::InitializeLog() is called are ...",
        "I0000 00:00:1795692997.776485   10814 port.cc:153] oneDNN is on.",
        "E0000 00:00:1795693000.120307   10814 cuda_platform.cc:52] failed call to "
        "cuInit: [x] UNKNOWN ERROR (303)",
    ]
    monkeypatch.setattr(reported, "find_gpus", list)
    monkeypatch.setattr(
        doctor.command_line,
        "loading_tensorflow",
        lambda: contextlib.nullcontext(lines),
    )
    quoted = "warning  TensorFlow: failed call to cuInit: [x] UNKNOWN ERROR (303)"
    for version, has_driver in (("580.95.05", True), ("", False)):
        driver = cuda.Driver(version, (13, 0), "" if has_driver else "no library")
        monkeypatch.setattr(cuda, "find_driver", lambda driver=driver: driver)
        findings = map(str, doctor.inspect_gpu(Programs(None, "1"), None))
        assert [x for x in findings if x.startswith("warning  TensorFlow: ")] == (
            [quoted] if has_driver else []
        )


@pytest.mark.parametrize("error", [UserError("x: wrong"), OSError("x: wrong")])
def test_expected_failures_of_a_check_are_findings(error):
    def check():
        yield Finding(OK, "fine")
        raise error

    assert list(guarded("subject", check())) == [
        Finding(OK, "fine"),
        Finding(PROBLEM, "subject: x: wrong"),
    ]


def test_a_bug_in_a_check_keeps_its_traceback():
    def check():
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        list(guarded("subject", check()))


def test_the_size_of_a_checkpoint_is_that_of_the_networks_variables():
    model = ResNet50(10, SETTINGS.model)
    trained = {v.ref() for v in model.trainable_variables}
    numbers = sum(
        v.shape.num_elements() * (2 if v.ref() in trained else 1)
        for v in model.variables
    )
    assert disks.plain_checkpoint_bytes(10) == 4 * numbers


def test_a_package_that_is_missing_is_named_in_one_line():
    program = (
        "import sys; sys.modules['tqdm'] = None; sys.argv = ['resnet50', 'doctor']\n"
        "from resnet50.__main__ import main; main()"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr == (
        "tqdm: this Python package is not installed (pip install -e .)\n"
    )


def test_a_report_needs_a_gpu(config):
    """On a machine without one: one line, and no file."""
    words = ["-m", "resnet50", "doctor", f"--config={config}", "--gpu-report"]
    process = subprocess.run(
        [sys.executable, *words],
        cwd=config.parent,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 1 and process.stdout == ""
    assert process.stderr == (
        "--gpu-report: TensorFlow finds no GPU (python3 -m resnet50 doctor says why)\n"
    )
    assert not (config.parent / "gpu-report.txt").exists()


def test_a_report_needs_the_whole_gpu(config, run, monkeypatch):
    programs = doctor.Programs(None, "1234")
    monkeypatch.setattr(doctor.agreement, "find_programs", lambda folder: programs)
    [line] = run("--gpu-report")
    assert line == "--gpu-report: train.py uses the GPU (stop it)"


def test_the_report_is_written_where_the_flag_says(run, monkeypatch):
    written = []
    monkeypatch.setattr(
        doctor, "write_report", lambda _, path, show: written.append(path)
    )
    assert run("--gpu-report") == run("--gpu-report=mine.txt") == []
    assert written == [Path("gpu-report.txt"), Path("mine.txt")]
