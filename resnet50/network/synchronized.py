"""Normalizations in training with the statistics of the whole batch, over all replicas.

At inference they are the layers that they derive from, with the same variables. A
single device does not need them.
"""

from typing import NamedTuple

import tensorflow as tf

from resnet50.network.normalization import (
    BatchNormalization,
    BatchRenormalization,
    RenormLimits,
)


class Standardized(NamedTuple):
    """A batch with mean 0 and variance 1, and its statistics before, float32 [C]."""

    x_hat: tf.Tensor  # [N, H, W, C]
    mean: tf.Tensor
    biased_variance: tf.Tensor
    unbiased_variance: tf.Tensor


class _Synchronized(BatchNormalization):
    """Measures and standardizes a batch that is spread over replicas."""

    def _standardize(self, x: tf.Tensor) -> Standardized:
        """Normalizes with the whole batch's statistics; gradients flow through them.

        The mean and the variance follow from sums over the replicas of each part's
        mean m and variance v:

            mean = s + sum(m - s) / count
            variance = sum(v + (m - s)^2) / count - (mean - s)^2

        where s, the moving mean, is near all m, so little cancels.

        Args:
            x: float32, float16 or bfloat16 [n, H, W, C], this replica's part.
        """
        context = tf.distribute.get_replica_context()
        num_replicas = context.num_replicas_in_sync
        x = tf.cast(x, tf.float32)
        part_mean, part_variance = tf.nn.moments(x, [0, 1, 2])
        distance = part_mean - self.moving_mean
        sums = context.all_reduce(
            tf.distribute.ReduceOp.SUM,
            tf.stack([distance, part_variance + tf.square(distance)]),
        )
        distance, square = tf.unstack(sums / num_replicas)
        mean, variance = self.moving_mean + distance, square - tf.square(distance)
        # Rounding must not make a constant channel's variance negative.
        variance = tf.maximum(variance, 0.0)
        normalized = (x - mean) * tf.math.rsqrt(variance + self.epsilon)
        count = tf.size(x) / tf.size(self.gamma) * num_replicas
        count = tf.cast(count, tf.float32)  # N H W
        return Standardized(normalized, mean, variance, variance * count / (count - 1))


class SynchronizedBatchNormalization(_Synchronized):
    """Batch normalization with the mean and the variance of all replicas' images."""

    def _normalize_in_training(self, x: tf.Tensor, limits: RenormLimits) -> tf.Tensor:
        normalized, mean, _, unbiased_variance = self._standardize(x)
        self._move_statistics(mean, unbiased_variance)
        return tf.cast(normalized * self.gamma + self.beta, x.dtype)


class SynchronizedBatchRenormalization(_Synchronized, BatchRenormalization):
    """Batch renormalization with the mean and the variance of all replicas' images."""

    def _normalize_in_training(self, x: tf.Tensor, limits: RenormLimits) -> tf.Tensor:
        normalized, mean, biased_variance, unbiased_variance = self._standardize(x)
        r, d = self._corrections(mean, biased_variance, limits)
        self._move_statistics(mean, unbiased_variance)
        y = normalized * (self.gamma * r) + (self.gamma * d + self.beta)
        return tf.cast(y, x.dtype)
