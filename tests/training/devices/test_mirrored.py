"""Proves that one device needs no strategy, and that two replicas train like one."""

import inspect
import subprocess
import sys

import pytest
import tensorflow as tf

from resnet50.config.settings import ConfigError
from resnet50.handoff.cluster import ALONE
from resnet50.training.devices.hosts import HostDevices
from resnet50.training.devices.mirrored import MirroredDevices
from resnet50.training.devices.protocol import Devices, OneDevice
from resnet50.training.devices.selection import (
    Device,
    check_batch_size,
    create_devices,
)
from tests.settings import PROJECT
from tests.training.tiny import create_shallow_training


def test_two_replicas_on_one_host():
    """Runs the tests of on_two_devices.py."""
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "tests/training/devices/on_two_devices.py",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("kind", [OneDevice, MirroredDevices, HostDevices])
def test_every_class_has_the_methods_of_the_protocol(kind):
    methods = {n: f for n, f in vars(Devices).items() if inspect.isfunction(f)}
    methods = {n: f for n, f in methods.items() if not n.startswith("_")}
    assert len(methods) == 7
    for name, method in methods.items():
        expected = inspect.signature(method).parameters
        assert inspect.signature(getattr(kind, name)).parameters == expected, name


def ops(training):
    """Type, name, inputs and device of each op of the step."""
    batch = tf.zeros([4, 32, 32, 3]), tf.zeros([4], tf.int32), tf.zeros([4, 3])
    step = training._compiled_step.get_concrete_function(*batch, tf.zeros(4))
    return [
        (op.type, op.name, [tensor.name for tensor in op.inputs], op.device)
        for op in step.graph.get_operations()
    ]


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_one_device_has_no_strategy_and_a_plain_graph(num_gpus):
    """It also ignores synchronized_batch_norm."""
    devices = create_devices(Device("a GPU", (8, 0), num_gpus), ALONE, 4)
    assert isinstance(devices, OneDevice)
    assert devices.has_gpu == (num_gpus > 0)
    plain = ops(create_shallow_training(replicas=OneDevice(devices.has_gpu)))
    assert ops(create_shallow_training("batch_norm", devices, True)) == plain
    kinds = {kind for kind, *_ in plain}
    assert "FusedBatchNormV3" in kinds
    assert not [kind for kind in kinds if "Collective" in kind or "Nccl" in kind]
    assert {device for *_, device in plain} == {""}


def test_a_batch_that_cannot_be_divided_is_refused():
    check_batch_size(63, 3)
    check_batch_size(64, 1)
    with pytest.raises(ConfigError) as caught:
        check_batch_size(64, 3)
    assert str(caught.value) == (
        "[train] batch_size = 64 (must be divisible by 3, the number of devices "
        "that share a batch)"
    )
