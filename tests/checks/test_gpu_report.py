"""Proves the judgement of invented results, and the report on an invented card."""

import os

import pytest

from resnet50.checks import cuda, gpu_bounds, gpu_report, gpu_trials
from resnet50.checks.findings import OK, PROBLEM, WARNING
from resnet50.checks.gpu_report import BrokenBoundError, NoGpuError, ReportFileError
from resnet50.checks.gpu_trials import TrialOutcome, run_trial, try_card
from tests.settings import SHIPPED

FULL = TrialOutcome(None, "ResourceExhaustedError: OOM when allocating tensor")
BUILD = {
    "tensorflow": "2.21.0",
    "cuda": "12.5.1",
    "cudnn": "9",
    "capabilities": ["sm_70", "sm_80", "compute_90"],
}
# One result of each trial, within its bounds.
RESULTS = {
    "describe_gpus": {"gpus": [["NVIDIA A100", [8, 0]]], "build": BUILD},
    "find_ops_elsewhere": {"num_ops": 900, "elsewhere": {}},
    "compare_devices": {
        "loss_difference": 1e-7,
        "gradient_difference": 1e-6,
        "worst_difference": 1e-5,
        "worst_variable": "dense/bias:0",
        "num_gradients": 161,
    },
    "hash_weights": {"sha256": "ab" * 32},
    "overfill": {"error": "the memory of the GPU is full: batches of 512"},
    "measure_growth": {
        "memory": [
            {"steps": 100, "card_bytes": 2e8, "process_bytes": 2e9},
            {"steps": 2000, "card_bytes": 2e8, "process_bytes": 2.01e9},
        ]
    },
    "measure_copy": {
        "copy_seconds": 0.01,
        "step_seconds": 0.1,
        "both_seconds": 0.101,
        "batch_bytes": 77_000_000,
        "hidden": 0.9,
    },
    "measure_files": {
        "file_images_per_second": 2450.0,
        "resident_images_per_second": 2500.0,
        "ratio": 0.98,
    },
    "measure_step": {"images_per_second": 2500.0, "peak_bytes": 12.3e9},
}


def report(tmp_path, capability=(8, 0), **changes):
    """Writes a report; some trials have other outcomes."""
    calls = []
    results = {**RESULTS, **changes}
    results["describe_gpus"] = {"gpus": [["a card", capability]], "build": BUILD}

    def run(name, arguments):
        calls.append((name, arguments))
        found = results[name]
        return found if isinstance(found, TrialOutcome) else TrialOutcome(found)

    path = tmp_path / "report.txt"
    lines = []
    try:
        gpu_report.write_report(SHIPPED, path, lines.append, run)
        error = ""
    except BrokenBoundError as raised:
        error = str(raised)
    assert path.read_text().splitlines() == lines
    return lines, calls, error


def precisions(calls, name):
    return {
        a["subject"]["train"]["precision"] + "/tf32" * a["subject"]["train"]["tf32"]
        for called, a in calls
        if called == name
    }


def test_a_card_within_all_bounds(tmp_path):
    lines, calls, error = report(tmp_path)
    assert not error and lines[-1] == "failed trials: 0"
    assert "card: a card, compute capability 8.0" in lines
    assert not [line for line in lines if line.startswith(("problem", "warning"))]
    assert {name for name, _ in calls} == RESULTS.keys()
    four = {"float32", "float32/tf32", "float16", "bfloat16"}
    for name in ("compare_devices", "hash_weights", "measure_step"):
        assert precisions(calls, name) == four
    assert precisions(calls, "measure_files") == {"bfloat16"}
    copied = {a["subject"]["image_dtype"] for n, a in calls if n == "measure_copy"}
    assert copied == {"float16", "uint8"}
    hashes = [a for name, a in calls if name == "hash_weights"]
    assert len(hashes) == 8 and all(
        a["subject"]["train"]["deterministic"] for a in hashes
    )
    steps = [a["subject"] for name, a in calls if name == "measure_step"]
    assert {s["batch_size"] for s in steps} == {64, 128, 256}
    best = [s for s in steps if s["train"]["precision"] == "bfloat16"]
    assert len(best) == 9 and sum(s["train"]["xla"] for s in best) == 3
    assert any(
        "copy 10.0 ms (7.7 GB/s), step 100.0 ms, both at once 101.0 ms: 90 % of the "
        "copy is hidden".replace("90 %", "90%")
        in line
        for line in lines
    )


