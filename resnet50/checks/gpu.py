"""Judges the facts about the GPU that ``cuda`` and TensorFlow have found."""

import re
from collections.abc import Callable, Iterable, Iterator

from resnet50.checks.cuda import Build, CardMemory, Driver, Gpu
from resnet50.checks.findings import OK, PROBLEM, WARNING, Finding
from resnet50.checks.gpu_trials import TrialOutcome


def check_build(build: Build) -> Finding:
    """Says what TensorFlow was built for."""
    what = f"TensorFlow: {build.tensorflow}"
    if not build.cuda:
        remedy = "python3 -m pip install 'tensorflow[and-cuda]', on Linux"
        return Finding(WARNING, f"{what} is built without GPUs", remedy)
    return Finding(OK, f"{what}, CUDA {build.cuda}, cuDNN {build.cudnn}")


def check_driver(driver: Driver, build: Build) -> Finding:
    """Checks NVIDIA's driver for a TensorFlow built with CUDA.

    A driver runs every CUDA of its own major version and of earlier ones (NVIDIA, CUDA
    Compatibility, "minor version compatibility").
    """
    major = int(build.cuda.split(".")[0])
    install = f"install an NVIDIA driver for CUDA {major} or later, and reboot"
    if driver.obstacle and not driver.version:
        return Finding(WARNING, "driver: there is no NVIDIA driver", install)
    name = driver.version or "version unknown"
    if driver.obstacle:
        what = f"{name} runs, but its library cannot be loaded: {driver.obstacle}"
        remedy = "in a container: docker run --gpus all; else reinstall the driver"
        return Finding(WARNING, f"driver: {what}", remedy)
    if driver.cuda is not None:
        name += f", for CUDA {'.'.join(map(str, driver.cuda))}"
        if driver.cuda[0] < major:
            what = f"driver: {name}, is too old for CUDA {build.cuda}"
            return Finding(WARNING, what, install)
    return Finding(OK, f"driver: {name}")


def check_libraries(build: Build, reasons: dict[str, str]) -> Finding:
    """Names the libraries of CUDA that TensorFlow needs and cannot load.

    reasons says for each library why it cannot be loaded, or "".
    """
    if not reasons:
        what = "not checked, this TensorFlow does not name its packages"
        return Finding(OK, f"CUDA's libraries: {what}")
    missing = {name: reason for name, reason in reasons.items() if reason}
    if not missing:
        return Finding(OK, f"CUDA's libraries: all {len(reasons)} can be loaded")
    what = (
        f"CUDA's libraries: {len(missing)} of {len(reasons)} are missing: "
        f"{', '.join(missing)}"
    )
    for name, reason in missing.items():
        # It says more than that the library's own file is missing.
        if name not in reason or "No such file" not in reason:
            what += f"; {name}: {reason}"
            break
    remedy = f"python3 -m pip install 'tensorflow[and-cuda]=={build.tensorflow}'"
    return Finding(WARNING, what, remedy)


# The lowest compute capabilities with Tensor Cores for a precision, the best first:
# https://docs.nvidia.com/cuda/cuda-c-programming-guide, "arithmetic instructions".
# Below them float16 still works, but bfloat16 has no convolutions.
TENSOR_CORES = {"bfloat16": (8, 0), "float16": (7, 0)}


def best_precision(capability: tuple[int, int]) -> str:
    """What a card of a compute capability computes fastest in."""
    able = [kind for kind, least in TENSOR_CORES.items() if capability >= least]
    return able[0] if able else "float32"


def _named(gpu: Gpu) -> str:
    return f"{gpu.name}, compute capability {'.'.join(map(str, gpu.capability))}"


def _built_for(name: str) -> tuple[int, int]:
    """(12, 0) for "sm_120"."""
    digits = re.sub(r"[^0-9]", "", name)
    return int(digits[:-1]), int(digits[-1])


def has_kernels(capability: tuple[int, int], capabilities: Iterable[str]) -> bool:
    """Whether a build for some capabilities has machine code for a card.

    A card runs code for its own major version, up to its own minor version.
    """
    major, minor = capability
    built = map(_built_for, capabilities)
    return any(theirs == major and least <= minor for theirs, least in built)


