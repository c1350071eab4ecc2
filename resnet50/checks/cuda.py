"""Finds facts about the card, the driver and CUDA's libraries; ``gpu`` judges them.

TensorFlow uses no GPU if a single library is missing, and does not say which. So this
module loads the libraries one by one. Their versions come from TensorFlow's own
requirements, and the CUDA version that the driver supports from the driver.
"""

import ctypes
import re
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.version import Version

# The libraries without which TensorFlow uses no GPU (dlopen_checker.cc of its source),
# by the name of NVIDIA's package without "nvidia-" and "-cu12".
_LIBRARIES = {
    "cuda-runtime": ("cudart",),
    "cublas": ("cublas", "cublasLt"),
    "cudnn": ("cudnn",),
    "cufft": ("cufft",),
    "cusolver": ("cusolver",),
    "cusparse": ("cusparse",),
}


class Build(NamedTuple):
    """What the installed TensorFlow was built for."""

    tensorflow: str  # its version
    cuda: str  # version, such as "12.5.1"; "" for a build without GPUs
    cudnn: str  # version, such as "9"
    # Such as "sm_80" (machine code) and "compute_90" (machine code, and code that a
    # driver can compile for later cards).
    capabilities: tuple[str, ...]


class Gpu(NamedTuple):
    """A GPU that TensorFlow has found."""

    name: str
    capability: tuple[int, int]


class CardMemory(NamedTuple):
    """The memory of a card."""

    name: str
    free_bytes: int
    total_bytes: int


class Driver(NamedTuple):
    """NVIDIA's driver."""

    version: str  # such as "550.54.14"; "" if unknown
    cuda: tuple[int, int] | None  # the newest that it supports; None if unknown
    obstacle: str  # why its library cannot be loaded, or ""


def find_driver(proc: Path = Path("/proc/driver/nvidia/version")) -> Driver:
    """Loads the driver's library and asks it for its version of CUDA."""
    text = proc.read_text() if proc.exists() else ""
    match = re.search(r"\b[0-9]{3,}(?:\.[0-9]+)+\b", text)
    version = match[0] if match else ""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return Driver(version, None, str(error))
    number = ctypes.c_int()  # 12040 for CUDA 12.4
    if library.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return Driver(version, None, "")
    return Driver(version, (number.value // 1000, number.value % 1000 // 10), "")


def required_libraries(requirements: list[str] | None = None) -> list[str]:
    """The shared libraries that TensorFlow needs for a GPU, except the driver's.

    A library's number is its package's major version: nvidia-cufft-cu12>=11.2 contains
    libcufft.so.11. The requirements are those of the installed TensorFlow by default;
    without NVIDIA's packages among them, no libraries are known.
    """
    if requirements is None:
        try:
            requirements = metadata.requires("tensorflow") or []
        except metadata.PackageNotFoundError:  # Installed under another name.
            return []
    names = []
    for requirement in map(Requirement, requirements):
        package = re.sub(r"^nvidia-|-cu[0-9]+$", "", requirement.name)
        for bound in requirement.specifier:
            if bound.operator in (">=", "==", "~="):
                major = Version(bound.version.removesuffix(".*")).major
                stems = _LIBRARIES.get(package, ())
                names += [f"lib{stem}.so.{major}" for stem in stems]
    return names


def package_folders() -> list[Path]:
    """The folders into which `pip install 'tensorflow[and-cuda]'` puts libraries."""
    spec = find_spec("tensorflow")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parents[1].glob("nvidia/*/lib"))


def _candidates(name: str, folders: list[Path]) -> list[str]:
    """A library's files in some folders and its name for the system, in this order."""
    paths = [folder / name for folder in folders]
    return [*(str(path) for path in paths if path.exists()), name]


def load_library(name: str, folders: list[Path]) -> str:
    """Loads a shared library from a folder or the system; returns "" or why not."""
    reason = ""
    for candidate in _candidates(name, folders):
        try:
            ctypes.CDLL(candidate)
            return ""
        except OSError as error:
            # A library in a folder may lack another one, which its reason names.
            reason = reason or str(error)
    return reason


def find_cudnn(name: str, folders: list[Path]) -> tuple[int, int, int] | None:
    """Loads cuDNN from a folder or the system; returns its version, None if unknown.

    A child process loads it, because cuDNN kills the process if one of its own
    libraries is missing.
    """
    program = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).cudnnGetVersion())"
    for candidate in _candidates(name, folders):
        words = sys.executable, "-c", program, candidate
        child = subprocess.run(words, capture_output=True, text=True, check=False)
        if child.returncode == 0:
            number = int(child.stdout)  # 91100 for 9.11.0
            return number // 10_000, number % 10_000 // 100, number % 100
    return None


def find_memory() -> list[CardMemory]:
    """Asks nvidia-smi for the memory of each card; none if it is missing or fails.

    Its order of the cards may differ from TensorFlow's.
    """
    query = "--query-gpu=name,memory.free,memory.total"
    words = "nvidia-smi", query, "--format=csv,noheader,nounits"
    try:
        child = subprocess.run(
            words, capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    # In MiB. A card that shares the host's memory has "[N/A]" and is left out.
    cards = re.findall(r"^(.+), ([0-9]+), ([0-9]+)$", child.stdout, re.MULTILINE)
    return [
        CardMemory(name, int(free) * 2**20, int(total) * 2**20)
        for name, free, total in cards
    ]