@pytest.mark.parametrize(
    ("capability", "modes"),
    [((7, 0), {"float32", "float16"}), ((6, 1), {"float32", "float16"})],
)
def test_older_cards_are_tried_in_what_they_can(tmp_path, capability, modes):
    _, calls, _ = report(tmp_path, capability)
    assert precisions(calls, "measure_step") == modes
    best = {"float16"} if capability >= (7, 0) else {"float32"}
    assert precisions(calls, "measure_growth") == best


def test_without_kernels_for_the_card_xla_is_not_tried(tmp_path):
    """XLA would end the process, and again for each batch size."""
    _, calls, _ = report(tmp_path, (9, 0))
    assert any(a["subject"]["train"]["xla"] for n, a in calls if n == "measure_step")
    _, calls, _ = report(tmp_path, (12, 0))
    subjects = [a["subject"] for name, a in calls if name != "describe_gpus"]
    assert not any(subject["train"]["xla"] for subject in subjects)


def test_a_trial_that_crashes_is_a_line_and_the_others_go_on(tmp_path):
    crash = TrialOutcome(None, "killed by SIGSEGV: Fatal Python error")
    lines, calls, error = report(tmp_path, overfill=crash)
    [line] = [line for line in lines if line.startswith("problem")]
    assert line.endswith("batches of 2048: killed by SIGSEGV: Fatal Python error")
    assert calls[-1][0] == "measure_step" and lines[-1] == "failed trials: 1"
    assert error.endswith("report.txt: failed trials: 3 GB of the card")


def test_a_batch_that_does_not_fit_is_no_failure(tmp_path):
    lines, calls, error = report(tmp_path, measure_step=FULL, measure_copy=FULL)
    assert not error
    warnings = [line for line in lines if line.startswith("warning")]
    sizes = [a["subject"]["batch_size"] for n, a in calls if n == "measure_copy"]
    assert sizes == [256, 128, 64] * 2
    assert all("too large for the card's memory" in line for line in warnings)


def test_the_report_begins_with_the_machine(tmp_path, monkeypatch):
    cards = [cuda.CardMemory("a card", 70 * 10**9, 80 * 10**9)]
    monkeypatch.setattr(cuda, "find_memory", lambda: cards)
    monkeypatch.setattr(cuda, "find_driver", lambda: cuda.Driver("550.54", None, ""))
    monkeypatch.setattr(cuda, "find_cudnn", lambda name, folders: (9, 10, len(name)))
    lines, _, _ = report(tmp_path)
    assert lines[0].startswith("resnet50-two-process ")
    assert lines[1:6] == [
        "card: a card, compute capability 8.0",
        "memory: a card, 70.0 of 80.0 GB are free",
        "driver: 550.54",
        "TensorFlow: 2.21.0 for CUDA 12.5.1, cuDNN 9",
        "cuDNN: 9.10.13",  # The name is libcudnn.so.9.
    ]


def judged(name, **changes):
    """Whether a result with some changes is within its bound."""
    trial = gpu_trials.CardTrial(
        "title",
        name,
        {"subject": {"batch_size": 8}},
        {
            "compare_devices": lambda r: gpu_bounds.judge_difference(
                "float32", True, r
            ),
            "find_ops_elsewhere": gpu_bounds.judge_placement,
            "measure_files": gpu_bounds.judge_files,
            "measure_growth": gpu_bounds.judge_growth,
            "overfill": gpu_bounds.judge_overfill,
        }[name],
    )
    result = TrialOutcome({**RESULTS[name], **changes})
    return try_card(trial, lambda *_: result).status


def grown(card, process):
    first, last = RESULTS["measure_growth"]["memory"]
    last = {**last, "card_bytes": 2e8 + card, "process_bytes": 2e9 + process}
    return [first, last]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("compare_devices", {"loss_difference": 0.001}),
        ("compare_devices", {"gradient_difference": 0.5}),
        ("compare_devices", {"loss_difference": float("nan")}),
        ("compare_devices", {"gradient_difference": float("nan")}),
        ("find_ops_elsewhere", {"elsewhere": {"Sum": 1}}),
        ("find_ops_elsewhere", {"num_ops": 0}),
        ("measure_files", {"ratio": 0.969}),
        ("measure_growth", {"memory": grown(2e6, 0)}),
        ("measure_growth", {"memory": grown(0, 1e8)}),
        ("overfill", {"error": ""}),
        ("overfill", {"error": "two\nlines"}),
    ],
)
def test_a_result_out_of_bounds_is_a_problem(name, changes):
    assert judged(name) == OK
    assert judged(name, **changes) == PROBLEM


