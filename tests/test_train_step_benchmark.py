"""Proves the arithmetic of benchmarks/train_step.py, and that its layouts are the same.

That NCHW is measured on the same convolutions as NHWC is shown with XLA: without it
TensorFlow has no NCHW convolution on a CPU.
"""

import pytest
import tensorflow as tf

from benchmarks import arithmetic, layouts
from benchmarks.arithmetic import (
    ConvolutionShape,
    convolutions,
    operations_per_image,
    peak_tflops,
)
from benchmarks.layouts import make_convolution, measure_layouts
from resnet50.network.layers import Convolution
from resnet50.network.model import STAGES, VARIANTS
from tests.network.networks import create_resnet
from tests.training.tiny import SHALLOW_STAGES
from tests.training.tolerances import difference, sum_bound

ROWS = [" ".join(row.split()) for row in arithmetic.__doc__.splitlines()]


def millions(shapes):
    return f"{sum(shape.num_products for shape in shapes) / 1e6:,.1f}"


def test_the_table_is_true():
    both = [convolutions(224, variant) for variant in ("v1.5", "v1")]
    first = 1
    for number, (num_blocks, _, _) in enumerate(STAGES, start=1):
        end = first + 3 * num_blocks + 1
        found = " ".join(millions(shapes[first:end]) for shapes in both)
        assert f"stage {number} {num_blocks} blocks {found}" in ROWS
        first = end
    totals = [sum(s.num_products for s in shapes) + 2048 * 1000 for shapes in both]
    assert f"total {totals[0] / 1e6:,.1f} {totals[1] / 1e6:,.1f}" in ROWS
    assert round(operations_per_image(224, "v1.5") / 1e9, 1) == 24.3
    assert round(operations_per_image(224, "v1") / 1e9, 1) == 22.9


@pytest.mark.parametrize("stages", [STAGES, SHALLOW_STAGES])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_convolutions_are_the_network_s(variant, stages):
    found = sorted(shape[:4] for shape in convolutions(224, variant, stages))
    modules = create_resnet(variant=variant, stages=stages).submodules
    layers = [module for module in modules if isinstance(module, Convolution)]
    expected = sorted(
        (layer.kernel.shape[0], layer.stride, *layer.kernel.shape[2:])
        for layer in layers
    )
    assert found == expected


def test_a_card_is_known_by_its_name():
    assert peak_tflops("NVIDIA GeForce RTX 2080 Ti", "float16") == 53.8
    assert peak_tflops("NVIDIA GeForce RTX 2080", "float32") == 10.1
    assert peak_tflops("NVIDIA A100-SXM4-40GB", "bfloat16") == 312
    assert peak_tflops("NVIDIA A100-SXM4-40GB", "float32") == 156  # TF32
    assert peak_tflops("NVIDIA L40S", "float16") == 362
    assert peak_tflops("NVIDIA L4", "float16") == 121
    assert peak_tflops("Tesla T4", "float16") == 65
    assert peak_tflops("Tesla V100-SXM2-16GB", "float32") == 15.7
    assert peak_tflops("NVIDIA H200", "float32") == 494.7
    for other in ("the CPU", "NVIDIA T400 4GB", "NVIDIA GeForce RTX 2080 SUPER"):
        assert peak_tflops(other, "float32") is None


@pytest.mark.parametrize("stride", [1, 2])
def test_both_layouts_are_the_same_convolution(stride):
    shape = ConvolutionShape(3, stride, in_channels=4, out_channels=6, in_size=9)
    results = [
        make_convolution(shape, layout, 2, "float32", xla=True)[1]()
        for layout in ("NHWC", "NCHW")
    ]
    for a, b in zip(*results, strict=True):
        # Sums of at most 2 * 9 * 9 products, the kernel's gradient.
        assert difference(a, b) < sum_bound(2 * 9 * 9, 10)
    assert results[0][0].shape == (2, shape.out_size, shape.out_size, 6)


def test_the_time_of_a_layout_is_of_all_convolutions(monkeypatch):
    """Twice the same convolution takes twice the time, which is measured once."""
    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", lambda _: None)
    shape = ConvolutionShape(1, 1, in_channels=4, out_channels=4, in_size=4)
    monkeypatch.setattr(layouts, "convolutions", lambda *_: [shape, shape])
    ticks = iter(range(1000))
    monkeypatch.setattr(layouts.time, "perf_counter", lambda: next(ticks))
    seconds = measure_layouts(2, 8, "float32", 3, repetitions=10, xla=True)
    # Each measurement is one tick of the clock, of ten repetitions.
    assert seconds == {"NHWC": pytest.approx(0.2), "NCHW": pytest.approx(0.2)}
