"""The report on a card: what is tried, and the bounds of the results."""

import dataclasses
import datetime
import functools
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from resnet50.checks import cuda, gpu, software
from resnet50.checks.cuda import Build, Gpu
from resnet50.checks.disks import free_bytes
from resnet50.checks.findings import OK, PROBLEM
from resnet50.checks.gpu_bounds import (
    GROWTH_STEPS,
    judge_copy,
    judge_difference,
    judge_files,
    judge_growth,
    judge_hashes,
    judge_overfill,
    judge_placement,
    judge_speed,
)
from resnet50.checks.gpu_trials import CardTrial, TrialOutcome, run_trial, try_card
from resnet50.config.settings import Config
from resnet50.errors import UserError
from resnet50.installation import typed

_DEVICE, _CPU = "GPU:0", "CPU:0"
_BATCH_SIZES = (64, 128, 256)
_CROP_SIZE = 224
_SHARED_MEMORY = Path("/dev/shm")
_CPUINFO = Path("/proc/cpuinfo")


class NoGpuError(UserError):
    """There is no GPU to report on."""


class ReportFileError(UserError):
    """The report cannot be written."""


class BrokenBoundError(UserError):
    """A trial has failed, or its result is out of bounds."""


class CardPlan:
    """The trials of a card."""

    def __init__(self, config: Config, card: Gpu, build: Build):
        """Takes config.txt for the network; the trials set what they vary."""
        self._model = dataclasses.asdict(config.model)
        train = dataclasses.asdict(config.train)
        self._train = json.loads(json.dumps(train, default=str)) | {
            "accumulate_batches": 1,
            "mixup_alpha": 0.0,
            "cutmix_alpha": 0.0,
            "optimizer": "sgd",
            "weight_decay": 0.0,
            "loss": "cross_entropy",
            "weight_average_decay": 0.0,
            "deterministic": False,
            "precision": "float32",
            "tf32": False,
            "xla": False,
        }
        self._has_xla = gpu.check_kernels(card, build).status == OK
        self.best = gpu.best_precision(card.capability)
        self.modes = ["float32", "float16"]
        if self.best == "bfloat16":  # Such a card has TF32, too.
            self.modes += ["float32 with TF32", "bfloat16"]

    def _subject(self, mode: str, batch_size: int, **changes) -> dict:
        """The subject of a trial; further keys of [train] or of Subject."""
        precision, _, tf32 = mode.partition(" with ")
        train = {**self._train, "precision": precision, "tf32": bool(tf32)}
        train |= {key: changes.pop(key) for key in list(changes) if key in train}
        values: dict = {"device": _DEVICE, "model": self._model, "train": train}
        values |= {"batch_size": batch_size, "crop_size": _CROP_SIZE}
        return values | changes

    def small_step(self, *, xla: bool) -> dict:
        """The arguments of ``measure_step`` for some steps of 8 images of 64 pixels."""
        subject = self._subject(self.best, 8, crop_size=64, xla=xla)
        return {"subject": subject, "seconds": 0}

    def trials(self) -> Iterator[CardTrial]:
        """All trials, the short ones first."""
        best = functools.partial(self._subject, self.best)
        yield CardTrial(
            f"ops in {self.best}",
            "find_ops_elsewhere",
            {"subject": best(8)},
            judge_placement,
        )
        for mode in self.modes:
            subject = self._subject(mode, 16, crop_size=96, image_dtype="float32")
            for is_smooth in (True, False):
                yield CardTrial(
                    f"{mode}, {'smooth' if is_smooth else 'real'} network",
                    "compare_devices",
                    {"subject": subject, "reference": _CPU, "is_smooth": is_smooth},
                    functools.partial(judge_difference, mode, is_smooth),
                )
        for mode in self.modes:
            subject = self._subject(mode, 32, crop_size=96, deterministic=True)
            arguments = {"subject": subject, "num_steps": 10}
            yield CardTrial(
                f"deterministic {mode}", "hash_weights", arguments, judge_hashes, 2
            )
        # The first convolution's output alone is 6.6 GB.
        subject = self._subject("float32", 2048)
        arguments = {"subject": subject, "memory_limit_mb": 3000}
        yield CardTrial("3 GB of the card", "overfill", arguments, judge_overfill)
        subject = best(16, crop_size=64)
        arguments = {"subject": subject, "steps": GROWTH_STEPS}
        yield CardTrial("memory", "measure_growth", arguments, judge_growth)
        yield from self._throughput()
        yield from self._steps()

    def _throughput(self) -> Iterator[CardTrial]:
        """The fastest step, which train.py chooses, needs the fastest copies."""
        sizes = _BATCH_SIZES[::-1]
        step = f"step in {self.best}{', XLA' if self._has_xla else ''}"
        for dtype in ("float16", "uint8"):
            subject = self._subject(
                self.best, sizes[0], image_dtype=dtype, xla=self._has_xla
            )
            yield CardTrial(
                f"copies of {dtype}, {step}",
                "measure_copy",
                {"subject": subject, "seconds": 3},
                judge_copy,
                batch_sizes=sizes,
            )
            num_files = 8
            need = num_files * sizes[0] * _CROP_SIZE**2 * 3 * 2
            is_roomy = _SHARED_MEMORY.is_dir() and free_bytes(_SHARED_MEMORY) > 2 * need
            folder = _SHARED_MEMORY if is_roomy else Path(tempfile.gettempdir())
            arguments = {"subject": subject, "folder": str(folder)}
            yield CardTrial(
                f"files of {dtype} in {folder}, {step}",
                "measure_files",
                {**arguments, "seconds": 5, "num_files": num_files},
                judge_files,
                batch_sizes=sizes,
            )

    def _steps(self) -> Iterator[CardTrial]:
        """The step's speed; variants of the slower precisions at one batch size."""
        variants = {
            "graph, padding in the op": {},
            "graph, tf.pad": {"pads_in_op": False},
            "XLA": {"xla": True},
        }
        if not self._has_xla:
            del variants["XLA"]
        for mode in self.modes:
            for name, changes in variants.items():
                all_sizes = mode == self.best or not changes
                for size in _BATCH_SIZES if all_sizes else _BATCH_SIZES[1:2]:
                    subject = self._subject(mode, size, **changes)
                    arguments = {"subject": subject, "seconds": 3}
                    yield CardTrial(
                        f"step in {mode}, {name}",
                        "measure_step",
                        arguments,
                        judge_speed,
                    )


