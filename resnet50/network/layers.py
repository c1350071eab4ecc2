"""The four layers of a ResNet-50 on raw TensorFlow ops.

A layer holds its variables and maps one tensor to one tensor. Weights are drawn from a
numpy Generator that the caller passes from layer to layer, so that they depend on
neither TensorFlow's random state nor its version. Images are NHWC. How layers are
joined is left to ``model``.

All variables are float32. Activations may be float16 or bfloat16 as well: a convolution
computes in the type of what it is given; a normalization takes and returns that type,
but computes every statistic in float32; the dense layer is float32 throughout.
"""

import numpy as np
import tensorflow as tf

# A pair (r_max, d_max) of scalars: floats or float32 tensors.
RenormLimits = tuple[float | tf.Tensor, float | tf.Tensor]

# With these limits batch renormalization is batch normalization.
NO_RENORMALIZATION = (1.0, 0.0)


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
        rng: np.random.Generator,
        name: str,
    ):
        """Draws the kernel as He et al. 2015 (arXiv 1502.01852), eq. 14 (fan-out).

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            kernel_size: Height and width of the kernel, odd.
            stride: In pixels, the same down and across.
            rng: Draws the kernel: normal, standard deviation
                sqrt(2 / (kernel_size^2 out_channels)).
            name: A Python identifier, the prefix of the variable's name.
        """
        super().__init__(name=name)
        assert kernel_size % 2 == 1, kernel_size
        self.stride = stride
        shape = (kernel_size, kernel_size, in_channels, out_channels)
        stddev = (2 / (kernel_size**2 * out_channels)) ** 0.5
        with self.name_scope:
            self.kernel = tf.Variable(_draw_normal(rng, shape, stddev), name="kernel")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Convolves a batch.

        Args:
            x: float32, float16 or bfloat16 [N, H, W, in_channels].

        Returns:
            [N, ceil(H / stride), ceil(W / stride), out_channels] of x's type.
        """
        kernel = tf.cast(self.kernel, x.dtype)
        margin = kernel.shape[0] // 2
        # At stride 1, or for 1x1 kernels, "SAME" is symmetric too.
        if self.stride == 1 or margin == 0:
            return tf.nn.conv2d(x, kernel, self.stride, "SAME")
        # conv2d also takes explicit paddings, but their gradient has no fast kernel on
        # CPU: with them everywhere a training step takes 2.7 times as long (719 against
        # 263 ms; batch 16, 64 pixels, 2 cores, TensorFlow 2.21).
        x = tf.pad(x, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
        return tf.nn.conv2d(x, kernel, self.stride, "VALID")


class BatchNormalization(tf.Module):
    """Batch normalization over N, H and W (Ioffe and Szegedy 2015, arXiv 1502.03167).

    In training, x is normalized with the mean and the biased variance of its batch, and
    each call moves the moving statistics once:

        moving = moving_average_decay * moving + (1 - moving_average_decay) * batch

    where the batch's variance is the unbiased one, as in torchvision. At inference, x
    is normalized with the moving statistics.

    Attributes:
        gamma: float32 [C], scale after the normalization.
        beta: float32 [C], shift after the normalization, 0 at the start.
        moving_mean: float32 [C], not trainable, 0 at the start.
        moving_variance: float32 [C], not trainable, 1 at the start.
    """

    def __init__(
        self,
        channels: int,
        *,
        epsilon: float,
        moving_average_decay: float,
        initial_gamma: float = 1.0,
        name: str,
    ):
        """Creates the variables.

        Args:
            channels: C.
            epsilon: Added to the variance before its square root.
            moving_average_decay: Share of the old moving statistics that a step keeps,
                above 0 and below 1. PyTorch's "momentum" is 1 minus this.
            initial_gamma: Start value of gamma.
            name: A Python identifier, the prefix of the variables' names.
        """
        super().__init__(name=name)
        assert 0 < moving_average_decay < 1, moving_average_decay
        self.epsilon = epsilon
        self.moving_average_decay = moving_average_decay
        with self.name_scope:
            self.gamma = tf.Variable(tf.fill([channels], initial_gamma), name="gamma")
            self.beta = tf.Variable(tf.zeros([channels]), name="beta")
            self.moving_mean = _create_statistic(tf.zeros([channels]), "moving_mean")
            self.moving_variance = _create_statistic(
                tf.ones([channels]), "moving_variance"
            )

    def __call__(
        self,
        x: tf.Tensor,
        is_training: bool,
        limits: RenormLimits = NO_RENORMALIZATION,
    ) -> tf.Tensor:
        """Normalizes a batch; in training also updates the moving statistics.

        Args:
            x: float32, float16 or bfloat16 [N, H, W, C].
            is_training: Whether the batch's own statistics are used.
            limits: r_max and d_max of batch renormalization, in training. Batch
                normalization takes them only to be called alike, and ignores them.

        Returns:
            [N, H, W, C] of x's type.
        """
        if is_training:
            return self._normalize_in_training(x, limits)
        # The raw op, because tf.compat.v1.nn.fused_batch_norm silently raises an
        # epsilon of 1e-5 to 1.001e-5.
        return tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=self.gamma,
            offset=self.beta,
            mean=self.moving_mean,
            variance=self.moving_variance,
            epsilon=self.epsilon,
            is_training=False,
        ).y

    def _normalize_in_training(self, x: tf.Tensor, limits: RenormLimits) -> tf.Tensor:
        # Given an exponential_avg_factor, the op returns the new moving statistics in
        # place of the batch's: no ops of our own for them in each of the 53 layers.
        normalized = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=self.gamma,
            offset=self.beta,
            mean=self.moving_mean,
            variance=self.moving_variance,
            epsilon=self.epsilon,
            exponential_avg_factor=1 - self.moving_average_decay,
            is_training=True,
        )
        self.moving_mean.assign(normalized.batch_mean)
        self.moving_variance.assign(normalized.batch_variance)
        return normalized.y


class BatchRenormalization(BatchNormalization):
    """Batch renormalization (Ioffe 2017, arXiv 1702.03275, algorithm 1).

    In training, the batch's statistics mu_B and sigma_B are corrected towards the
    moving ones, mu and sigma, as they were before this step:

        r = clip(sigma_B / sigma, 1 / r_max, r_max)         no gradient
        d = clip((mu_B - mu) / sigma, -d_max, d_max)        no gradient
        y = gamma * ((x - mu_B) / sigma_B * r + d) + beta

    Where nothing is clipped, that is what inference computes. With r_max = 1 and
    d_max = 0 it is batch normalization. In the paper sigma itself is averaged; here, as
    in batch normalization, its square, and sigma = sqrt(moving_variance + epsilon).
    """

    def _normalize_in_training(self, x: tf.Tensor, limits: RenormLimits) -> tf.Tensor:
        normalized = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=tf.ones_like(self.gamma),
            offset=tf.zeros_like(self.beta),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        batch_mean = normalized.batch_mean
        # The op normalizes with the biased variance but returns the unbiased one.
        count = tf.cast(tf.size(x) / tf.size(self.gamma), tf.float32)  # N H W
        biased_variance = normalized.batch_variance * (count - 1) / count
        r, d = self._corrections(batch_mean, biased_variance, limits)

        decay = self.moving_average_decay
        self.moving_mean.assign(decay * self.moving_mean + (1 - decay) * batch_mean)
        self.moving_variance.assign(
            decay * self.moving_variance + (1 - decay) * normalized.batch_variance
        )
        # gamma * (x_hat * r + d) + beta, with one product and one sum per pixel. In
        # float32, as gamma's gradient is a sum over all pixels, too long for a half.
        y = tf.cast(normalized.y, tf.float32) * (self.gamma * r)
        return tf.cast(y + (self.gamma * d + self.beta), x.dtype)

    def _corrections(
        self, batch_mean: tf.Tensor, biased_variance: tf.Tensor, limits: RenormLimits
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The paper's r and d, float32 [C], for the statistics of a batch."""
        r_max, d_max = limits
        batch_sigma = tf.sqrt(biased_variance + self.epsilon)
        sigma = tf.sqrt(self.moving_variance + self.epsilon)
        r = tf.clip_by_value(batch_sigma / sigma, 1 / r_max, r_max)
        d = tf.clip_by_value((batch_mean - self.moving_mean) / sigma, -d_max, d_max)
        # The fused op's gradient ignores its returned statistics anyway; that the
        # paper's condition holds shall not hang on it.
        return tf.stop_gradient(r), tf.stop_gradient(d)


