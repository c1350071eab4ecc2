"""Proves that programs check everything else before they load TensorFlow.

Each program is a real process that ends with a traceback if it imports TensorFlow.
"""

import json
import os
import subprocess
import sys

import pytest

from resnet50.config.toml_file import read_config
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.handoff.manifest import write_manifest
from resnet50.preprocessing.batches import BatchSettings
from tests.images import make_class_folders
from tests.settings import PROJECT, write_small_config

TRAIN = ("train.py", "--run_folder=run")
EVALUATE = ("-m", "resnet50", "evaluate", "--run_folder=run", "--epoch_end=1")


@pytest.fixture
def config(tmp_path):
    """A sound project, and next to it a TensorFlow that cannot be imported."""
    module = tmp_path / "no_tensorflow" / "tensorflow.py"
    module.parent.mkdir()
    module.write_text("raise RuntimeError('TensorFlow was imported')\n")
    make_class_folders(tmp_path / "images" / "train", 2, 4)
    make_class_folders(tmp_path / "images" / "val", 2, 1)
    (tmp_path / "buffer").mkdir()
    return write_small_config(tmp_path)


def run(config, *words):
    """Returns the exit status and the last line of stderr."""
    paths = str(config.parent / "no_tensorflow"), str(PROJECT)
    process = subprocess.run(
        [sys.executable, *words, f"--config={config}"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    return process.returncode, process.stderr.splitlines()[-1]


def test_settings_that_differ_from_the_buffer_are_refused(config):
    """Before the trainer's lock is taken, which would keep a preprocessor out."""
    settings = read_config(config)
    buffer = settings.train.buffer_folder
    dataset = open_training_set(settings.dataset, buffer)
    manifest = BatchSettings.from_config(settings).manifest(dataset)
    write_manifest(buffer, {**manifest, "seed": 99})
    status, line = run(config, *TRAIN)
    assert status == 1
    assert "seed is 99 there and 0 here" in line
    assert not (buffer / f"{locks.TRAINER}.lock").exists()


def test_a_second_evaluation_is_refused_with_the_first_ones_id(config):
    """Also if it would only wait for checkpoints."""
    folder = config.parent / "saved_models" / "run"
    folder.mkdir(parents=True)
    with locks.exclusive_role(folder, locks.EVALUATOR):
        for flags in ([], ["--wait"]):
            status, line = run(config, *EVALUATE, *flags)
            assert status == 1
            assert line == (
                f"{folder}: is being evaluated by process {os.getpid()} (wait until "
                "that ends, or stop it)"
            )


def test_an_evaluation_of_no_run_creates_none(config):
    folder = config.parent / "saved_models" / "run"
    assert run(config, *EVALUATE) == (
        1,
        f"{folder}: there is no such run (check --run_folder)",
    )
    assert not folder.exists()


@pytest.mark.parametrize(
    "flags",
    [
        ("--resume", "--epoch_start=1"),
        ("--resume_or_start", "--epoch_start=1"),
        ("--resume", "--resume_or_start"),
    ],
)
def test_a_training_starts_in_one_way(config, flags):
    status, line = run(config, *TRAIN, *flags)
    assert status == 2
    assert line.endswith("give one of --resume, --resume_or_start and --epoch_start")


PREDICT = ("-m", "resnet50", "predict", "--run_folder=run", "images")
EXPORT = ("-m", "resnet50", "export", "--run_folder=run", "--output=model")


@pytest.mark.parametrize("words", [PREDICT, EXPORT])
def test_wrong_and_missing_flags_are_refused_at_once(config, words):
    status, line = run(config, *words[:3])
    assert status == 2
    assert "the following arguments are required: --run_folder" in line
    status, line = run(config, *words, "--run_folder=a/b")
    assert status == 1
    assert line.startswith("--run_folder = 'a/b' (must be a plain name")


@pytest.mark.parametrize("words", [TRAIN, EVALUATE, PREDICT, EXPORT])
def test_a_sound_project_reaches_tensorflow(config, words):
    """Without this, the tests above would prove nothing."""
    (config.parent / "saved_models" / "run").mkdir(parents=True)
    assert run(config, *words) == (70, "RuntimeError: TensorFlow was imported")


def test_the_best_of_no_evaluated_epochs_is_one_line(config):
    folder = config.parent / "saved_models" / "run"
    folder.mkdir(parents=True)
    best = ("-m", "resnet50", "evaluate", "--run_folder=run", "--epoch=best")
    assert run(config, *best) == (
        1,
        f"{folder}: no epoch has been evaluated, so none is the best (run `python3 "
        "-m resnet50 evaluate` first)",
    )
    status, line = run(config, *EVALUATE, "--epoch=best")
    assert status == 2
    assert line.endswith("give --epoch, or --epoch_start and --epoch_end")
    status, line = run(config, *PREDICT, "--epoch=worst")
    assert status == 2
    assert line.endswith("--epoch: 'worst' (must be a whole number or best)")


@pytest.fixture
def two_hosts(monkeypatch):
    """This is the second of two hosts."""
    task = {"type": "worker", "index": 1}
    text = json.dumps({"cluster": {"worker": ["a:1", "b:2"]}, "task": task})
    monkeypatch.setenv("TF_CONFIG", text)


def test_two_hosts_with_one_run_folder_hear_that_each_needs_its_own(config, two_hosts):
    """As if saved_models_folder were on a network disk; the buffers are local."""
    folder = config.parent / "saved_models" / "run"
    folder.mkdir(parents=True)
    with locks.exclusive_role(folder, locks.TRAINER):
        status, line = run(config, *TRAIN, "--set=train.local_folders=true")
    assert status == 1
    assert line == (
        f"{folder}: train.py already runs here, process {os.getpid()} (stop it, or "
        "give this one a folder of its own); with [train] local_folders = true, each "
        "host needs a buffer_folder and a saved_models_folder of its own"
    )


@pytest.mark.parametrize("program", [TRAIN, ("runtime_preprocessing.py",)])
def test_a_batch_that_hosts_cannot_share_equally_is_refused(config, two_hosts, program):
    flags = "--set=train.local_folders=true", "--batch_size=3"
    assert run(config, *program, *flags) == (
        1,
        "[train] batch_size = 3 (must be divisible by 2, the number of workers in "
        "TF_CONFIG)",
    )