@pytest.mark.parametrize("is_smooth", [True, False])
def test_what_one_precision_may_differ_is_too_much_for_the_next(is_smooth):
    """Just below the bounds: 4 u of the loss; 64 u or 4 sqrt(u) of the gradients."""
    roundoffs = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-16}
    for index, (mode, roundoff) in enumerate(roundoffs.items()):
        largest = 64 * roundoff if is_smooth else 4 * roundoff**0.5
        result = RESULTS["compare_devices"] | {
            "gradient_difference": 0.99 * largest,
            "loss_difference": 3.99 * roundoff,
        }
        for other, later in enumerate(roundoffs):
            verdict = gpu_bounds.judge_difference(later, is_smooth, result)
            assert verdict.is_within == (other <= index), (mode, later)
        tf32 = gpu_bounds.judge_difference("float32 with TF32", is_smooth, result)
        assert tf32.is_within == (index > 0)


def test_two_runs_that_differ_are_a_problem():
    assert gpu_bounds.judge_hashes({"sha256": "a"}, {"sha256": "a"}).is_within
    verdict = gpu_bounds.judge_hashes({"sha256": "a"}, {"sha256": "b"})
    assert not verdict.is_within and "different, SHA-256 a and b" in verdict.what


def test_a_card_whose_memory_is_too_small_for_all_is_a_warning():
    trial = gpu_trials.CardTrial(
        "t", "n", {"subject": {"batch_size": 8}}, None, batch_sizes=(8, 4)
    )
    finding = try_card(trial, lambda *_: FULL)
    assert finding.status == WARNING
    assert finding.what == "t, batches of 4: too large for the card's memory"


def test_an_arm_processor_has_no_model_name(tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nCPU implementer\t: 0x41\n")
    monkeypatch.setattr(gpu_report, "_CPUINFO", cpuinfo)
    monkeypatch.setattr(gpu_report.platform, "machine", lambda: "aarch64")
    lines, _, _ = report(tmp_path)
    (line,) = [line for line in lines if line.startswith("Python: ")]
    assert line.endswith(f"; CPU: aarch64, {os.cpu_count()} threads")


def test_without_a_gpu_there_is_one_line_and_no_file(tmp_path):
    path = tmp_path / "report.txt"
    none = {"gpus": [], "build": BUILD}
    for outcome, text in (
        (TrialOutcome(none), "TensorFlow finds no GPU"),
        (TrialOutcome(None, "ImportError: no"), "TensorFlow fails: ImportError: no"),
    ):
        with pytest.raises(NoGpuError, match=text):
            gpu_report.write_report(
                SHIPPED, path, pytest.fail, lambda *_, found=outcome: found
            )
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_named_before_the_first_trial(tmp_path):
    path = tmp_path / "missing" / "report.txt"

    def run(name, arguments):
        assert name == "describe_gpus"
        return TrialOutcome(RESULTS[name])

    with pytest.raises(
        ReportFileError, match=r"missing/report\.txt: cannot be written"
    ):
        gpu_report.write_report(SHIPPED, path, print, run)


@pytest.fixture
def as_trial(tmp_path, monkeypatch):
    """Makes a shell script take the place of every trial."""

    def replace(text):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        monkeypatch.setattr("sys.executable", str(path))

    return replace


def test_the_process_of_a_trial(as_trial):
    as_trial('echo noise; echo "{\\"words\\": \\"$2 $3\\"}"; echo more >&2')
    expected = {"words": "resnet50.training.trials measure_step"}
    assert run_trial("measure_step", {}) == TrialOutcome(expected)
    as_trial("echo why >&2; echo >&2; exit 1")
    assert run_trial("measure_step", {}) == TrialOutcome(None, "why")
    as_trial("echo Fatal >&2; kill -SEGV $$")
    assert run_trial("x", {}) == TrialOutcome(None, "killed by SIGSEGV: Fatal")
    as_trial("exec sleep 60")
    assert run_trial("x", {}, 0.1) == TrialOutcome(None, "not ready after 0.1 s")
    assert not run_trial("x", {}, 0.1).is_full and FULL.is_full
