"""Normalizations with the statistics of the whole batch, not of a replica's part of it.

In training only; at inference they are the layers that they derive from, with the same
variables. On one device they are not needed: there a part is the whole batch.
"""

import tensorflow as tf

from resnet50.network.layers import (
    BatchNormalization,
    BatchRenormalization,
    RenormLimits,
)


class _Synchronized(BatchNormalization):
    """Measures and standardizes a batch that is spread over replicas."""

    def _standardize(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalizes with the whole batch's statistics; the gradient knows of them.

        The mean and the variance follow from sums over the replicas of each part's
        mean m and variance v:

            mean = s + sum(m - s) / count
            variance = sum(v + (m - s)^2) / count - (mean - s)^2

        where s, the moving mean, is near them all, so that little cancels.

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

    def _move_statistics(self, x, mean, variance) -> None:
        context = tf.distribute.get_replica_context()
        count = tf.cast(
            tf.size(x) / tf.size(self.gamma) * context.num_replicas_in_sync, tf.float32
        )  # N H W
        decay, unbiased = self.moving_average_decay, variance * count / (count - 1)
        self.moving_mean.assign(decay * self.moving_mean + (1 - decay) * mean)
        self.moving_variance.assign(
            decay * self.moving_variance + (1 - decay) * unbiased
        )


class SynchronizedBatchNormalization(_Synchronized):
    """Batch normalization with the mean and the variance of all replicas' images."""

    def _normalize_in_training(self, x: tf.Tensor, limits: RenormLimits) -> tf.Tensor:
        normalized, mean, variance = self._standardize(x)
        self._move_statistics(x, mean, variance)
        return tf.cast(normalized * self.gamma + self.beta, x.dtype)


class SynchronizedBatchRenormalization(_Synchronized, BatchRenormalization):
    """Batch renormalization with the mean and the variance of all replicas' images."""

    def _normalize_in_training(self, x: tf.Tensor, limits: RenormLimits) -> tf.Tensor:
        normalized, mean, variance = self._standardize(x)
        r, d = self._corrections(mean, variance, limits)
        self._move_statistics(x, mean, variance)
        y = normalized * (self.gamma * r)
        return tf.cast(y + (self.gamma * d + self.beta), x.dtype)
