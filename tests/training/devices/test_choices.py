"""Proves what "auto" becomes on each device, and which precisions are refused."""

import dataclasses

import pytest
import tensorflow as tf

from resnet50.training.devices.choices import check_precision, choose
from resnet50.training.devices.selection import Device, DeviceError
from tests.settings import SHIPPED
from tests.training.devices.test_selection import AMPERE, BLACKWELL, CPU, PASCAL, TURING


@pytest.mark.parametrize(
    ("precision", "device", "num_lines"),
    [
        ("float32", CPU, 0),
        ("float32", PASCAL, 0),
        ("float16", CPU, 1),
        ("float16", PASCAL, 1),
        ("float16", TURING, 0),
        ("bfloat16", CPU, 1),
        ("bfloat16", AMPERE, 0),
        ("bfloat16", BLACKWELL, 0),
    ],
)
def test_a_precision_that_saves_no_time_is_one_warning(precision, device, num_lines):
    lines = []
    check_precision(precision, device, lines.append)
    assert len(lines) == num_lines
    assert all(f'"{precision}"' in line for line in lines)


def test_a_precision_that_the_card_lacks_is_refused():
    expected = (
        r'\[train\] precision = "bfloat16": GeForce RTX 2080 has compute capability '
        r"7\.5, bfloat16 needs 8\.0 \(use float16 or float32\)"
    )
    with pytest.raises(DeviceError, match=expected):
        check_precision("bfloat16", TURING, print)


HOPPER = Device("H100", (9, 0), 1)
SEVERAL = Device("H100", (9, 0), 2)


def chosen(device, recorded=None, num_devices=1, **keys):
    """The precision and xla that train.py chooses, and its lines."""
    lines = []
    train = dataclasses.replace(SHIPPED.train, **keys)
    train = choose(train, device, num_devices, recorded or {}, lines.append)
    return train.precision, train.xla, lines


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (CPU, ("float32", False)),
        (PASCAL, ("float32", True)),
        (TURING, ("float16", True)),
        (AMPERE, ("bfloat16", True)),
        (HOPPER, ("bfloat16", True)),
    ],
)
def test_config_txt_as_shipped_leaves_the_choice_to_the_device(device, expected):
    assert chosen(device) == (*expected, [])


def test_xla_is_not_chosen_for_several_devices():
    assert chosen(SEVERAL, num_devices=2) == ("bfloat16", False, [])
    _, xla, lines = chosen(SEVERAL, num_devices=2, xla=True)
    assert not xla
    assert "does not compile the sums over 2 replicas" in lines[0]


def test_a_resumed_run_keeps_its_choices():
    recorded = {"precision": "float16", "xla": False}
    assert chosen(HOPPER, recorded) == ("float16", False, [])
    # Unless config.txt names others.
    explicit = {"precision": "float32", "xla": True}
    assert chosen(HOPPER, recorded, **explicit) == ("float32", True, [])
    # Imported weights record none.
    assert chosen(HOPPER, {"precision": "auto", "xla": "auto"})[:2] == (
        "bfloat16",
        True,
    )


def test_a_recorded_precision_that_the_card_lacks_is_refused():
    with pytest.raises(DeviceError, match='precision = "bfloat16": GeForce RTX 2080'):
        chosen(TURING, {"precision": "bfloat16"})


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_set(tf32):
    chosen(CPU, tf32=tf32)
    assert tf.config.experimental.tensor_float_32_execution_enabled() == tf32
