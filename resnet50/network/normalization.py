"""Batch normalization and batch renormalization on raw TensorFlow ops.

The input may be float32, float16 or bfloat16; the output has the same type. All
variables are float32, and every statistic is computed in float32.
"""

import tensorflow as tf

# A pair (r_max, d_max) of scalars: floats or float32 tensors.
RenormLimits = tuple[float | tf.Tensor, float | tf.Tensor]

# With these limits batch renormalization is batch normalization.
NO_RENORMALIZATION = (1.0, 0.0)


class BatchNormalization(tf.Module):
    """Batch normalization over N, H and W (Ioffe and Szegedy 2015, arXiv 1502.03167).

    In training, x is normalized with the mean and the biased variance of its batch, and
    each call moves the moving statistics once:

        moving = moving_average_decay * moving + (1 - moving_average_decay) * batch

    where the batch's variance is the unbiased one, as in torchvision. At inference, and
    in a frozen layer, x is normalized with the moving statistics.

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
        is_trained: bool = True,
        name: str,
    ):
        """Creates the variables.

        epsilon is added to the variance before its square root. moving_average_decay,
        0..1 (exclusive), is 1 minus PyTorch's "momentum". If is_trained is false, the
        layer is frozen: training changes neither its weights nor its statistics.
        """
        super().__init__(name=name)
        assert 0 < moving_average_decay < 1, moving_average_decay
        self.epsilon = epsilon
        self.moving_average_decay = moving_average_decay
        self.is_trained = is_trained
        with self.name_scope:
            self.gamma = tf.Variable(
                tf.fill([channels], initial_gamma), trainable=is_trained, name="gamma"
            )
            self.beta = tf.Variable(
                tf.zeros([channels]), trainable=is_trained, name="beta"
            )
            self.moving_mean = tf.Variable(
                tf.zeros([channels]), trainable=False, name="moving_mean"
            )
            self.moving_variance = tf.Variable(
                tf.ones([channels]), trainable=False, name="moving_variance"
            )

    def __call__(
        self, x: tf.Tensor, is_training: bool, limits: RenormLimits = NO_RENORMALIZATION
    ) -> tf.Tensor:
        """Normalizes a batch, [N, H, W, C]; in training updates the moving statistics.

        x is float32, float16 or bfloat16; so is the result. Only batch renormalization
        in training uses the limits.
        """
        if is_training and self.is_trained:
            return self._normalize_in_training(x, limits)
        return self._fused(x, is_training=False).y

    def _fused(self, x: tf.Tensor, **mode):
        """Applies TensorFlow's op, with this layer's variables."""
        # The raw op, because tf.compat.v1.nn.fused_batch_norm silently raises an
        # epsilon of 1e-5 to 1.001e-5.
        return tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=self.gamma,
            offset=self.beta,
            mean=self.moving_mean,
            variance=self.moving_variance,
            epsilon=self.epsilon,
            **mode,
        )

    def _normalize_in_training(self, x: tf.Tensor, limits: RenormLimits) -> tf.Tensor:
        # With an exponential_avg_factor the op returns the new moving statistics
        # instead of the batch's, which saves separate ops in each of the 53 layers.
        normalized = self._fused(
            x, exponential_avg_factor=1 - self.moving_average_decay, is_training=True
        )
        self.moving_mean.assign(normalized.batch_mean)
        self.moving_variance.assign(normalized.batch_variance)
        return normalized.y

    def _move_statistics(self, mean: tf.Tensor, unbiased_variance: tf.Tensor) -> None:
        """Moves the moving statistics towards those of a batch, float32 [C]."""
        decay = self.moving_average_decay
        self.moving_mean.assign(decay * self.moving_mean + (1 - decay) * mean)
        self.moving_variance.assign(
            decay * self.moving_variance + (1 - decay) * unbiased_variance
        )


class BatchRenormalization(BatchNormalization):
    """Batch renormalization (Ioffe 2017, arXiv 1702.03275, algorithm 1).

    In training, the batch's statistics mu_B and sigma_B are corrected towards the
    moving ones, mu and sigma, as they were before this step:

        r = clip(sigma_B / sigma, 1 / r_max, r_max)         no gradient
        d = clip((mu_B - mu) / sigma, -d_max, d_max)        no gradient
        y = gamma * ((x - mu_B) / sigma_B * r + d) + beta

    Where nothing is clipped, this equals inference. With r_max = 1 and d_max = 0 it is
    batch normalization. The paper averages sigma itself. This layer averages its
    square, like batch normalization, and sigma = sqrt(moving_variance + epsilon).
    """

    def _normalize_in_training(self, x: tf.Tensor, limits: RenormLimits) -> tf.Tensor:
        # The op normalizes twice: to measure the batch, as r and d depend on it, and
        # then with scale gamma * r and offset gamma * d + beta. So no float32 copy of
        # a float16 x has to be kept for the gradients.
        ones, zeros = tf.ones_like(self.gamma), tf.zeros_like(self.beta)
        measured = self._fused_in_training(tf.stop_gradient(x), ones, zeros)
        # The op normalizes with the biased variance but returns the unbiased one.
        unbiased_variance = measured.batch_variance
        count = tf.cast(tf.size(x) / tf.size(self.gamma), tf.float32)  # N H W
        biased_variance = unbiased_variance * (count - 1) / count
        r, d = self._corrections(measured.batch_mean, biased_variance, limits)
        self._move_statistics(measured.batch_mean, unbiased_variance)
        return self._fused_in_training(x, self.gamma * r, self.gamma * d + self.beta).y

    def _fused_in_training(self, x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor):
        return tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=scale,
            offset=offset,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )

    def _corrections(
        self, batch_mean: tf.Tensor, biased_variance: tf.Tensor, limits: RenormLimits
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The paper's r and d, float32 [C], without gradients."""
        r_max, d_max = limits
        batch_sigma = tf.sqrt(biased_variance + self.epsilon)
        sigma = tf.sqrt(self.moving_variance + self.epsilon)
        r = tf.clip_by_value(batch_sigma / sigma, 1 / r_max, r_max)
        d = tf.clip_by_value((batch_mean - self.moving_mean) / sigma, -d_max, d_max)
        return tf.stop_gradient(r), tf.stop_gradient(d)
