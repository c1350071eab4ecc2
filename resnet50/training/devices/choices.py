"""Chooses what the network computes in, and whether XLA compiles it, for a device."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from resnet50.checks.gpu import TENSOR_CORES, best_precision
from resnet50.config.settings import TrainConfig
from resnet50.training.devices.selection import Device, DeviceError


def choose(
    train: TrainConfig,
    device: Device,
    num_devices: int,
    recorded: dict,
    notify: Callable[[str], None],
) -> TrainConfig:
    """Decides "auto" for the device, and turns XLA off where it cannot work.

    Args:
        train: [train] of config.txt.
        device: The result of ``prepare_device``.
        num_devices: Number of devices that share a batch.
        recorded: The description in the checkpoint to resume from; its values win
            over new choices.
        notify: Takes a line for the user.

    Raises:
        DeviceError: The device has no convolutions of this precision.
    """
    precision, xla = train.precision, train.xla
    if precision == "auto":
        precision = recorded.get("precision", "auto")
    if precision == "auto":
        precision = best_precision(device.compute_capability or (0, 0))
    if xla == "auto":
        xla = recorded.get("xla", "auto")
    if xla == "auto":
        xla = device.compute_capability is not None and num_devices == 1
    check_precision(precision, device, notify)
    if xla and num_devices > 1:
        notify(
            "[train] xla = true: off, as XLA does not compile the sums over "
            f"{num_devices} replicas"
        )
        xla = False
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
    needed = TENSOR_CORES[precision]
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


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
