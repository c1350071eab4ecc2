"""The residual block of a ResNet-50."""

from collections.abc import Callable

import tensorflow as tf

from resnet50.network.layers import Convolution
from resnet50.network.normalization import BatchNormalization, RenormLimits

EXPANSION = 4  # A block's output channels over those of its first convolutions.


class Bottleneck(tf.Module):
    """Three convolutions and a shortcut (He et al. 2015, figure 5, right).

        x -> 1x1 -> norm, relu -> 3x3 -> norm, relu -> 1x1 -> norm -> sum -> relu
        x ------------- itself, or projection 1x1 -> norm ---------->

    Blocks whose input and output differ in shape, the first of each stage, have the
    projection.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        strides: tuple[int, int],
        create_convolution: Callable[..., Convolution],
        create_normalization: Callable[..., BatchNormalization],
        last_gamma: float,
        name: str,
    ):
        """Creates the layers.

        ``channels`` are those of the first two convolutions, ``strides`` those of the
        first 1x1 and of the 3x3 convolution. The last normalization's gamma starts as
        last_gamma; with 0 the block starts as its shortcut alone (Goyal et al. 2017,
        section 5.1).
        """
        super().__init__(name=name)
        out_channels = EXPANSION * channels
        stride = strides[0] * strides[1]
        with self.name_scope:
            self.convolution1 = create_convolution(
                in_channels, channels, 1, strides[0], name="convolution1"
            )
            self.normalization1 = create_normalization(channels, name="normalization1")
            self.convolution2 = create_convolution(
                channels, channels, 3, strides[1], name="convolution2"
            )
            self.normalization2 = create_normalization(channels, name="normalization2")
            self.convolution3 = create_convolution(
                channels, out_channels, 1, 1, name="convolution3"
            )
            self.normalization3 = create_normalization(
                out_channels, initial_gamma=last_gamma, name="normalization3"
            )
            self.has_projection = stride != 1 or in_channels != out_channels
            if self.has_projection:
                self.projection = create_convolution(
                    in_channels, out_channels, 1, stride, name="projection"
                )
                self.projection_normalization = create_normalization(
                    out_channels, name="projection_normalization"
                )

    def __call__(
        self, x: tf.Tensor, is_training: bool, limits: RenormLimits
    ) -> tf.Tensor:
        """Maps a batch of feature maps to the next; see ``ResNet50.__call__``.

        x is float32, float16 or bfloat16 [N, H, W, in_channels]. The result is [N,
        ceil(H / stride), ceil(W / stride), EXPANSION * channels] of the same type, not
        negative.
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