def max_pool(x: tf.Tensor, *, by_slices: bool = False) -> tf.Tensor:
    """The largest value of each 3 x 3 window, at stride 2, padded by 1 on each side.

    Args:
        x: float32, float16 or bfloat16 [N, H, W, C], not negative.
        by_slices: Whether to compute it as a maximum of slices: where several values of
            a window are the largest, another one may get the gradient. XLA has no
            deterministic gradient of the pooling op.

    Returns:
        [N, ceil(H / 2), ceil(W / 2), C] of x's type.
    """
    # Zeros never win against values that are not negative, so padding with them is
    # right. Padding inside the op would do as well, but XLA refuses it.
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
        self,
        in_features: int,
        out_features: int,
        rng: np.random.Generator,
        name: str,
    ):
        """Draws the kernel as Goyal et al. 2017 (arXiv 1706.02677), section 5.1.

        Args:
            in_features: Features of the input.
            out_features: Features of the output.
            rng: Draws the kernel: normal, standard deviation 0.01.
            name: A Python identifier, the prefix of the variables' names.
        """
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


def _create_statistic(initial_value: tf.Tensor, name: str) -> tf.Variable:
    # Of several replicas, each moves its own copy by its part of the batch; the step
    # then gives all of them the mean.
    return tf.Variable(initial_value, trainable=False, name=name)
