"""Proves that each trial of a card works, on two logical CPU devices and in seconds.

They share a process, unlike in the report, as each process would take four seconds.
"""

import dataclasses
import inspect
import json
import subprocess
import sys

import pytest
import tensorflow as tf

from resnet50.checks import gpu_bounds
from resnet50.checks.cuda import Build, Gpu
from resnet50.checks.gpu_report import CardPlan
from resnet50.network.model import PRECISIONS
from resnet50.training.trials import __main__ as trials_main
from resnet50.training.trials.subject import Subject
from resnet50.training.update.schedules import StepNumbers
from tests.settings import SETTINGS


def tiny(deterministic=False, **changes) -> dict:
    """The subject of a trial on the second device."""
    train = json.loads(json.dumps(dataclasses.asdict(SETTINGS.train), default=str))
    return {
        "device": "CPU:1",
        "model": dataclasses.asdict(SETTINGS.model),
        "train": {**train, "deterministic": deterministic},
        "batch_size": 4,
        "crop_size": 32,
        "stages": [[1, 4, 1], [1, 8, 2]],
        "num_classes": 3,
        **changes,
    }


REPEATED = {"subject": tiny(deterministic=True), "num_steps": 2}
COMPARED = {"subject": tiny(), "reference": "CPU:0"}
# Those that change TensorFlow for good come last.
TRIALS = {
    "gpus": ("describe_gpus", {}),
    "real": ("compare_devices", {**COMPARED, "is_smooth": False}),
    "step": ("measure_step", {"subject": tiny(), "seconds": 0}),
    "copy": ("measure_copy", {"subject": tiny(image_dtype="uint8"), "seconds": 0}),
    "files": (
        "measure_files",
        {"subject": tiny(), "folder": None, "seconds": 0.05, "num_files": 2},
    ),
    "growth": ("measure_growth", {"subject": tiny(), "steps": [2, 5]}),
    "full": (
        "overfill",
        {"subject": tiny(batch_size=10**10), "memory_limit_mb": 3000},
    ),
    "ops": ("find_ops_elsewhere", {"subject": tiny()}),
    "smooth": ("compare_devices", {**COMPARED, "is_smooth": True}),
    "first": ("hash_weights", REPEATED),
    "second": ("hash_weights", REPEATED),
}
RUN_ALL = """if True:
    import json, sys
    from resnet50.training.trials.__main__ import main
    for words in json.load(sys.stdin):
        sys.argv[1:] = words
        main()
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    """The result of each trial."""
    folder = tmp_path_factory.mktemp("files")
    TRIALS["files"][1]["folder"] = str(folder)
    words = [[name, json.dumps(arguments)] for name, arguments in TRIALS.values()]
    output = subprocess.check_output(
        [sys.executable, "-c", RUN_ALL], input=json.dumps(words), text=True
    )
    assert not list(folder.iterdir())  # It has deleted its batches.
    return dict(zip(TRIALS, map(json.loads, output.splitlines()), strict=True))


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
    assert sum(result["elsewhere"].values()) > 100
    assert not gpu_bounds.judge_placement(result).is_within


def test_speed_and_copies(results):
    step, copy = results["step"], results["copy"]
    assert step["images_per_second"] > 0 and step["peak_bytes"] > 1e6
    numbers_bytes = 4 * len(StepNumbers._fields)
    assert copy["batch_bytes"] == 4 * (32 * 32 * 3 + 4 + 12) + numbers_bytes
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


def test_the_trials_of_a_report_have_the_arguments_that_they_need():
    build = Build("2.21.0", "12.5.1", "9", ("sm_80",))
    names = set()
    for trial in CardPlan(SETTINGS, Gpu("a card", (8, 0)), build).trials():
        arguments = json.loads(json.dumps(trial.arguments))
        inspect.signature(trials_main.TRIALS[trial.name]).bind(**arguments)
        subject = Subject(**arguments["subject"])
        assert subject.train_config.precision in PRECISIONS
        names.add(trial.name)
    assert names == trials_main.TRIALS.keys() - {"describe_gpus"}


def test_tensorflows_errors_are_one_line_with_their_name(monkeypatch):
    def fail():
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when\n[[node x]]")

    monkeypatch.setitem(trials_main.TRIALS, "fail", fail)
    monkeypatch.setattr(sys, "argv", ["trials", "fail", "{}"])
    with pytest.raises(SystemExit, match=r"^ResourceExhaustedError: OOM when$"):
        trials_main.main()
