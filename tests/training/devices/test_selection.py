"""Proves which devices are chosen and what each lacks, with made-up devices."""

import pytest
import tensorflow as tf

from resnet50.training.devices.selection import (
    Device,
    DeviceError,
    prepare_device,
    select_gpus,
)

CPU = Device("the CPU", None)
PASCAL = Device("GeForce GTX 1080", (6, 1))
TURING = Device("GeForce RTX 2080", (7, 5))
AMPERE = Device("GeForce RTX 3090", (8, 6))
BLACKWELL = Device("GeForce RTX 5090", (12, 0))

# The targets of the TensorFlow 2.20 and 2.21 wheels.
BUILT_FOR = ("sm_60", "sm_70", "sm_80", "sm_89", "compute_90")


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
