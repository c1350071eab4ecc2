"""The ResNet-50 of He et al. 2015 (arXiv 1512.03385) for any number of classes.

For images of 224 x 224 pixels and 1000 classes:

    part        blocks  channels  stride  output size       parameters
    stem             -        64       4    56 x 56 x 64         9,536
    stage 1          3        64       1    56 x 56 x 256      215,808
    stage 2          4       128       2    28 x 28 x 512    1,219,584
    stage 3          6       256       2    14 x 14 x 1024   7,098,368
    stage 4          3       512       2     7 x 7 x 2048   14,964,736
    classifier       -      1000       -          1000       2,049,000
    total           16                                      25,557,032

The stem is a 7 x 7 convolution and a 3 x 3 max pooling, each of stride 2. A stage's
stride is that of its first block. The parameters are those that are trained; 53,120
moving means and variances come on top.

Two variants differ in where a block of stride 2 has it: "v1", the paper's, in the first
1 x 1 convolution, which leaves three quarters of the pixels unread; "v1.5", that of
torchvision and NVIDIA, in the 3 x 3. Both have the same variables. Loss, l2 penalty and
training step are left to ``step``.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet50.network.layers import (
    NO_RENORMALIZATION,
    BatchNormalization,
    BatchRenormalization,
    Convolution,
    Dense,
    RenormLimits,
    max_pool,
)
from resnet50.network.synchronized import (
    SynchronizedBatchNormalization,
    SynchronizedBatchRenormalization,
)


class Stage(NamedTuple):
    """One row of the stage table.

    Attributes:
        num_blocks: Bottlenecks one after the other.
        channels: Of each block's first two convolutions; a block's output has EXPANSION
            times as many.
        stride: Of the first block; the others have 1.
    """

    num_blocks: int
    channels: int
    stride: int


STAGES = (
    Stage(num_blocks=3, channels=64, stride=1),
    Stage(num_blocks=4, channels=128, stride=2),
    Stage(num_blocks=6, channels=256, stride=2),
    Stage(num_blocks=3, channels=512, stride=2),
)
EXPANSION = 4
STEM_CHANNELS = 64

VARIANTS = ("v1", "v1.5")
NORMALIZATIONS = {
    "batch_norm": BatchNormalization,
    "batch_renorm": BatchRenormalization,
}
SYNCHRONIZED = {
    "batch_norm": SynchronizedBatchNormalization,
    "batch_renorm": SynchronizedBatchRenormalization,
}
PRECISIONS = ("float32", "float16", "bfloat16")

# Keeps the random stream of the weights apart from those of the epoch order and of the
# augmentation, which use the same seed.
WEIGHT_INITIALIZATION = 3


class Bottleneck(tf.Module):
    """Three convolutions and a shortcut (He et al. 2015, figure 5, right).

        x -> 1x1 -> norm, relu -> 3x3 -> norm, relu -> 1x1 -> norm -> sum -> relu
        x ------------- itself, or projection 1x1 -> norm ---------->

    The projection is there where input and output differ in shape: in the first block
    of each stage.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        strides: tuple[int, int],
        create_normalization: Callable[..., BatchNormalization],
        last_gamma: float,
        rng: np.random.Generator,
        name: str,
    ):
        """Creates the layers.

        Args:
            in_channels: Channels of the input.
            channels: Channels of the first two convolutions; the output has EXPANSION
                times as many.
            strides: Of the first 1x1 and of the 3x3 convolution.
            create_normalization: Makes a normalization layer of (channels, name=...).
            last_gamma: Start value of the last normalization's gamma.
            rng: Draws the kernels.
            name: A Python identifier, the prefix of the variables' names.
        """
        super().__init__(name=name)
        out_channels = EXPANSION * channels
        stride = strides[0] * strides[1]
        with self.name_scope:
            self.convolution1 = Convolution(
                in_channels, channels, 1, strides[0], rng, name="convolution1"
            )
            self.normalization1 = create_normalization(channels, name="normalization1")
            self.convolution2 = Convolution(
                channels, channels, 3, strides[1], rng, name="convolution2"
            )
            self.normalization2 = create_normalization(channels, name="normalization2")
            self.convolution3 = Convolution(
                channels, out_channels, 1, 1, rng, name="convolution3"
            )
            self.normalization3 = create_normalization(
                out_channels, initial_gamma=last_gamma, name="normalization3"
            )
            self.has_projection = stride != 1 or in_channels != out_channels
            if self.has_projection:
                self.projection = Convolution(
                    in_channels, out_channels, 1, stride, rng, name="projection"
                )
                self.projection_normalization = create_normalization(
                    out_channels, name="projection_normalization"
                )

    def __call__(
        self, x: tf.Tensor, is_training: bool, limits: RenormLimits
    ) -> tf.Tensor:
        """Maps a batch of feature maps to the next.

        Args:
            x: float32, float16 or bfloat16 [N, H, W, in_channels].
            is_training: Whether to normalize with the batch's own statistics.
            limits: r_max and d_max of batch renormalization.

        Returns:
            [N, ceil(H / stride), ceil(W / stride), EXPANSION * channels] of x's type,
            not negative.
        """
        shortcut = x
        if self.has_projection:
            shortcut = self.projection(x)
            shortcut = self.projection_normalization(shortcut, is_training, limits)
        x = self.convolution1(x)
        x = tf.nn.relu(self.normalization1(x, is_training, limits))
        x = self.convolution2(x)
        x = tf.nn.relu(self.normalization2(x, is_training, limits))
        x = self.convolution3(x)
        x = self.normalization3(x, is_training, limits)
        return tf.nn.relu(x + shortcut)


