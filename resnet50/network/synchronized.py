"""Normalizations in training with the statistics of the whole batch, over all replicas.

At inference they are the layers that they derive from, with the same variables. A
single device does not need them.
"""

import tensorflow as tf

from resnet50.network.normalization import (
    BatchNormalization,
    BatchRenormalization,
    RenormLimits,
)


class _Synchronized(BatchNormalization):
    """Measures and standardizes a batch that is spread over replicas."""

    def _standardize(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalizes with the whole batch's statistics; gradients flow through them.

        The mean and the variance follow from sums over the replicas of each part's
        mean m and variance v:

            mean = s + sum(m - s) / count
            variance = sum(v + (m - s)^2) / count - (mean - s)^2

        where s, the moving mean, is near all m, so little cancels.

        Args:
            x: float32, float16 or bfloat16 [n, H, W, C], this replica's part.

        Returns:
            (x - mean) / sqrt(variance + epsilon), float32 [n, H, W, C]; mean and biased
            variance, float32 [C].
        """
        context = tf.distribute.get_replica_context()
        x = tf.cast(x, tf.float32)
        part_mean, part_variance = tf.nn.moments(x, [0, 1, 2])
        distance = part_mean - self.moving_mean
        sums = context.all_reduce(
            tf.distribute.ReduceOp.SUM,
            tf.stack([distance, part_variance + tf.square(distance)]),
        )
        distance, square = tf.unstack(sums / context.num_replicas_in_sync)
        mean, variance = self.moving_mean + distance, square - tf.square(distance)
        # Rounding must not make a constant channel's variance negative.
        variance = tf.maximum(variance, 0.0)
        return (x - mean) * tf.math.rsqrt(variance + self.epsilon), mean, variance

    def _unbiased(self, variance: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """The whole batch's unbiased variance; x is this replica's part."""
        num_replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        num_pixels = tf.size(x) / tf.size(self.gamma) * num_replicas
        count = tf.cast(num_pixels, tf.float32)  # N H W
        return variance * count / (count - 1)


class SynchronizedBatchNormalization(_Synchronized):
    """Batch normalization with the mean and the variance of all replicas' images."""

    def _normalize_in_training(self, x: tf.Tensor, limits: RenormLimits) -> tf.Tensor:
        normalized, mean, variance = self._standardize(x)
        self._move_statistics(mean, self._unbiased(variance, x))
        return tf.cast(normalized * self.gamma + self.beta, x.dtype)


class SynchronizedBatchRenormalization(_Synchronized, BatchRenormalization):
    """Batch renormalization with the mean and the variance of all replicas' images."""

    def _normalize_in_training(self, x: tf.Tensor, limits: RenormLimits) -> tf.Tensor:
        normalized, mean, variance = self._standardize(x)
        r, d = self._corrections(mean, variance, limits)
        self._move_statistics(mean, self._unbiased(variance, x))
        return self._renormalize(normalized, r, d, x.dtype)
