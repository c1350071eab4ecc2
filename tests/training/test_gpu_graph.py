"""Proves what a GPU would run in a training step, without a GPU.

Every op has a kernel for GPUs; with soft placement TensorFlow would silently compute on
the CPU and copy. And the step launches no more kernels and needs no more memory than
these figures, which are those of a ResNet-50 with batches of 64.
"""

import pytest
import tensorflow as tf

from resnet50.network.model import ResNet50
from resnet50.network.tracing import traced
from resnet50.training.evaluation import Evaluator
from tests.settings import SETTINGS
from tests.training.gpu_graph import (
    count_kernels,
    create_gpu_training,
    nodes,
    ops_without_gpu_kernel,
    optimize,
    peak_bytes,
    trace,
)
from tests.training.tiny import SHALLOW_STAGES

# One of each value; the pairs that share code are together.
MODES = [
    {},
    {"precision": "float16", "mixup_alpha": 0.2, "weight_average_decay": 0.999},
    {"precision": "bfloat16", "label_smoothing": 0.1, "nesterov": True},
    {"precision": "float16", "normalization": "batch_renorm", "dtype": "uint8"},
    {"precision": "bfloat16", "normalization": "batch_renorm"},
    {"l2_penalty_on": "all", "dtype": "uint8", "mixup_alpha": 0.2},
    {
        "precision": "float16",
        "optimizer": "lamb",
        "weight_decay": 0.02,
        "loss": "binary_cross_entropy",
        "target_threshold": 0.2,
        "cutmix_alpha": 1.0,
    },
]

# TensorFlow's ops that raise an error, or run on the CPU, where op determinism is on:
# the documentation of tf.config.experimental.enable_op_determinism, and the release
# notes of TensorFlow 2.7 and 2.8.
NOT_DETERMINISTIC = {
    *("ScatterNd", "TensorScatterUpdate", "TensorScatterAdd", "ResourceScatterAdd"),
    *("CropAndResizeGradImage", "CropAndResizeGradBoxes", "ResizeNearestNeighborGrad"),
    *("AdjustContrastv2", "SparseTensorDenseMatMul", "DenseBincount", "Bincount"),
    *("FakeQuantWithMinMaxVarsGradient", "DepthwiseConv2dNativeBackpropFilter"),
    *("SparseSoftmaxCrossEntropyWithLogits", "MaxPoolGradWithArgmax", "Unique"),
}


def describe(mode) -> str:
    return "-".join(map(str, mode.values())) or "float32"


@pytest.mark.parametrize("mode", MODES, ids=describe)
def test_every_op_has_a_gpu_kernel(mode):
    settings = dict(mode)
    dtype = settings.pop("dtype", "float16")
    training = create_gpu_training(stages=SHALLOW_STAGES, **settings)
    function = trace(training, dtype=dtype)
    assert not ops_without_gpu_kernel(function)
    assert not {node.op for node in nodes(function)} & NOT_DETERMINISTIC


@pytest.mark.parametrize("name", ["step", "accumulate"])
def test_every_op_of_an_accumulated_batch_has_a_gpu_kernel(name):
    training = create_gpu_training(
        stages=SHALLOW_STAGES, precision="float16", accumulate_batches=4
    )
    assert not ops_without_gpu_kernel(trace(training, name=name))


def test_every_op_of_an_evaluation_and_of_a_prediction_has_a_gpu_kernel():
    evaluator = Evaluator(ResNet50(1000, SETTINGS.model), SETTINGS, num_crops=10)
    for function in (evaluator._logs, evaluator._judge):
        assert not ops_without_gpu_kernel(function.get_concrete_function())


def test_an_op_without_a_gpu_kernel_is_found():
    function = traced(tf.strings.as_string)
    trace_of_it = function.get_concrete_function(tf.TensorSpec([4], tf.float32))
    assert ops_without_gpu_kernel(trace_of_it) == {"AsString": 1}


@pytest.mark.parametrize(
    ("mode", "compute_capability", "kernels", "transposes", "gigabytes"),
    [
        # TensorFlow changes float32 to NCHW, with a transpose at the start and one in
        # the gradient at the end; half precision stays NHWC, for Tensor Cores.
        ({}, "8.0", 650, 2, 5.67),
        ({"precision": "bfloat16"}, "8.0", 755, 0, 2.91),
        ({"precision": "float16"}, "7.5", 796, 0, 2.89),
        (MODES[4], "8.0", 2082, 0, 2.91),
    ],
)
def test_kernels_transposes_and_memory(
    mode, compute_capability, kernels, transposes, gigabytes
):
    function = trace(create_gpu_training(**mode))
    counts = count_kernels(optimize(function, compute_capability))
    assert counts["Transpose"] == transposes
    # A little room, for other versions of TensorFlow.
    assert 0.9 * kernels < counts.total() <= 1.02 * kernels
    assert 0.9 * gigabytes < peak_bytes(function) / 1e9 <= 1.02 * gigabytes
