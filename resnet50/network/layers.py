"""Normalized images, convolution, max pooling and dense layer on raw TensorFlow ops.

The caller passes a numpy Generator from layer to layer to draw the weights, so they
depend on neither TensorFlow's random state nor its version. Images are NHWC.

All variables are float32. A convolution computes in the type of its input, which may
also be float16 or bfloat16; the dense layer computes in float32.
"""

import numpy as np
import tensorflow as tf

from resnet50.pixels.augmentation import ChannelStatistics


def normalize_on_device(
    images: tf.Tensor, shifts: tf.Tensor | None, statistics: ChannelStatistics
) -> tf.Tensor:
    """Steps 4 and 6 of the preprocessing; the same as normalize_crops, on tensors.

    Maps images, uint8 [N, H, W, 3], RGB, to float32 [N, H, W, 3]. The colour shifts are
    float32 [N, 3]; None for no shifts.
    """
    # One product and one sum per value: level / (255 std) + (shift - mean / std).
    std = np.array(statistics.std)
    scale = tf.constant(1 / (255 * std), tf.float32)
    offset = tf.constant(np.array(statistics.mean) / std, tf.float32)
    values = tf.cast(images, tf.float32) * scale
    if shifts is None:
        return values - offset
    return values + (shifts - offset)[:, None, None, :]


class Convolution(tf.Module):
    """A square 2-D convolution without bias, padded by kernel_size // 2 on each side.

    The padding is torchvision's. TensorFlow's "SAME" differs from it at stride 2: it
    pads an even-sized input more below and to the right than above and to the left.

    Attributes:
        kernel: float32 [kernel_size, kernel_size, in_channels, out_channels].
        stride: In pixels, the same down and across.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        *,
        rng: np.random.Generator,
        is_trained: bool = True,
        pads_in_op: bool = False,
        name: str,
    ):
        """Draws the kernel as in He et al. 2015 (arXiv 1502.01852), eq. 14 (fan-out).

        It is normal with standard deviation sqrt(2 / (kernel_size^2 out_channels));
        kernel_size must be odd. is_trained says whether training changes it. With
        pads_in_op, TensorFlow's op pads the input at
        stride 2: on a GPU without XLA this saves the memory of the padded copies.
        """
        super().__init__(name=name)
        assert kernel_size % 2 == 1, kernel_size
        self.stride = stride
        self._pads_in_op = pads_in_op
        shape = (kernel_size, kernel_size, in_channels, out_channels)
        stddev = (2 / (kernel_size**2 * out_channels)) ** 0.5
        with self.name_scope:
            self.kernel = tf.Variable(
                _draw_normal(rng, shape, stddev), trainable=is_trained, name="kernel"
            )

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Maps float32, float16 or bfloat16 [N, H, W, in_channels] to the same type.

        The result is [N, ceil(H / stride), ceil(W / stride), out_channels].
        """
        kernel = tf.cast(self.kernel, x.dtype)
        margin = kernel.shape[0] // 2
        # At stride 1, or for 1x1 kernels, "SAME" is symmetric too.
        if self.stride == 1 or margin == 0:
            return tf.nn.conv2d(x, kernel, self.stride, "SAME")
        padding = [[0, 0], [margin, margin], [margin, margin], [0, 0]]
        if self._pads_in_op:
            return tf.nn.conv2d(x, kernel, self.stride, padding)
        # On a CPU the op's own padding has no fast gradient: with it everywhere, a
        # training step takes 2.7 times as long (719 against 263 ms; batch 16, 64
        # pixels, 2 cores, TensorFlow 2.21). XLA cannot compile it.
        return tf.nn.conv2d(tf.pad(x, padding), kernel, self.stride, "VALID")


def max_pool(x: tf.Tensor, *, by_slices: bool = False) -> tf.Tensor:
    """Returns the maximum of each 3 x 3 window, at stride 2, padded by 1 on each side.

    Maps float32, float16 or bfloat16 [N, H, W, C], not negative, to [N, ceil(H / 2),
    ceil(W / 2), C] of the same type. With by_slices it is a maximum of slices, because
    XLA has no deterministic gradient of the pooling op. Where a window has several
    equal maxima, the gradient may then go to another one of them.
    """
    # Padding with zeros is right, because the values are not negative. The op's own
    # padding would do as well, but XLA refuses it.
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    if not by_slices:
        return tf.nn.max_pool2d(x, 3, 2, "VALID")
    x = tf.maximum(tf.maximum(x[:, :-2:2], x[:, 1:-1:2]), x[:, 2::2])
    return tf.maximum(tf.maximum(x[:, :, :-2:2], x[:, :, 1:-1:2]), x[:, :, 2::2])


class Dense(tf.Module):
    """A fully connected layer with bias.

    Attributes:
        kernel: float32 [in_features, out_features].
        bias: float32 [out_features], 0 at the start.
    """

    def __init__(
        self, in_features: int, out_features: int, rng: np.random.Generator, name: str
    ):
        """Draws the kernel as in Goyal et al. 2017 (arXiv 1706.02677), section 5.1."""
        super().__init__(name=name)
        shape = (in_features, out_features)
        with self.name_scope:
            self.kernel = tf.Variable(_draw_normal(rng, shape, 0.01), name="kernel")
            self.bias = tf.Variable(tf.zeros([out_features]), name="bias")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Maps float32 [N, in_features] to float32 [N, out_features]."""
        return tf.matmul(x, self.kernel) + self.bias


def _draw_normal(
    rng: np.random.Generator, shape: tuple[int, ...], stddev: float
) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(stddev)
