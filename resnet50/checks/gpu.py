"""Judges the facts about the GPU that ``cuda`` and TensorFlow have found."""

import re
import signal
from collections.abc import Callable, Iterator

from resnet50.checks.cuda import Build, Driver, Gpu, Outcome
from resnet50.checks.findings import OK, PROBLEM, WARNING, Finding


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
    what = f"driver: {driver.version or 'version unknown'}"
    if driver.obstacle:
        what += f" runs, but its library cannot be loaded: {driver.obstacle}"
        remedy = "in a container: docker run --gpus all; else reinstall the driver"
        return Finding(WARNING, what, remedy)
    if driver.cuda is None:
        return Finding(OK, what)
    what += f", for CUDA {'.'.join(map(str, driver.cuda))}"
    if driver.cuda[0] < major:
        return Finding(WARNING, f"{what}, is too old for CUDA {build.cuda}", install)
    return Finding(OK, what)


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
    what = f"CUDA's libraries: {len(missing)} of {len(reasons)} are missing: "
    what += ", ".join(missing)
    for name, reason in missing.items():
        # It says more than that the library's own file is missing.
        if name not in reason or "No such file" not in reason:
            what += f"; {name}: {reason}"
            break
    remedy = f"python3 -m pip install 'tensorflow[and-cuda]=={build.tensorflow}'"
    return Finding(WARNING, what, remedy)


def _built_for(name: str) -> tuple[int, int]:
    """(12, 0) for "sm_120"."""
    digits = re.sub(r"[^0-9]", "", name)
    return int(digits[:-1]), int(digits[-1])


def check_kernels(gpu: Gpu, build: Build) -> Finding:
    """Checks whether TensorFlow has machine code for a card.

    A card runs code for its own major version, up to its own minor version. For a card
    of a later major version the driver compiles the build's "compute_" code.
    """
    major, minor = gpu.capability
    built = [_built_for(name) for name in build.capabilities]
    names = ", ".join(build.capabilities)
    if any(other == major and least <= minor for other, least in built):
        return Finding(OK, f"kernels: TensorFlow's are for {names}")
    what = f"kernels: TensorFlow has none for {major}.{minor}, only for {names}"
    if any(
        name.startswith("compute_") and _built_for(name) <= gpu.capability
        for name in build.capabilities
    ):
        return Finding(
            WARNING,
            f"{what}; the driver compiles them at the first start, for half an hour",
            "install a newer TensorFlow if there is one, and leave XLA off",
        )
    remedy = "use another card, or a TensorFlow built for this one"
    return Finding(PROBLEM, what, remedy)


def check_trial(outcome: Outcome, *, with_xla: bool) -> Finding:
    """Judges a trial of a convolution and its gradient; a training needs no XLA."""
    subject = "XLA" if with_xla else "computing"
    if outcome.status == 0:
        return Finding(OK, f"{subject}: a convolution and its gradient work on the GPU")
    end = f"exit status {outcome.status}"
    if outcome.status < 0:
        end = f"killed by {signal.Signals(-outcome.status).name}"
    what = f"{subject}: a convolution fails on the GPU, {end}: {outcome.last_line}"
    if with_xla:
        return Finding(WARNING, what, "leave XLA off")
    return Finding(PROBLEM, what, "check the driver, the kernels and free GPU memory")


def check_devices(
    gpus: list[Gpu], build: Build, attempt: Callable[[bool], Outcome] | None
) -> Iterator[Finding]:
    """Checks the GPUs that TensorFlow has found; the first one will train.

    attempt computes on the GPU in another process, with XLA or without. It is None
    while a training uses the GPU.
    """
    if not gpus:
        what = "GPU: TensorFlow finds none and would train on the CPU, about a hundred "
        remedy = "see the warnings about driver and libraries"
        yield Finding(WARNING, f"{what}times slower", remedy)
        return
    name, (major, minor) = gpus[0]
    more = f"; {len(gpus) - 1} more are not used" if gpus[1:] else ""
    yield Finding(OK, f"GPU: {name}, compute capability {major}.{minor}{more}")
    yield check_kernels(gpus[0], build)
    if attempt is None:
        yield Finding(OK, "computing: not tried while train.py runs")
        return
    for with_xla in (False, True):
        yield check_trial(attempt(with_xla), with_xla=with_xla)
