"""Proves which devices are chosen and what each lacks, with made-up devices."""

import dataclasses

import pytest
import tensorflow as tf

from resnet50.training.devices.selection import (
    Device,
    DeviceError,
    can_use_xla,
    check_precision,
    choose,
    prepare_device,
    select_gpus,
)
from tests.settings import SHIPPED

CPU = Device("the CPU", None)
PASCAL = Device("GeForce GTX 1080", (6, 1))
TURING = Device("GeForce RTX 2080", (7, 5))
AMPERE = Device("GeForce RTX 3090", (8, 6))
BLACKWELL = Device("GeForce RTX 5090", (12, 0))

# The targets of the TensorFlow 2.20 and 2.21 wheels.
BUILT_FOR = ("sm_60", "sm_70", "sm_80", "sm_89", "compute_90")


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (CPU, True),
        (Device("Tesla M40", (5, 2)), False),
        (PASCAL, True),
        (TURING, True),
        (AMPERE, True),
        (Device("H100", (9, 0)), True),
        (Device("B200", (10, 0)), False),
        (BLACKWELL, False),
    ],
)
def test_xla_is_for_the_compute_capabilities_of_the_build(device, expected):
    lines = []
    assert can_use_xla(device, 1, lines.append, BUILT_FOR) == expected
    assert len(lines) == (not expected)


def test_the_line_about_missing_kernels_names_card_and_build():
    lines = []
    can_use_xla(BLACKWELL, 1, lines.append, BUILT_FOR)
    assert lines == [
        f"[train] xla = true: off, as the installed TensorFlow {tf.__version__} has no "
        "XLA kernels for GeForce RTX 5090, compute capability 12.0, only for sm_60, "
        "sm_70, sm_80, sm_89, compute_90"
    ]


def test_a_card_older_than_all_kernels_of_its_major_version_has_none():
    assert not can_use_xla(Device("A100", (8, 0)), 1, print, ("sm_86",))


def test_xla_is_off_with_several_devices():
    lines = []
    assert not can_use_xla(AMPERE, 2, lines.append, BUILT_FOR)
    assert "does not compile the sums over 2 replicas" in lines[0]


def test_a_build_for_no_card_has_no_kernels():
    lines = []
    assert not can_use_xla(AMPERE, 1, lines.append, ())
    assert lines[0].endswith("only for none")


def test_the_installed_build_is_read():
    """Its targets have the expected form."""
    built_for = tf.sysconfig.get_build_info().get("cuda_compute_capabilities", ())
    assert can_use_xla(AMPERE, 1, print) == ("sm_80" in built_for)


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


@pytest.mark.parametrize(
    ("wanted", "num_gpus", "expected"),
    [
        (None, 0, []),
        (None, 4, [0]),
        ("all", 3, [0, 1, 2]),
        ("0,1", 2, [0, 1]),
        ("1", 2, [1]),
    ],
)
def test_the_gpus_of_a_flag(wanted, num_gpus, expected):
    assert select_gpus(wanted, num_gpus) == expected


@pytest.mark.parametrize(
    ("wanted", "num_gpus", "expected"),
    [
        ("all", 0, "--gpus=all: TensorFlow finds no GPU"),
        ("0,2", 2, "--gpus=0,2 (must name each GPU once; TensorFlow finds 2,"),
        ("1,1", 2, "--gpus=1,1 (must name each GPU once"),
        ("two", 2, "--gpus=two (must be all, or numbers such as 0,1)"),
        ("", 2, "--gpus= (must be all,"),
        ("-1", 2, "--gpus=-1 (must be all,"),
    ],
)
def test_a_wrong_flag_is_refused(wanted, num_gpus, expected):
    with pytest.raises(DeviceError) as caught:
        select_gpus(wanted, num_gpus)
    assert str(caught.value).startswith(expected)


@pytest.fixture
def prepare_card(monkeypatch):
    """Prepares a made-up card for a TensorFlow that was built for BUILT_FOR."""

    def prepare(device, built_for=BUILT_FOR):
        details = {
            "device_name": device.name,
            "compute_capability": device.compute_capability,
        }
        build = {"is_cuda_build": True, "cuda_compute_capabilities": built_for}
        experimental = tf.config.experimental
        gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [gpu])
        monkeypatch.setattr(tf.config, "set_visible_devices", lambda gpus, kind: None)
        monkeypatch.setattr(experimental, "set_memory_growth", lambda gpu, on: None)
        monkeypatch.setattr(experimental, "get_device_details", lambda gpu: details)
        monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: build)
        return prepare_device(deterministic=False, notify=lambda line: None)

    return prepare


@pytest.mark.parametrize("device", [BLACKWELL, Device("Tesla M40", (5, 2))])
def test_a_card_without_kernels_is_refused_in_one_line(device, prepare_card):
    with pytest.raises(DeviceError) as caught:
        prepare_card(device)
    message = str(caught.value)
    assert message.startswith(
        f"kernels: TensorFlow {tf.__version__} has none for {device.name}, compute "
    )
    assert message.endswith("a TensorFlow built for this card)") == (
        device == BLACKWELL
    )
    assert "\n" not in message


def test_a_card_with_kernels_or_unknown_ones_is_prepared(prepare_card):
    for device, built_for in ((AMPERE, BUILT_FOR), (BLACKWELL, ("sm_120",))):
        assert prepare_card(device, built_for) == device._replace(num_gpus=1)
    assert prepare_card(BLACKWELL, ()) == BLACKWELL._replace(num_gpus=1)


def test_a_machine_without_a_gpu_is_the_cpu():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    lines = []
    assert prepare_device(deterministic=False, notify=lines.append) == CPU
    assert "no GPU" in lines[0]


HOPPER = Device("H100", (9, 0), 1)
SEVERAL = Device("H100", (9, 0), 2)


def chosen(device, recorded=None, num_devices=1, **keys):
    """The precision and xla that train.py chooses, and its lines."""
    lines = []
    train = dataclasses.replace(SHIPPED.train, **keys)
    train = choose(train, device, num_devices, recorded or {}, lines.append, BUILT_FOR)
    return train.precision, train.xla, lines


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (CPU, ("float32", False)),
        (PASCAL, ("float32", True)),
        (TURING, ("float16", True)),
        (AMPERE, ("bfloat16", True)),
        (HOPPER, ("bfloat16", True)),
        (BLACKWELL, ("bfloat16", False)),
    ],
)
def test_config_txt_as_shipped_leaves_the_choice_to_the_device(device, expected):
    assert chosen(device) == (*expected, [])


def test_xla_is_not_chosen_for_several_devices():
    assert chosen(SEVERAL, num_devices=2) == ("bfloat16", False, [])
    _, xla, lines = chosen(SEVERAL, num_devices=2, xla=True)
    assert (xla, len(lines)) == (False, 1)


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
