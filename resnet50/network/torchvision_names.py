"""A network's weights under the names and in the layouts of torchvision and timm.

    here                                   there
    stem_convolution, stem_normalization   conv1, bn1
    stages[s][b].convolution1 .. 3         layer{s + 1}.{b}.conv1 .. 3
    stages[s][b].normalization1 .. 3       layer{s + 1}.{b}.bn1 .. 3
    stages[s][b].projection                layer{s + 1}.{b}.downsample.0
    stages[s][b].projection_normalization  layer{s + 1}.{b}.downsample.1
    classifier                             fc

    kernel [H, W, in, out]; [in, out]      weight [out, in, H, W]; [out, in]
    gamma, beta                            weight, bias
    moving_mean, moving_variance           running_mean, running_var
    (nothing)                              num_batches_tracked, int64 []

These are 320 tensors. ``weights_file`` reads and writes files of them.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from resnet50.network.model import ResNet50

_VARIABLES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_COUNTER = "num_batches_tracked"
_HEAD = ("fc.weight", "fc.bias")
# The order of the axes there and here, by their number.
_TO_THEIRS = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
_TO_OURS = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}


def _named_layers(model: ResNet50) -> Iterator[tuple[str, tf.Module]]:
    """The layers by torchvision's names, in torchvision's order."""
    yield "conv1", model.stem_convolution
    yield "bn1", model.stem_normalization
    for stage, blocks in enumerate(model.stages, start=1):
        for number, block in enumerate(blocks):
            prefix = f"layer{stage}.{number}"
            for i in (1, 2, 3):
                yield f"{prefix}.conv{i}", getattr(block, f"convolution{i}")
                yield f"{prefix}.bn{i}", getattr(block, f"normalization{i}")
            if block.has_projection:
                yield f"{prefix}.downsample.0", block.projection
                yield f"{prefix}.downsample.1", block.projection_normalization
    yield "fc", model.classifier


def named_variables(model: ResNet50) -> dict[str, tf.Variable]:
    """All variables of a network by torchvision's names, in torchvision's order."""
    return {
        f"{name}.{theirs}": getattr(layer, ours)
        for name, layer in _named_layers(model)
        for ours, theirs in _VARIABLES.items()
        if hasattr(layer, ours)
    }


def is_counter(name: str) -> bool:
    """Whether a tensor is one of the 53 that have no counterpart here."""
    return name.split(".")[-1] == _COUNTER


def expected_shapes(model: ResNet50, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Shapes of all 320 tensors, for a head of any number of classes."""
    shapes = {}
    for name, variable in named_variables(model).items():
        shape = tuple(variable.shape[axis] for axis in _TO_THEIRS[len(variable.shape)])
        shapes[name] = (num_classes, *shape[1:]) if name in _HEAD else shape
        if name.endswith(".running_var"):
            shapes[name.removesuffix("running_var") + _COUNTER] = ()
    return shapes


def to_state_dict(model: ResNet50) -> dict[str, np.ndarray]:
    """A network's tensors, as torchvision's ``load_state_dict`` takes them.

    Returns:
        float32 arrays by name, and the counters, which are all 0: PyTorch reads them
        only if its moving averages go by count, and nothing is counted here.
    """
    variables = named_variables(model)
    return {
        name: np.zeros((), np.int64)
        if is_counter(name)
        else _transpose(variables[name].numpy(), _TO_THEIRS)
        for name in expected_shapes(model, model.classifier.bias.shape[0])
    }


def assign_state_dict(model: ResNet50, tensors: Mapping[str, np.ndarray]) -> None:
    """Assigns tensors to a network's variables, except to a head of another size.

    They are float32, in torchvision's layouts, by name; counters are not needed.
    """
    for name, variable in named_variables(model).items():
        value = _transpose(tensors[name], _TO_OURS)
        if name not in _HEAD or value.shape == variable.shape:
            variable.assign(value)


def _transpose(array: np.ndarray, axes: dict[int, tuple[int, ...]]) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(axes[array.ndim]))
