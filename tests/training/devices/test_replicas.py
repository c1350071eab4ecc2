"""Proves that one GPU gets no strategy, and that two replicas train like one."""

import subprocess
import sys

import pytest
import tensorflow as tf

from resnet50.config.settings import ConfigError
from resnet50.training.devices.replicas import (
    ONE_REPLICA,
    OneReplica,
    check_batch_size,
    create_replicas,
)
from tests.settings import PROJECT
from tests.training.tiny import create_shallow_training


def test_two_replicas_on_one_machine():
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


def ops(training):
    """Type, name, inputs and device of each op of the step."""
    batch = tf.zeros([4, 32, 32, 3]), tf.zeros([4], tf.int32), tf.zeros([4, 3])
    step = training._compiled_step.get_concrete_function(*batch, tf.zeros(4))
    return [
        (op.type, op.name, [tensor.name for tensor in op.inputs], op.device)
        for op in step.graph.get_operations()
    ]


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_one_device_has_no_strategy_and_its_own_graph(num_gpus):
    """Nor does it look at synchronized_batch_norm."""
    replicas = create_replicas(num_gpus)
    assert replicas is ONE_REPLICA
    plain = ops(create_shallow_training())
    assert (
        ops(create_shallow_training(replicas=replicas, is_synchronized=True)) == plain
    )
    kinds = {kind for kind, *_ in plain}
    assert "FusedBatchNormV3" in kinds
    assert not [kind for kind in kinds if "Collective" in kind or "Nccl" in kind]
    assert {device for *_, device in plain} == {""}


class Three(OneReplica):
    count = 3


def test_a_batch_that_cannot_be_divided_is_refused():
    check_batch_size(63, Three())
    check_batch_size(64, ONE_REPLICA)
    with pytest.raises(ConfigError) as caught:
        check_batch_size(64, Three())
    assert str(caught.value) == (
        "[train] batch_size = 64 (must be divisible by 3, the number of devices "
        "that share a batch)"
    )