class ResNet50(tf.Module):
    """Maps images to logits.

    Attributes:
        stem_convolution: The 7x7 convolution.
        stem_normalization: The normalization after it.
        stages: A list of Bottlenecks for each row of STAGES.
        classifier: The dense layer after the average pooling.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        variant: str = "v1.5",
        normalization: str = "batch_norm",
        moving_average_decay: float = 0.9,
        epsilon: float = 1e-5,
        zero_init_last_gamma: bool = False,
        precision: str = "float32",
        pools_by_slices: bool = False,
        seed: int = 0,
        is_synchronized: bool = False,
    ):
        """Creates the layers; the same arguments give bitwise the same weights.

        Args:
            num_classes: K.
            variant: One of VARIANTS, where a block has its stride.
            normalization: A key of NORMALIZATIONS.
            moving_average_decay: Share of the old moving statistics that a step keeps.
            epsilon: Added to variances in the normalizations.
            zero_init_last_gamma: Whether each block starts as its shortcut alone, with
                0 as gamma of its last normalization (Goyal et al. 2017, section 5.1).
            precision: One of PRECISIONS, the type of the activations from the images
                to the average pooling. The variables are float32 whatever it is.
            pools_by_slices: See layers.max_pool; for XLA.
            seed: Of all weights.
            is_synchronized: Whether a normalization in training takes the statistics of
                all replicas' images; for a model under tf.distribute.
        """
        super().__init__(name="resnet50")
        assert variant in VARIANTS, variant
        assert normalization in NORMALIZATIONS, normalization
        assert precision in PRECISIONS, precision
        self._dtype = tf.as_dtype(precision)
        self._pools_by_slices = pools_by_slices
        rng = np.random.default_rng([seed, WEIGHT_INITIALIZATION])
        create_normalization = functools.partial(
            (SYNCHRONIZED if is_synchronized else NORMALIZATIONS)[normalization],
            epsilon=epsilon,
            moving_average_decay=moving_average_decay,
        )

        self.stem_convolution = Convolution(
            3, STEM_CHANNELS, 7, 2, rng, name="stem_convolution"
        )
        self.stem_normalization = create_normalization(
            STEM_CHANNELS, name="stem_normalization"
        )
        self.stages = []
        channels = STEM_CHANNELS
        for stage_number, stage in enumerate(STAGES, start=1):
            blocks = []
            for block_number in range(1, stage.num_blocks + 1):
                stride = stage.stride if block_number == 1 else 1
                blocks.append(
                    Bottleneck(
                        channels,
                        stage.channels,
                        (stride, 1) if variant == "v1" else (1, stride),
                        create_normalization,
                        0.0 if zero_init_last_gamma else 1.0,
                        rng,
                        name=f"stage{stage_number}_block{block_number}",
                    )
                )
                channels = EXPANSION * stage.channels
            self.stages.append(blocks)
        self.classifier = Dense(channels, num_classes, rng, name="classifier")

    def __call__(
        self,
        images: tf.Tensor,
        is_training: bool,
        limits: RenormLimits = NO_RENORMALIZATION,
    ) -> tf.Tensor:
        """Classifies a batch; in training also updates the moving statistics.

        Sizes below are those of H = W = 224; any H and W of at least 32 will do.

        Args:
            images: float16 or float32 [N, H, W, 3], RGB, normalized.
            is_training: Whether to normalize with the batch's own statistics.
            limits: r_max and d_max of batch renormalization, in training.

        Returns:
            float32 [N, K], logits.
        """
        x = tf.cast(images, self._dtype)  # [N, 224, 224, 3]
        x = self.stem_convolution(x)  # [N, 112, 112, 64]
        x = tf.nn.relu(self.stem_normalization(x, is_training, limits))
        x = max_pool(x, by_slices=self._pools_by_slices)  # [N, 56, 56, 64]
        for blocks in self.stages:
            for block in blocks:
                x = block(x, is_training, limits)
        x = tf.cast(x, tf.float32)  # [N, 7, 7, 2048]
        x = tf.reduce_mean(x, axis=[1, 2])  # [N, 2048]
        return self.classifier(x)

    @property
    def kernels(self) -> tuple[tf.Variable, ...]:
        """The kernels of all 53 convolutions and of the classifier.

        These are the variables under the l2 penalty: no gamma, no beta, no bias.
        """
        return tuple(
            module.kernel
            for module in self.submodules
            if isinstance(module, Convolution | Dense)
        )

    @property
    def num_parameters(self) -> int:
        """The number of trained values."""
        return sum(
            variable.shape.num_elements() for variable in self.trainable_variables
        )
