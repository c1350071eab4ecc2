"""Proves that the units of systemd/ are valid and that their commands run."""

import os
import re
import shlex
import shutil
import subprocess

import pytest

from resnet50.demo.pictures import make_images
from resnet50.signals import STOP_SIGNALS
from resnet50.training.devices.selection import DeviceError, select_gpus
from tests.docs.documents import read
from tests.docs.test_commands import ParsedError, run_until_parsed
from tests.units import (
    FOLDER,
    ON_GPU,
    PREPROCESSOR,
    RUN,
    TRAINER,
    command,
    expand,
    make_home,
    read_unit,
    without_gpu,
)

UNITS = [PREPROCESSOR, TRAINER]


@pytest.fixture
def home(tmp_path):
    make_images(tmp_path / "images" / "train", 2, 1, with_odd_files=True)
    make_home(tmp_path / "home", tmp_path / "images", train={"epochs": 1})
    return tmp_path / "home"


def test_there_are_no_other_units():
    assert sorted(path.name for path in FOLDER.iterdir()) == UNITS


@pytest.mark.parametrize("name", UNITS)
def test_the_program_takes_the_flags(name, tmp_path, monkeypatch):
    words = command(name, tmp_path)
    assert words[0] == f"{tmp_path}/resnet50/.venv/bin/python"
    with pytest.raises(ParsedError):
        run_until_parsed(words, monkeypatch)


@pytest.mark.parametrize("name", UNITS)
def test_exit_statuses_mean_what_the_page_says(name):
    service = read_unit(name)["Service"]
    table = dict(re.findall(r"^\| (\d+) \| (.*?) \|$", read("programs.md"), re.M))
    assert service["Restart"] == "on-failure"
    for status in service["RestartPreventExitStatus"].split():
        assert "error, reported in one line" in table[status] or "flag" in table[status]
    assert "SIGTERM" in table[service["SuccessExitStatus"]]
    assert "traceback" in table["70"]
    assert service["KillSignal"] in {number.name for number in STOP_SIGNALS}


def test_the_pages_name_the_units():
    text = read("programs.md")
    for stem in ("resnet50-preprocessing", "resnet50-train@mytestrun"):
        assert stem in text


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd")
def test_systemd_finds_nothing_wrong(home, tmp_path):
    folder = home / ".config" / "systemd" / "user"
    shutil.copytree(FOLDER, folder)
    (tmp_path / "runtime").mkdir(mode=0o700)
    trainer = folder / TRAINER.replace("@", f"@{RUN}")
    (folder / TRAINER).rename(trainer)
    result = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "verify", trainer],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(tmp_path / "runtime"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, "")


def test_a_restart_that_finds_no_gpu_is_refused(home):
    """By the trainer, whose flag select_gpus refuses without a GPU."""
    assert command(TRAINER, home)[-1] == ON_GPU
    with pytest.raises(DeviceError, match="TensorFlow finds no GPU"):
        select_gpus(ON_GPU.removeprefix("--gpus="), num_gpus=0)
    assert select_gpus("0", num_gpus=1) == select_gpus(None, num_gpus=1)


def test_the_commands_train(home):
    processes = [
        subprocess.Popen(
            shlex.split(without_gpu(shlex.join(command(name, home)))),
            cwd=expand(read_unit(name)["Service"]["WorkingDirectory"], home),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in UNITS
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert f"{RUN}: trained up to epoch 1" in outputs[1]
