"""Judges the GPU by what ``cuda`` and TensorFlow have found out."""

import re
import signal
from collections.abc import Callable, Iterator

from resnet50.checks.cuda import (
    Build,
    Gpu,
    Outcome,
    driver_version,
    has_nvidia_card,
)
from resnet50.checks.findings import OK, PROBLEM, WARNING, Finding

_DRIVER_LIBRARY = "libcuda.so.1"

# The oldest drivers that run any CUDA of a major version: NVIDIA, CUDA Compatibility,
# table "minor version compatibility".
_OLDEST_DRIVERS = {12: 525, 13: 580}


def check_build(build: Build) -> Finding:
    """Says what TensorFlow was built for."""
    if not build.cuda:
        return Finding(
            WARNING,
            f"TensorFlow: {build.tensorflow} is built without GPUs",
            "python3 -m pip install 'tensorflow[and-cuda]', on Linux",
        )
    return Finding(
        OK, f"TensorFlow: {build.tensorflow}, CUDA {build.cuda}, cuDNN {build.cudnn}"
    )


def check_driver(
    version: str | None, build: Build, *, has_card: bool, load: Callable[[str], str]
) -> Finding:
    """Judges NVIDIA's driver.

    Args:
        version: From ``driver_version``.
        build: Of TensorFlow; one with CUDA.
        has_card: Whether there is a card that needs it.
        load: Loads a library by its name; returns "" or the reason why not.
    """
    oldest = _OLDEST_DRIVERS.get(build.cuda_major)
    which = f", {oldest} or newer" if oldest else ""
    install = f"install NVIDIA's driver{which}, and start the machine again"
    reason = load(_DRIVER_LIBRARY)
    if version is None and reason:
        what = (
            "an NVIDIA card is there, but no driver"
            if has_card
            else "no NVIDIA card and no driver are seen here"
        )
        return Finding(WARNING, f"driver: {what}", install)
    if reason:
        return Finding(
            WARNING,
            f"driver: {version} runs, but {_DRIVER_LIBRARY} cannot be loaded: {reason}",
            "in a container: docker run --gpus all; else install the driver again",
        )
    if version is None:
        return Finding(OK, f"driver: {_DRIVER_LIBRARY} loads, its version is unknown")
    if oldest and int(version.split(".")[0]) < oldest:
        return Finding(
            WARNING,
            f"driver: {version} is too old for CUDA {build.cuda}",
            install,
        )
    return Finding(OK, f"driver: {version}")


def check_libraries(build: Build, load: Callable[[str], str]) -> Finding:
    """Names the libraries of CUDA that TensorFlow needs and cannot load.

    Args:
        build: Of TensorFlow; one with CUDA.
        load: Loads a library by its name; returns "" or the reason why not.
    """
    reasons = {name: load(name) for name in build.libraries}
    missing = {name: reason for name, reason in reasons.items() if reason}
    if not missing:
        return Finding(OK, f"CUDA's libraries: all {len(reasons)} can be loaded")
    # That a file is not there is said already; that it lacks another one is not.
    told = [
        f"; {name}: {reason}"
        for name, reason in missing.items()
        if not (name in reason and "No such file" in reason)
    ]
    return Finding(
        WARNING,
        f"CUDA's libraries: {len(missing)} of {len(reasons)} are missing: "
        f"{', '.join(missing)}{''.join(told[:1])}",
        f"python3 -m pip install 'tensorflow[and-cuda]=={build.tensorflow}'",
    )


def check_found(gpus: list[Gpu]) -> Finding:
    """Names the GPU that will train."""
    if not gpus:
        return Finding(
            WARNING,
            "GPU: TensorFlow finds none and would train on the CPU, about a hundred "
            "times slower",
            "see the warnings about driver and libraries",
        )
    more = f"; {len(gpus) - 1} more are not used" if gpus[1:] else ""
    major, minor = gpus[0].capability
    return Finding(OK, f"GPU: {gpus[0].name}, compute capability {major}.{minor}{more}")


def _built_for(name: str) -> tuple[int, int]:
    """(12, 0) of "sm_120"."""
    digits = re.sub(r"[^0-9]", "", name)
    return int(digits[:-1]), int(digits[-1])


def check_kernels(gpu: Gpu, build: Build) -> Finding:
    """Judges whether TensorFlow has machine code for a card.

    A card runs the code of its own major version up to its own minor one. For a later
    major version the driver has to compile, if the build holds what it needs for that.
    """
    major, minor = gpu.capability
    built = [_built_for(name) for name in build.capabilities]
    listed = ", ".join(build.capabilities)
    if any(theirs == major and least <= minor for theirs, least in built):
        return Finding(OK, f"kernels: TensorFlow's are for {listed}")
    what = f"kernels: TensorFlow has none for {major}.{minor}, only for {listed}"
    compilable = [
        _built_for(name)
        for name in build.capabilities
        if name.startswith("compute_") and _built_for(name) <= gpu.capability
    ]
    if compilable:
        return Finding(
            WARNING,
            f"{what}; the driver compiles them, half an hour long, at the first start",
            "install a newer TensorFlow if there is one, and leave XLA off",
        )
    return Finding(
        PROBLEM, what, "use another card, or a TensorFlow built for this one"
    )


def check_trial(outcome: Outcome, *, with_xla: bool) -> Finding:
    """Judges a trial of a convolution and its gradient on the GPU.

    Args:
        outcome: Of the trial's own process.
        with_xla: Whether it was compiled by XLA, which the training can do without.
    """
    subject = "XLA" if with_xla else "computing"
    if outcome.status == 0:
        return Finding(OK, f"{subject}: a convolution and its gradient work on the GPU")
    end = (
        f"killed by {signal.Signals(-outcome.status).name}"
        if outcome.status < 0
        else f"exit status {outcome.status}"
    )
    what = f"{subject}: a convolution fails on the GPU, {end}: {outcome.last_line}"
    if with_xla:
        return Finding(WARNING, what, "leave XLA off")
    return Finding(PROBLEM, what, "the driver, the kernels or the card's free memory")


def check_gpu(
    build: Build,
    gpus: list[Gpu],
    *,
    load: Callable[[str], str],
    attempt: Callable[[bool], Outcome] | None,
) -> Iterator[Finding]:
    """All findings about the GPU.

    Args:
        build: Of TensorFlow.
        gpus: That it has found.
        load: Loads a library by its name; returns "" or the reason why not.
        attempt: Computes on the GPU in a process of its own, with XLA or without; None
            while a training uses it.
    """
    yield check_build(build)
    if build.cuda:
        yield check_driver(
            driver_version(), build, has_card=has_nvidia_card(), load=load
        )
        yield check_libraries(build, load)
    yield check_found(gpus)
    if not gpus:
        return
    yield check_kernels(gpus[0], build)
    if attempt is None:
        yield Finding(OK, "computing: not tried, train.py runs")
        return
    for with_xla in (False, True):
        yield check_trial(attempt(with_xla), with_xla=with_xla)
