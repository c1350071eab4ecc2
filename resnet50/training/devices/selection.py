"""Chooses the devices: the first GPU, the GPUs of --gpus, or the CPU.

Programs that only copy weights from file to file leave the GPU to others.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet50.checks.findings import PROBLEM
from resnet50.checks.gpu import check_kernels, has_kernels
from resnet50.config.settings import ConfigError, TrainConfig
from resnet50.errors import UserError
from resnet50.training.devices import trial
from resnet50.training.devices.hosts import HostDevices
from resnet50.training.devices.meeting import Cluster
from resnet50.training.devices.mirrored import MirroredDevices
from resnet50.training.devices.protocol import Devices, OneDevice

# The lowest compute capabilities with Tensor Cores for a type:
# https://docs.nvidia.com/cuda/cuda-c-programming-guide, "arithmetic instructions".
# Below them float16 still works, but bfloat16 has no convolutions.
_TENSOR_CORES = {"bfloat16": (8, 0), "float16": (7, 0)}


class DeviceError(UserError):
    """The device cannot do what the settings ask for."""


class Device(NamedTuple):
    """A GPU, the CPU, or the weakest of several GPUs."""

    name: str
    compute_capability: tuple[int, int] | None  # None for the CPU
    num_gpus: int = 0


def select_gpus(wanted: str | None, num_gpus: int) -> list[int]:
    """Parses --gpus into indices of the num_gpus GPUs that TensorFlow finds.

    wanted is "all", or indices separated by commas, such as "0,1". None means the first
    GPU, if there is one.

    Raises:
        DeviceError: wanted is malformed, or names a GPU that is not there.
    """
    if wanted is None:
        return [0][:num_gpus]
    if not num_gpus:
        raise DeviceError(
            f"--gpus={wanted}: TensorFlow finds no GPU (it needs an NVIDIA driver and "
            "pip install 'tensorflow[and-cuda]'; without --gpus the CPU trains)"
        )
    if wanted == "all":
        return list(range(num_gpus))
    words = wanted.split(",")
    if not all(word.isascii() and word.isdigit() for word in words):
        raise DeviceError(f"--gpus={wanted} (must be all, or numbers such as 0,1)")
    indices = [int(word) for word in words]
    if max(indices) >= num_gpus or len(set(indices)) < len(indices):
        raise DeviceError(
            f"--gpus={wanted} (must name each GPU once; TensorFlow finds {num_gpus}, "
            "counted from 0)"
        )
    return indices


def prepare_device(
    *, deterministic: bool, notify: Callable[[str], None], gpus: str | None = None
) -> Device:
    """Sets TensorFlow up; must be called before its first use.

    deterministic makes steps bitwise reproducible; for gpus see ``select_gpus``.

    Returns:
        The device; of several GPUs, the one with the lowest compute capability.

    Raises:
        DeviceError: From ``select_gpus``, or TensorFlow has no kernels for a GPU.
    """
    found = tf.config.list_physical_devices("GPU")
    selected = [found[index] for index in select_gpus(gpus, len(found))]
    if selected:
        tf.config.set_visible_devices(selected, "GPU")
        devices = [_prepare_gpu(gpu, len(selected)) for gpu in selected]
        for device in devices:
            notify(f"GPU: {device.name}")
        device = min(devices, key=lambda device: device.compute_capability)
    else:
        device = Device("the CPU", None)
        notify(
            "warning: TensorFlow finds no GPU and computes on the CPU, about a hundred "
            "times slower (for a GPU: an NVIDIA driver, and "
            "pip install 'tensorflow[and-cuda]')"
        )
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return device


def _prepare_gpu(gpu: tf.config.PhysicalDevice, num_gpus: int) -> Device:
    # Without it, TensorFlow takes all of the card's memory at once.
    tf.config.experimental.set_memory_growth(gpu, True)
    found = trial.describe_gpu(gpu)
    kernels = check_kernels(found, trial.find_build())
    if kernels.status == PROBLEM:
        raise DeviceError(f"{kernels.what} ({kernels.remedy})")
    return Device(found.name, found.capability, num_gpus)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that affect a step's result."""
    return {"TensorFlow": tf.__version__, "numpy": np.__version__}


