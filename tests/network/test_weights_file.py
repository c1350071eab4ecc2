"""Proves that weights keep their meaning on the way to torchvision's names and back.

The names, shapes and layouts are torchvision's; a file's bytes give back the same
weights, bit by bit; a file of anything else is refused with the list of what is wrong.
"""

import json
import os
import struct

import ml_dtypes
import numpy as np
import pytest

from resnet50.network import weights_file
from resnet50.network.torchvision_names import (
    assign_state_dict,
    expected_shapes,
    named_variables,
    to_state_dict,
)
from resnet50.network.weights_file import (
    PUBLISHED,
    ExchangeError,
    Origin,
    read_weights,
    require_same_network,
    write_weights,
)
from tests.network import parity
from tests.network.networks import create_resnet
from tests.network.test_parity import needs_torch
from tests.training.tolerances import difference

safetensors_numpy = pytest.importorskip("safetensors.numpy")

ORIGIN = Origin("v1", 1e-3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), ("a", "b\n", "\udce9"))


def torchvision_shapes(num_classes):
    """Names and shapes as torchvision's code makes them, written down once more."""
    shapes = {}

    def add(convolution, normalization, *shape):
        shapes[f"{convolution}.weight"] = shape
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{normalization}.{name}"] = shape[:1]
        shapes[f"{normalization}.num_batches_tracked"] = ()

    add("conv1", "bn1", 64, 3, 7, 7)
    before = 64
    for layer, (num_blocks, width) in enumerate(
        [(3, 64), (4, 128), (6, 256), (3, 512)], start=1
    ):
        for block in range(num_blocks):
            name = f"layer{layer}.{block}"
            add(f"{name}.conv1", f"{name}.bn1", width, before, 1, 1)
            add(f"{name}.conv2", f"{name}.bn2", width, width, 3, 3)
            add(f"{name}.conv3", f"{name}.bn3", 4 * width, width, 1, 1)
            if block == 0:
                shortcut = f"{name}.downsample"
                add(f"{shortcut}.0", f"{shortcut}.1", 4 * width, before, 1, 1)
            before = 4 * width
    return {**shapes, "fc.weight": (num_classes, 2048), "fc.bias": (num_classes,)}


@pytest.fixture(scope="module")
def model():
    return parity.create_network("v1.5", 1e-5)


@pytest.fixture(scope="module")
def state(model):
    return to_state_dict(model)


@pytest.fixture(scope="module")
def other():
    """A network whose weights tests may overwrite."""
    return create_resnet(parity.NUM_CLASSES, seed=9)


def test_names_and_shapes_are_torchvision_s(model, state):
    shapes = {name: tensor.shape for name, tensor in state.items()}
    assert shapes == torchvision_shapes(parity.NUM_CLASSES)
    assert list(shapes) == list(torchvision_shapes(parity.NUM_CLASSES))  # and order
    assert len(shapes) == 320
    assert sum(name.endswith("num_batches_tracked") for name in shapes) == 53
    assert expected_shapes(model, 1000) == torchvision_shapes(1000)
    assert len(named_variables(model)) == len(model.variables) == 320 - 53


def test_layouts_are_torchvision_s(model, state):
    kernel = model.stem_convolution.kernel.numpy()
    assert state["conv1.weight"][5, 2, 6, 1] == kernel[6, 1, 2, 5]
    assert state["fc.weight"][3, 7] == model.classifier.kernel.numpy()[7, 3]
    projection = model.stages[1][0].projection_normalization.moving_variance
    np.testing.assert_array_equal(
        state["layer2.0.downsample.1.running_var"], projection
    )


