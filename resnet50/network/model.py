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

The stem is a 7 x 7 convolution and a 3 x 3 max pooling, both with stride 2. A stage's
stride is that of its first block. The parameters are those that a training of the
whole network changes; there are also 53,120 moving means and variances.

In a block of stride 2, the variant "v1" (the paper's) has the stride in the first 1 x 1
convolution, which leaves three quarters of the pixels unread; "v1.5" (torchvision's and
NVIDIA's) has it in the 3 x 3 convolution. Both have the same variables.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet50.config.settings import ModelConfig
from resnet50.network.bottleneck import EXPANSION, Bottleneck
from resnet50.network.layers import Convolution, Dense, max_pool
from resnet50.network.normalization import (
    NO_RENORMALIZATION,
    BatchNormalization,
    BatchRenormalization,
    RenormLimits,
)
from resnet50.network.synchronized import (
    SynchronizedBatchNormalization,
    SynchronizedBatchRenormalization,
)


class Stage(NamedTuple):
    """One row of the stage table."""

    num_blocks: int
    channels: int  # of a block's first two convolutions; EXPANSION times in its output
    stride: int  # of the first block; the others have stride 1


STAGES = (
    Stage(num_blocks=3, channels=64, stride=1),
    Stage(num_blocks=4, channels=128, stride=2),
    Stage(num_blocks=6, channels=256, stride=2),
    Stage(num_blocks=3, channels=512, stride=2),
)
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
# The first part that is trained, for each value of [model] trainable: 0 is the stem, 1
# to 4 are the stages. The parts before it are frozen.
FIRST_TRAINED = {
    "all": 0,
    **{f"stage{number}": number for number in range(1, len(STAGES) + 1)},
    "classifier": len(STAGES) + 1,
}
PRECISIONS = ("float32", "float16", "bfloat16")

# Separates the random stream of the weights from those of the epoch order and of the
# augmentation, which use the same seed.
WEIGHT_INITIALIZATION = 3


class ResNet50(tf.Module):
    """Maps images to logits.

    Frozen parts, those before the first that ``trainable`` of [model] names, are as at
    inference also in training. Their variables are not trainable, so a gradient tape
    records nothing of them.

    Attributes:
        stages: For each stage, the list of its Bottlenecks.
    """

    def __init__(
        self,
        num_classes: int,
        settings: ModelConfig,
        *,
        stages: Sequence[Stage] = STAGES,
        seed: int = 0,
        precision: str = "float32",
        pools_by_slices: bool = False,
        pads_in_op: bool = False,
        is_synchronized: bool = False,
    ):
        """Creates the layers; the same arguments give bitwise the same weights.

        Args:
            num_classes: K.
            settings: [model] of config.txt.
            stages: The stage table; a smaller one makes a smaller network.
            seed: Seed of all weights.
            precision: One of PRECISIONS, the type of the activations from the images
                to the average pooling. The variables are always float32.
            pools_by_slices: See layers.max_pool; for XLA.
            pads_in_op: See layers.Convolution; for a GPU without XLA.
            is_synchronized: Whether normalizations in training use the statistics of
                all replicas' images; only for a model under tf.distribute.
        """
        super().__init__(name="resnet50")
        assert settings.variant in VARIANTS, settings.variant
        assert precision in PRECISIONS, precision
        self._dtype = tf.as_dtype(precision)
        self._pools_by_slices = pools_by_slices
        rng = np.random.default_rng([seed, WEIGHT_INITIALIZATION])
        kinds = SYNCHRONIZED if is_synchronized else NORMALIZATIONS
        create_normalization = functools.partial(
            kinds[settings.normalization],
            epsilon=settings.epsilon,
            moving_average_decay=settings.moving_average_decay,
        )
        create_convolution = functools.partial(
            Convolution, rng=rng, pads_in_op=pads_in_op
        )
        last_gamma = 0.0 if settings.zero_init_last_gamma else 1.0
        first_trained = FIRST_TRAINED[settings.trainable]

        self.stem_convolution = create_convolution(
            3,
            STEM_CHANNELS,
            7,
            2,
            is_trained=not first_trained,
            name="stem_convolution",
        )
        self.stem_normalization = create_normalization(
            STEM_CHANNELS, is_trained=not first_trained, name="stem_normalization"
        )
        self.stages = []
        channels = STEM_CHANNELS
        for stage_number, stage in enumerate(stages, start=1):
            blocks, is_trained = [], stage_number >= first_trained
            for block_number in range(1, stage.num_blocks + 1):
                stride = stage.stride if block_number == 1 else 1
                blocks.append(
                    Bottleneck(
                        channels,
                        stage.channels,
                        (stride, 1) if settings.variant == "v1" else (1, stride),
                        functools.partial(create_convolution, is_trained=is_trained),
                        functools.partial(create_normalization, is_trained=is_trained),
                        last_gamma,
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

        The sizes below are for H = W = 224; H and W must be at least 32.

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
        """The kernels of the convolutions and of the classifier that are trained."""
        return tuple(
            module.kernel
            for module in self.submodules
            if isinstance(module, Convolution | Dense) and module.kernel.trainable
        )

    @property
    def moving_statistics(self) -> tuple[tf.Variable, ...]:
        """The moving means and variances that training changes."""
        return tuple(
            statistic
            for module in self._normalizations
            if module.is_trained
            for statistic in (module.moving_mean, module.moving_variance)
        )

    @property
    def _normalizations(self) -> list[BatchNormalization]:
        return [m for m in self.submodules if isinstance(m, BatchNormalization)]

    @property
    def num_parameters(self) -> int:
        """The number of weights, trained or frozen."""
        num_values = sum(v.shape.num_elements() for v in self.variables)
        return num_values - sum(
            2 * module.moving_mean.shape.num_elements()
            for module in self._normalizations
        )

    @property
    def num_trained(self) -> int:
        """The number of weights that are trained."""
        return sum(v.shape.num_elements() for v in self.trainable_variables)
