"""The arithmetic operations of a ResNet-50, and the peak speeds of cards.

A convolution of kernel k x k from c to d channels with an output of h x w multiplies
and adds k k c d h w times. In millions, for 224 pixels:

    part                                      v1.5        v1
    stem          7 x 7 x 3 x 64 x 112 x 112     118.0     118.0
    stage 1       3 blocks                       667.9     667.9
    stage 2       4 blocks                     1,027.6     950.5
    stage 3       6 blocks                     1,464.3   1,387.3
    stage 4       3 blocks                       809.2     732.2
    classifier    2048 x 1000                      2.0       2.0
    total                                      4,089.2   3,858.0

A training step costs three times the forward pass: the pass itself, the gradient of the
kernels, and that of the inputs, which the stem does not need. Multiplying and adding
are two operations, so an image costs 3 * 2 * 4.0892e9 - 2 * 0.118e9 = 24.3e9, in v1
22.9e9.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from resnet50.network.model import EXPANSION, STAGES, STEM_CHANNELS, Stage


class ConvolutionShape(NamedTuple):
    """The size of a convolution of the network."""

    kernel_size: int
    stride: int
    in_channels: int
    out_channels: int
    in_size: int  # Height and width of its input, pixels.

    @property
    def out_size(self) -> int:
        """Height and width of its output, pixels."""
        return -(-self.in_size // self.stride)

    @property
    def num_products(self) -> int:
        """Multiplications of an image's forward pass."""
        channels = self.in_channels * self.out_channels
        return self.kernel_size**2 * channels * self.out_size**2


def convolutions(
    crop_size: int, variant: str, stages: Sequence[Stage] = STAGES
) -> list[ConvolutionShape]:
    """Returns a network's convolutions; a ResNet-50 has 53.

    Args:
        crop_size: Height and width of an image, pixels.
        variant: "v1" or "v1.5".
        stages: The stage table.
    """
    stem = ConvolutionShape(7, 2, 3, STEM_CHANNELS, crop_size)
    shapes, in_channels, size = [stem], STEM_CHANNELS, -(-stem.out_size // 2)
    for num_blocks, channels, stage_stride in stages:
        out_channels = EXPANSION * channels
        for block in range(num_blocks):
            stride = 1 if block else stage_stride
            first, second = (stride, 1) if variant == "v1" else (1, stride)
            reduce = ConvolutionShape(1, first, in_channels, channels, size)
            middle = ConvolutionShape(3, second, channels, channels, reduce.out_size)
            expand = ConvolutionShape(1, 1, channels, out_channels, middle.out_size)
            shapes += [reduce, middle, expand]
            if not block:
                shapes.append(
                    ConvolutionShape(1, stride, in_channels, out_channels, size)
                )
            in_channels, size = out_channels, expand.out_size
    return shapes


def operations_per_image(crop_size: int, variant: str, num_classes: int = 1000) -> int:
    """Floating point operations of a training step for each image."""
    shapes = convolutions(crop_size, variant)
    classifier = EXPANSION * STAGES[-1].channels * num_classes
    forward = sum(shape.num_products for shape in shapes) + classifier
    return 3 * 2 * forward - 2 * shapes[0].num_products


# Dense peaks without sparsity in 1e12 operations a second; NVIDIA's data sheets and
# architecture papers. In float32: with TF32 where the card has it, as TensorFlow uses
# it; else of the CUDA cores. In float16 or bfloat16: of Tensor Cores, sums in float32.
PEAK_TFLOPS = {
    "V100": (15.7, 125),
    "T4": (8.1, 65),
    "RTX 2080": (10.1, 40.3),
    "RTX 2080 Ti": (13.4, 53.8),
    "RTX 3090": (35.6, 71),
    "RTX 4090": (82.6, 165.2),
    "A100": (156, 312),
    "L4": (60.5, 121),
    "L40S": (183, 362),
    "H100": (494.7, 989.4),
    "H200": (494.7, 989.4),
}


def peak_tflops(device_name: str, precision: str) -> float | None:
    """A known card's peak, 1e12 operations a second; None for others."""
    found = [
        name
        for name in PEAK_TFLOPS
        # Whole words: an L40S is no L4, and an RTX 2080 SUPER no RTX 2080.
        if re.search(rf"\b{name}\b(?! (?:Ti|SUPER)\b)", device_name, re.IGNORECASE)
    ]
    if not found:
        return None
    single, half = PEAK_TFLOPS[found[0]]
    return single if precision == "float32" else half
