"""Dynamic loss scaling, for float16 (Micikevicius et al. 2017, arXiv 1710.03740).

Many gradients of a float32 loss are too small for a float16. So the loss is multiplied
by a scale before the backward pass, and the gradients are divided by it afterwards, in
float32. Where the scale is too high, gradients become infinite or NaN; then the update
is skipped and the scale halved.

Nothing here is a branch: a branch on the device's result would make the host wait for
it in every step.
"""

from collections.abc import Sequence

import tensorflow as tf

from resnet50.training.vectors import join, split_like

# As in tf.keras.mixed_precision.LossScaleOptimizer.
INITIAL_SCALE = 2.0**15
GROWTH_UPDATES = 2000
# As in NVIDIA Apex. Without a maximum, gradients that are all zero would let the scale
# grow to infinity.
MAX_SCALE = 2.0**24


class LossScale(tf.Module):
    """The scale and its history, both part of a checkpoint.

    Attributes:
        scale: float32 scalar, a power of two from 1 to MAX_SCALE.
        num_finite: int64 scalar, updates since the scale's last change.
    """

    def __init__(self):
        super().__init__(name="loss_scale")
        self.scale = tf.Variable(INITIAL_SCALE, trainable=False, name="scale")
        self.num_finite = tf.Variable(
            0, dtype=tf.int64, trainable=False, name="num_finite"
        )

    def unscale(
        self, gradients: Sequence[tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Divides the gradients of loss * scale, float32, by the scale.

        Returns:
            The gradients of the loss, or zeros if any value of any of them is not
            finite; and whether all are finite, a bool scalar.
        """
        vector = join(gradients)
        is_finite = tf.reduce_all(tf.math.is_finite(vector))
        # Exact, as the scale is a power of two.
        vector = tf.where(is_finite, vector * (1 / self.scale), 0.0)
        return split_like(vector, gradients), is_finite

    def reported_loss(self, loss: tf.Tensor, is_finite: tf.Tensor) -> tf.Tensor:
        """Returns the loss to report to the training loop, float32 scalar.

        This is the loss, if the gradients are finite. Otherwise it is 0, because a
        lower scale may help, but NaN once the scale is 1 and cannot get lower.
        """
        lost = tf.where(self.scale > 1, 0.0, float("nan"))
        return tf.where(is_finite, loss, lost)

    def update(self, is_finite: tf.Tensor) -> None:
        """Halves the scale, or doubles it after GROWTH_UPDATES finite updates."""
        num_finite = self.num_finite + 1
        is_growing = is_finite & (num_finite >= GROWTH_UPDATES)
        grown = tf.where(is_growing, tf.minimum(2 * self.scale, MAX_SCALE), self.scale)
        halved = tf.maximum(self.scale / 2, 1.0)
        self.scale.assign(tf.where(is_finite, grown, halved))
        is_counted = is_finite & ~is_growing
        self.num_finite.assign(tf.cast(is_counted, tf.int64) * num_finite)