def choose(
    train: TrainConfig,
    device: Device,
    num_devices: int,
    recorded: dict,
    notify: Callable[[str], None],
    built_for: Collection[str] | None = None,
) -> TrainConfig:
    """Replaces "auto", and an xla that cannot be, by what the device is best at.

    Args:
        train: [train] of config.txt.
        device: The result of ``prepare_device``.
        num_devices: Number of devices that share a batch.
        recorded: Of the checkpoint to resume from: its choices take the place of new
            ones.
        notify: Takes a line for the user.
        built_for: See ``can_use_xla``.

    Raises:
        DeviceError: The device has no convolutions of this precision.
    """
    precision, xla = train.precision, train.xla
    if precision == "auto":
        precision = recorded.get("precision", "auto")
    if precision == "auto":
        capability = device.compute_capability or (0, 0)
        able = [kind for kind in _TENSOR_CORES if capability >= _TENSOR_CORES[kind]]
        precision = able[0] if able else "float32"
    if xla == "auto":
        xla = recorded.get("xla", "auto")
    if xla == "auto":
        has_gpu = device.compute_capability is not None
        xla = has_gpu and can_use_xla(device, num_devices, lambda line: None, built_for)
    check_precision(precision, device, notify)
    xla = xla and can_use_xla(device, num_devices, notify, built_for)
    tf.config.experimental.enable_tensor_float_32_execution(train.tf32)
    return dataclasses.replace(train, precision=precision, xla=xla)


def check_precision(
    precision: str, device: Device, notify: Callable[[str], None]
) -> None:
    """Checks that a device supports a precision; warns if it saves no time.

    Raises:
        DeviceError: The device has no convolutions of this type.
    """
    if precision == "float32":
        return
    if device.compute_capability is None:
        notify(
            f'warning: [train] precision = "{precision}" on the CPU: right, but meant '
            "for a GPU, and float16 is many times slower here"
        )
        return
    needed = _TENSOR_CORES[precision]
    if device.compute_capability >= needed:
        return
    lack = (
        f'[train] precision = "{precision}": {device.name} has compute capability '
        f"{_dotted(device.compute_capability)}"
    )
    if precision == "bfloat16":
        raise DeviceError(
            f"{lack}, bfloat16 needs {_dotted(needed)} (use float16 or float32)"
        )
    notify(
        f"warning: {lack}; without the Tensor Cores of {_dotted(needed)} float16 saves "
        "memory, but hardly time"
    )


def can_use_xla(
    device: Device,
    num_devices: int,
    notify: Callable[[str], None],
    built_for: Collection[str] | None = None,
) -> bool:
    """Whether XLA can compile a step; notifies the user if not.

    On a card that is newer than the installed TensorFlow, XLA does not raise an error
    but ends the process (tensorflow issue 111958).

    built_for has the targets of the TensorFlow build, such as "sm_80" and "compute_90";
    None reads them from the installed one.
    """
    if num_devices > 1:
        notify(
            f"[train] xla = true: off, as XLA does not compile the sums over "
            f"{num_devices} replicas"
        )
        return False
    if device.compute_capability is None:
        return True
    if built_for is None:
        built_for = trial.find_build().capabilities
    if has_kernels(device.compute_capability, built_for):
        return True
    notify(
        f"[train] xla = true: off, as the installed TensorFlow {tf.__version__} has no "
        f"XLA kernels for {device.name}, compute capability "
        f"{_dotted(device.compute_capability)}, only for "
        f"{', '.join(built_for) or 'none'}"
    )
    return False


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def create_devices(device: Device, cluster: Cluster, batch_size: int) -> Devices:
    """Creates the devices that share each batch; HostDevices if there are other hosts.

    Raises:
        ConfigError: A batch cannot be divided into equal parts.
    """
    if not cluster.is_alone:
        devices = HostDevices()
    elif device.num_gpus > 1:
        gpus = [f"GPU:{index}" for index in range(device.num_gpus)]
        devices = MirroredDevices(tf.distribute.MirroredStrategy(gpus))
    else:
        devices = OneDevice(has_gpu=device.num_gpus > 0)
    check_batch_size(batch_size, devices.count)
    return devices


def check_batch_size(batch_size: int, num_devices: int) -> None:
    """Raises ConfigError unless a batch can be divided into equal parts."""
    if batch_size % num_devices:
        raise ConfigError(
            f"[train] batch_size = {batch_size} (must be divisible by "
            f"{num_devices}, the number of devices that share a batch)"
        )


def leave_gpus_alone() -> None:
    """Makes TensorFlow use the CPU only; must be called before its first use."""
    tf.config.set_visible_devices([], "GPU")