def check_kernels(gpu: Gpu, build: Build) -> Finding:
    """Checks whether TensorFlow has machine code for a card.

    Code that the driver compiles for later cards, such as "compute_90", is not enough:
    the kernels that TensorFlow generates fail with CUDA_ERROR_INVALID_PTX on cards of
    compute capability 10 and 12 (tensorflow issues 99592 and 101746).
    """
    if not build.capabilities or gpu.capability == (0, 0):
        what = "not checked, the card's compute capability or TensorFlow's is unknown"
        return Finding(OK, f"kernels: {what}")
    names = ", ".join(build.capabilities)
    if has_kernels(gpu.capability, build.capabilities):
        return Finding(OK, f"kernels: TensorFlow's are for {names}")
    what = (
        f"kernels: TensorFlow {build.tensorflow} has none for {_named(gpu)}, "
        f"only for {names}"
    )
    remedy = "use another card, or a TensorFlow built for this one"
    if gpu.capability > max(map(_built_for, build.capabilities)):
        remedy = "use NVIDIA's own container of TensorFlow (NGC), "
        remedy += "or a TensorFlow built for this card"
    return Finding(PROBLEM, what, remedy)


def check_cudnn(gpu: Gpu, version: tuple[int, int, int]) -> Finding:
    """Checks whether cuDNN has kernels for a card.

    From 9.11 on it has none for compute capabilities below 7.5: Maxwell, Pascal and
    Volta (cuDNN's release notes; pytorch issue 162574).
    """
    number = ".".join(map(str, version))
    if version >= (9, 11) and (0, 0) < gpu.capability < (7, 5):
        what = f"cuDNN: {number} has no kernels for {_named(gpu)}"
        return Finding(PROBLEM, what, "python3 -m pip install 'nvidia-cudnn-cu12<9.11'")
    return Finding(OK, f"cuDNN: {number}")


def quote_tensorflow(startup_lines: Iterable[str]) -> Iterator[Finding]:
    """Quotes the warnings and errors among the lines that TensorFlow began with."""
    for line in startup_lines:
        if match := re.match(r"[WEF]\d{4} [^]]*\] (.+)", line):
            yield Finding(WARNING, f"TensorFlow: {match[1]}")


def check_gpu_memory(cards: list[CardMemory]) -> Iterator[Finding]:
    """Says how much memory of each card is free."""
    for card in cards:
        free, total = card.free_bytes / 1e9, card.total_bytes / 1e9
        what = f"GPU memory: {free:.1f} of {total:.1f} GB are free on {card.name}"
        yield Finding(OK, what)


def check_trial(outcome: TrialOutcome, *, with_xla: bool) -> Finding:
    """Judges a trial of a training step; a training needs no XLA."""
    subject = "XLA" if with_xla else "computing"
    if outcome.result is not None:
        return Finding(OK, f"{subject}: a training step works on the GPU")
    what = f"{subject}: a training step fails on the GPU: {outcome.failure}"
    if with_xla:
        return Finding(WARNING, what, "set [train] xla = false")
    return Finding(PROBLEM, what, "check the driver, the kernels and free GPU memory")


def check_devices(
    gpus: list[Gpu],
    build: Build,
    cudnn: tuple[int, int, int] | None,
    attempt: Callable[[Gpu, bool], TrialOutcome] | None,
) -> Iterator[Finding]:
    """Checks the GPUs that TensorFlow has found; the first one will train.

    cudnn is its version, None if unknown. attempt makes a training step on the GPU in
    another process, with XLA or without. It is None if that is not possible now.
    """
    if not gpus:
        what = "GPU: TensorFlow finds none and would train on the CPU, about a hundred "
        remedy = "see the warnings about driver and libraries"
        yield Finding(WARNING, f"{what}times slower", remedy)
        return
    more = f"; {len(gpus) - 1} more are not used" if gpus[1:] else ""
    yield Finding(OK, f"GPU: {_named(gpus[0])}{more}")
    if cudnn:
        yield check_cudnn(gpus[0], cudnn)
    kernels = check_kernels(gpus[0], build)
    yield kernels
    if kernels.status == PROBLEM:  # Then train.py refuses to start.
        return
    if attempt is None:
        yield Finding(
            OK, "computing: not tried, as train.py runs or config.txt is wrong"
        )
        return
    for with_xla in (False, True):
        yield check_trial(attempt(gpus[0], with_xla), with_xla=with_xla)
