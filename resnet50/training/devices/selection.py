"""Chooses the devices: the first GPU, the GPUs of --gpus, or the CPU.

Programs that only copy weights from file to file leave the GPU to others.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet50.checks.findings import PROBLEM
from resnet50.checks.gpu import check_kernels
from resnet50.config.settings import ConfigError
from resnet50.errors import UserError
from resnet50.handoff.cluster import Cluster
from resnet50.training.devices import reported
from resnet50.training.devices.hosts import HostDevices
from resnet50.training.devices.mirrored import MirroredDevices
from resnet50.training.devices.protocol import Devices, OneDevice


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
        device = min(devices, key=lambda device: device.compute_capability or (0, 0))
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
    found = reported.describe_gpu(gpu)
    kernels = check_kernels(found, reported.find_build())
    if kernels.status == PROBLEM:
        raise DeviceError(f"{kernels.what} ({kernels.remedy})")
    return Device(found.name, found.capability, num_gpus)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that affect a step's result."""
    return {"TensorFlow": tf.__version__, "numpy": np.__version__}


def create_devices(device: Device, cluster: Cluster, batch_size: int) -> Devices:
    """Creates the devices that share each batch; HostDevices if there are other hosts.

    Raises:
        ConfigError: A batch cannot be divided into equal parts.
    """
    devices: Devices
    if not cluster.is_alone:
        devices = HostDevices(cluster)
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