def describe_machine(card: Gpu, build: Build) -> Iterator[str]:
    """The versions and names that the results depend on."""
    version = software.installed_version("resnet50-two-process") or "not installed"
    yield f"resnet50-two-process {version}, {datetime.date.today()}"
    major, minor = card.capability
    yield f"card: {card.name}, compute capability {major}.{minor}"
    for memory in cuda.find_memory():
        free, total = memory.free_bytes / 1e9, memory.total_bytes / 1e9
        yield f"memory: {memory.name}, {free:.1f} of {total:.1f} GB are free"
    yield f"driver: {cuda.find_driver().version or 'version unknown'}"
    yield f"TensorFlow: {build.tensorflow} for CUDA {build.cuda}, cuDNN {build.cudnn}"
    library = f"libcudnn.so.{build.cudnn.split('.')[0]}"
    cudnn = cuda.find_cudnn(library, cuda.package_folders())
    yield f"cuDNN: {'.'.join(map(str, cudnn)) if cudnn else 'version unknown'}"
    found = {d.name: d.version for d in metadata.distributions()}
    names = sorted(name for name in found if name and name.startswith("nvidia-cu"))
    packages = ", ".join(f"{name} {found[name]}" for name in names)
    yield f"packages: {packages or 'none of NVIDIA'}"
    lines = _CPUINFO.read_text().splitlines()
    # Each core of x86 has such a line, and none of arm64.
    models = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    cpu = f"{models[0] if models else platform.machine()}, {os.cpu_count()} threads"
    yield f"Python: {platform.python_version()}; CPU: {cpu}"


def find_card(run: Callable[..., TrialOutcome] = run_trial) -> tuple[Gpu, Build]:
    """The card that trains, and TensorFlow's build.

    Raises:
        NoGpuError: TensorFlow finds none.
    """
    outcome = run("describe_gpus", {})
    if outcome.result is None:
        raise NoGpuError(f"--gpu-report: TensorFlow fails: {outcome.failure}")
    if not outcome.result["gpus"]:
        raise NoGpuError(
            f"--gpu-report: TensorFlow finds no GPU ({typed('doctor')} says why)"
        )
    name, capability = outcome.result["gpus"][0]
    build = Build(**outcome.result["build"])
    return Gpu(name, tuple(capability)), build


def write_report(
    config: Config,
    path: Path,
    show: Callable[[str], None],
    run: Callable[..., TrialOutcome] = run_trial,
) -> None:
    """Tries the card; shows each line of the report and writes it into a file.

    Raises:
        NoGpuError: There is no GPU; nothing is written.
        ReportFileError: The file cannot be written.
        BrokenBoundError: A trial has failed; the report is complete.
    """
    card, build = find_card(run)
    lines, broken = [], []

    def add(line: str) -> None:
        show(line)
        lines.append(line)
        try:
            path.write_text("\n".join([*lines, ""]), encoding="utf-8")
        except OSError as error:
            raise ReportFileError(
                f"{path}: cannot be written: {error.strerror}"
            ) from None

    for line in describe_machine(card, build):
        add(line)
    for trial in CardPlan(config, card, build).trials():
        finding = try_card(trial, run)
        add(str(finding))
        if finding.status == PROBLEM:
            broken.append(trial.title)
    add(f"failed trials: {len(broken)}")
    if broken:
        raise BrokenBoundError(f"{path}: failed trials: {'; '.join(broken)}")
