"""Proves that each trial of a card works, on two logical CPU devices and in seconds.

All are run as the report runs them, each in a process of its own.
"""

import dataclasses
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow as tf

from resnet50.checks import gpu_bounds
from resnet50.checks.gpu_trials import run_trial
from resnet50.training.trials import __main__ as trials_main
from tests.settings import SETTINGS


def tiny(**changes) -> dict:
    """The subject of a trial on the second device; some keys are those of [train]."""
    train = json.loads(json.dumps(dataclasses.asdict(SETTINGS.train), default=str))
    train |= {key: changes.pop(key) for key in list(changes) if key in train}
    return {
        "device": "CPU:1",
        "model": dataclasses.asdict(SETTINGS.model),
        "train": train,
        "batch_size": 4,
        "crop_size": 32,
        "stages": [[1, 4, 1], [1, 8, 2]],
        "num_classes": 3,
        **changes,
    }


REPEATED = {"subject": tiny(deterministic=True), "num_steps": 2}
COMPARED = {"subject": tiny(), "reference": "CPU:0"}
TRIALS = {
    "gpus": ("describe_gpus", {}),
    "smooth": ("compare_devices", {**COMPARED, "is_smooth": True}),
    "real": ("compare_devices", {**COMPARED, "is_smooth": False}),
    "first": ("hash_weights", REPEATED),
    "second": ("hash_weights", REPEATED),
    "ops": ("find_ops_elsewhere", {"subject": tiny()}),
    "step": ("measure_step", {"subject": tiny(), "num_steps": 3}),
    "copy": ("measure_copy", {"subject": tiny(dtype="uint8"), "num_steps": 3}),
    "files": (
        "measure_files",
        {"subject": tiny(), "folder": None, "num_steps": 5, "num_files": 2},
    ),
    "growth": ("measure_growth", {"subject": tiny(), "steps": [2, 5]}),
    "full": (
        "overfill",
        {"subject": tiny(batch_size=10**10), "memory_limit_mb": 3000},
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict:
    """What each trial has ended with."""
    folder = tmp_path_factory.mktemp("files")
    TRIALS["files"][1]["folder"] = str(folder)
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(TRIALS, pool.map(lambda t: run_trial(*t), TRIALS.values())))
    assert not list(folder.iterdir())  # It has deleted its batches.
    return found


@pytest.fixture
def results(outcomes) -> dict:
    failures = {n: o.failure for n, o in outcomes.items() if o.result is None}
    assert not failures
    return {name: outcome.result for name, outcome in outcomes.items()}


def test_gpus_and_build(results):
    assert set(results["gpus"]) == {"gpus", "build"}
    assert results["gpus"]["build"]["tensorflow"]


@pytest.mark.parametrize("name", ["smooth", "real"])
def test_a_step_on_one_device_against_the_other(results, name):
    result = results[name]
    assert result["device"] == "CPU:1"
    # Stem, two blocks of three convolutions and a projection, dense layer.
    assert result["num_gradients"] == 3 + 2 * 4 * 3 + 2
    assert gpu_bounds.judge_difference("float32", name == "smooth", result).is_within


def test_the_smooth_network_is_another_one(results):
    assert abs(results["smooth"]["loss"] - results["real"]["loss"]) > 1e-3


def test_two_deterministic_runs(results):
    assert gpu_bounds.judge_hashes(results["first"], results["second"]).is_within


def test_all_ops_are_on_the_device(results):
    assert results["ops"]["num_ops"] > 100
    assert gpu_bounds.judge_placement(results["ops"]).is_within


def test_ops_on_another_device_are_counted():
    """In a step that was not told where to run, and so runs on the first device."""
    code = (
        "import contextlib, json, sys\n"
        "from resnet50.training.trials.correctness import Subject, find_ops_elsewhere\n"
        "Subject.scope = lambda self: contextlib.nullcontext()\n"
        "subject = Subject(**json.loads(sys.argv[1]))\n"
        "print(json.dumps(find_ops_elsewhere(subject)))\n"
    )
    words = [sys.executable, "-c", code, json.dumps(tiny())]
    result = json.loads(subprocess.check_output(words, text=True).splitlines()[-1])
    assert result["elsewhere"]["Conv2D"] == 9
    assert not gpu_bounds.judge_placement(result).is_within


def test_speed_and_copies(results):
    step, copy = results["step"], results["copy"]
    assert step["images_per_second"] > 0 and step["peak_bytes"] > 1e6
    assert copy["batch_bytes"] == 4 * (32 * 32 * 3 + 4 + 12) + 16
    assert 0 <= copy["hidden"] <= 1
    assert min(copy[f"{name}_seconds"] for name in ("copy", "step", "both")) > 0


def test_files(results):
    files = results["files"]
    assert files["ratio"] == pytest.approx(
        files["file_images_per_second"] / files["resident_images_per_second"]
    )


def test_growth(results):
    assert [found["steps"] for found in results["growth"]["memory"]] == [2, 5]
    assert min(found["process_bytes"] for found in results["growth"]["memory"]) > 1e8


def test_a_batch_that_is_far_too_large_is_one_line(results):
    assert gpu_bounds.judge_overfill(results["full"]).is_within
    assert results["full"]["error"].startswith("the memory of the GPU is full: batches")


def test_tensorflows_errors_are_one_line_with_their_name(monkeypatch):
    def fail():
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when\n[[node x]]")

    monkeypatch.setitem(trials_main.TRIALS, "fail", fail)
    monkeypatch.setattr(sys, "argv", ["trials", "fail", "{}"])
    with pytest.raises(SystemExit, match=r"^ResourceExhaustedError: OOM when$"):
        trials_main.main()