def test_a_file_gives_the_weights_back(tmp_path, model, other):
    path = tmp_path / "weights.safetensors"
    write_weights(path, model, ORIGIN)
    weights = read_weights(path, other)
    assert weights.origin == ORIGIN
    assert not weights.is_published
    assert weights.num_classes == parity.NUM_CLASSES
    assign_state_dict(other, weights.tensors)
    for a, b in zip(model.variables, other.variables, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes(), a.name
    with pytest.raises(ExchangeError, match="exists"):
        write_weights(path, model, ORIGIN)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_another_head_stays_as_it_was(state, model):
    finetuned = create_resnet(seed=4)
    before = finetuned.classifier.kernel.numpy()
    assign_state_dict(finetuned, state)
    np.testing.assert_array_equal(finetuned.classifier.kernel, before)
    np.testing.assert_array_equal(
        finetuned.stem_convolution.kernel, model.stem_convolution.kernel
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_float_types_and_absent_counters_are_taken(tmp_path, state, other, dtype):
    tensors = {k: v.astype(dtype) for k, v in state.items() if v.ndim}
    path = tmp_path / "published.safetensors"
    path.write_bytes(safetensors_numpy.save(tensors, metadata={"format": "pt"}))
    weights = read_weights(path, other)
    assert (weights.origin, weights.is_published) == (PUBLISHED, True)
    for name, tensor in tensors.items():
        assert weights.tensors[name].dtype == np.float32
        np.testing.assert_array_equal(weights.tensors[name], tensor.astype(np.float32))


def header_only(dtype):
    header = {"a": {"dtype": dtype, "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


@pytest.mark.parametrize(
    "content",
    [b"", b"no weights", b"\xff" * 50, b"PK\x03\x04" + bytes(90), header_only("F99")],
)
def test_garbage_is_refused(tmp_path, other, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ExchangeError, match=r"weights.pth: is damaged or no safetens"):
        read_weights(path, other)


def test_a_file_that_is_cut_off_is_refused(tmp_path, model, other):
    path = tmp_path / "weights.safetensors"
    write_weights(path, model, ORIGIN)
    content = path.read_bytes()
    for length in (len(content) - 1, 5000, 9):
        path.write_bytes(content[:length])
        with pytest.raises(ExchangeError, match="is damaged"):
            read_weights(path, other)


@pytest.mark.parametrize("name", ["absent.safetensors", "."])
def test_what_is_no_file_is_refused(tmp_path, other, name):
    with pytest.raises(ExchangeError, match="cannot be read"):
        read_weights(tmp_path / name, other)


@pytest.fixture
def refusal(tmp_path, state, other):
    """The message about a file of these tensors."""

    def message(changes, metadata=None):
        tensors = {k: v for k, v in {**state, **changes}.items() if v is not None}
        path = tmp_path / "weights.safetensors"
        path.write_bytes(safetensors_numpy.save(tensors, metadata=metadata))
        with pytest.raises(ExchangeError) as caught:
            read_weights(path, other)
        return str(caught.value).removeprefix(f"{path}: ")

    return message


def test_other_tensors_are_refused_with_the_list(refusal):
    message = refusal(
        {
            "bn1.weight": None,
            "layer4.2.bn3.bias": None,
            "head": np.zeros(3, np.float32),
            "conv1.weight": np.zeros((64, 3, 3, 3), np.float32),
        }
    )
    assert message.splitlines() == [
        "its tensors are not those of a ResNet-50: 2 missing, 1 unknown, "
        "1 of another shape",
        "missing: bn1.weight, layer4.2.bn3.bias",
        "unknown: head",
        "of another shape: conv1.weight [64, 3, 3, 3] instead of [64, 3, 7, 7]",
    ]


def test_a_head_that_does_not_fit_together_is_refused(refusal):
    assert "fc.weight [10, 2048] instead of [7, 2048]" in refusal(
        {"fc.bias": np.zeros(7, np.float32)}
    )
    assert "missing: fc.bias, fc.weight" in refusal(
        {"fc.bias": None, "fc.weight": None}
    )


def test_values_that_are_no_weights_are_refused(refusal):
    nan, negative = np.full(64, np.nan, np.float32), np.full(64, -1, np.float32)
    assert refusal({"bn1.weight": nan}).endswith("not a number: bn1.weight")
    assert "have negative values: bn1.running_var" in refusal(
        {"bn1.running_var": negative}
    )
    message = refusal({"bn1.bias": np.zeros(64, np.int32)})
    assert message.endswith("must be one of F32, F16, BF16, F64: bn1.bias is I32")


def test_damaged_metadata_is_refused(refusal):
    assert "metadata is damaged" in refusal({}, {"variant": '"v1.5"'})
    assert "metadata is damaged" in refusal({}, {"variant": "v1.5"})


@pytest.mark.parametrize(
    ("variant", "epsilon", "expected"),
    [
        (
            "v1",
            1e-5,
            r"variant = v1.5 \(what published ones have\), config.txt has v1 ",
        ),
        ("v1.5", 1e-3, r"epsilon = 1e-05 .* has 0.001 \(change \[model\] epsilon"),
    ],
)
def test_another_function_of_the_same_weights_is_refused(
    tmp_path, variant, epsilon, expected
):
    weights = weights_file.WeightsFile(tmp_path / "a", {}, PUBLISHED, True)
    require_same_network(weights, "v1.5", 1e-5)
    with pytest.raises(ExchangeError, match=expected):
        require_same_network(weights, variant, epsilon)


def test_without_the_package_the_remedy_is_named(tmp_path, model, monkeypatch):
    monkeypatch.setattr(weights_file, "safetensors", None)
    with pytest.raises(ExchangeError, match=r"pip install -e '\.\[exchange\]'"):
        write_weights(tmp_path / "a", model, ORIGIN)
    with pytest.raises(ExchangeError, match=r"pip install -e '\.\[exchange\]'"):
        read_weights(tmp_path / "a", model)


@needs_torch
def test_torchvision_takes_our_file_and_we_take_its(tmp_path, model, other):
    """Both ways through a file, every tensor, with equal logits at the end."""
    from safetensors.torch import load_file, save_file

    from tests.network.torchvision_peer import to_torch, torch, torchvision

    images, _ = parity.create_batch(2, 64)
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    write_weights(ours, model, ORIGIN)
    peer = torchvision.models.resnet50(num_classes=parity.NUM_CLASSES)
    peer.load_state_dict(load_file(ours), strict=True)
    with torch.no_grad():
        logits = peer.eval()(to_torch(images, torch.float32)).numpy()
    assert difference(model(images, False), logits) < 1e-4

    torch.manual_seed(0)
    peer = torchvision.models.resnet50(num_classes=parity.NUM_CLASSES)
    peer.train()(torch.randn(8, 3, 64, 64))  # So that its statistics have moved.
    save_file(peer.state_dict(), theirs)
    with torch.no_grad():
        logits = peer.eval()(to_torch(images, torch.float32)).numpy()
    assign_state_dict(other, read_weights(theirs, other).tensors)
    assert difference(other(images, False), logits) < 1e-4


def test_a_number_that_is_too_large_for_a_float_is_refused(refusal):
    metadata = {
        "variant": '"v1.5"',
        "epsilon": "1" + "0" * 400,
        "channel_mean": "[0, 0, 0]",
        "channel_std": "[1, 1, 1]",
        "class_names": "[]",
    }
    assert refusal({}, metadata).startswith("its metadata is damaged: OverflowError")


def test_names_of_tensors_are_shown_in_one_line(refusal):
    message = refusal({"a\nb\x1b[2J": np.zeros(1, np.float32)})
    assert message.splitlines()[1:] == [r"unknown: a\nb\x1b[2J"]


def test_a_pipe_is_refused(tmp_path, other):
    path = tmp_path / "weights.safetensors"
    os.mkfifo(path)
    with pytest.raises(ExchangeError, match="cannot be read: is not a regular file"):
        read_weights(path, other)
