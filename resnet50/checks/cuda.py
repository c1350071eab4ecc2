"""Facts about card, driver and CUDA's libraries; ``gpu`` judges them.

TensorFlow finds all of them or no GPU at all, and does not say which library is
missing. So the ones that it asks for are loaded here, one by one.
"""

import ctypes
import re
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

# The libraries without which TensorFlow uses no GPU (dlopen_checker.cc of its source),
# by CUDA's major version; cuDNN has a version of its own. Their names are those that
# NVIDIA's packages nvidia-cublas-cu12, ... have.
_LIBRARIES = {
    12: (
        "libcudart.so.12",
        "libcublas.so.12",
        "libcublasLt.so.12",
        "libcufft.so.11",
        "libcusolver.so.11",
        "libcusparse.so.12",
    ),
    13: (
        "libcudart.so.13",
        "libcublas.so.13",
        "libcublasLt.so.13",
        "libcufft.so.12",
        "libcusolver.so.12",
        "libcusparse.so.12",
    ),
}

_NVIDIA = "0x10de"  # on the PCI bus
_DISPLAY = "0x03"


class Build(NamedTuple):
    """What the installed TensorFlow was built for.

    Attributes:
        tensorflow: Its version.
        cuda: Version of CUDA, such as "12.5.1"; "" for a build without GPUs.
        cudnn: Version of cuDNN, such as "9".
        capabilities: Such as "sm_80" (machine code) and "compute_90" (that too, and
            what a driver can compile for later cards).
    """

    tensorflow: str
    cuda: str
    cudnn: str
    capabilities: tuple[str, ...]

    @property
    def cuda_major(self) -> int:
        """12 of "12.5.1"."""
        return int(self.cuda.split(".")[0])

    @property
    def libraries(self) -> tuple[str, ...]:
        """The shared libraries that it asks for, but for the driver's."""
        names = _LIBRARIES.get(self.cuda_major, ())
        return (*names, f"libcudnn.so.{self.cudnn.split('.')[0]}")


class Gpu(NamedTuple):
    """A GPU that TensorFlow has found."""

    name: str
    capability: tuple[int, int]


class Outcome(NamedTuple):
    """How a child process ended that used the GPU.

    Attributes:
        status: Of its exit; negative: the signal that killed it.
        last_line: Of what it said on stderr.
    """

    status: int
    last_line: str


def has_nvidia_card(bus: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether a graphics card of NVIDIA's is on the PCI bus, with a driver or not."""
    for device in bus.glob("*"):
        try:
            vendor = (device / "vendor").read_text().strip()
            if vendor == _NVIDIA and (device / "class").read_text()[:4] == _DISPLAY:
                return True
        except OSError:  # Gone, or not for us.
            continue
    return False


def driver_version(
    proc: Path = Path("/proc/driver/nvidia/version"), command: str = "nvidia-smi"
) -> str | None:
    """The version of NVIDIA's driver, such as "550.54.14"; None if there is none."""
    try:
        text = proc.read_text()
    except OSError:
        text = _ask(command, "--query-gpu=driver_version", "--format=csv,noheader")
    match = re.search(r"\b([0-9]{3,}(?:\.[0-9]+)+)\b", text)
    return match[1] if match else None


def _ask(*words: str) -> str:
    """What a program prints; "" if it cannot be run."""
    try:
        return subprocess.run(
            words, capture_output=True, text=True, timeout=30, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def package_folders() -> list[Path]:
    """Where `pip install 'tensorflow[and-cuda]'` puts libraries: beside TensorFlow."""
    spec = find_spec("tensorflow")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parents[1].glob("nvidia/*/lib"))


def load_library(name: str, folders: list[Path]) -> str:
    """Loads a shared library from the system, or from some folders.

    Returns:
        "", or why it cannot be loaded.
    """
    candidates = [name, *(str(folder / name) for folder in folders)]
    reason = "not found"
    for candidate in candidates:
        try:
            ctypes.CDLL(candidate)
            return ""
        except OSError as error:
            # Of a file that is there, what it lacks itself is worth knowing.
            if candidate == name or Path(candidate).exists():
                reason = str(error)
    return reason


def run_child(*words: str, timeout_seconds: float = 900) -> Outcome:
    """Runs a program that may be killed by what it tries, and waits for its end."""
    try:
        child = subprocess.run(
            words, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome(-signal.SIGALRM, f"not ready after {timeout_seconds:g} s")
    lines = [line for line in child.stderr.splitlines() if line.strip()]
    return Outcome(child.returncode, lines[-1].strip() if lines else "")
