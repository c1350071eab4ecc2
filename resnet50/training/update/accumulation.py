"""Gradient accumulation: one update from the mean gradient of several batches.

``schedules.is_update_at`` decides which batches make a group.
"""

from collections.abc import Sequence

import tensorflow as tf


class Accumulation(tf.Module):
    """The gradients of a group's batches so far; part of a checkpoint.

    Attributes:
        sums: float32, one for each variable, the sum of the group's gradients.
        num_batches: int64 scalar, the number of batches in the sums.
        num_lost: int64 scalar, the number of batches that were not finite.
    """

    def __init__(self, variables: Sequence[tf.Variable]):
        """Creates an empty group for the gradients of some variables."""
        super().__init__(name="accumulation")
        with self.name_scope:
            self.sums = [
                tf.Variable(tf.zeros_like(variable), trainable=False, name="sum")
                for variable in variables
            ]
            self.num_batches, self.num_lost = (
                tf.Variable(0, dtype=tf.int64, trainable=False, name=name)
                for name in ("num_batches", "num_lost")
            )

    def add(self, gradients: Sequence[tf.Tensor], is_finite: tf.Tensor | None) -> None:
        """Adds a batch's gradients, zeros if they were not finite, to the group.

        is_finite, a bool scalar, says whether they were; None if that is not checked.
        """
        for total, gradient in zip(self.sums, gradients, strict=True):
            total.assign_add(gradient)
        self.num_batches.assign_add(1)
        if is_finite is not None:
            self.num_lost.assign_add(tf.cast(~is_finite, tf.int64))

    def take_mean(
        self, is_finite: tf.Tensor | None
    ) -> tuple[list[tf.Tensor], tf.Tensor | None]:
        """Ends the group; is_finite is None if that is not checked.

        Returns:
            The mean gradients, or zeros if a batch of the group was not finite; and
            whether all were, a bool scalar or None.
        """
        count = tf.cast(self.num_batches, tf.float32)
        means = [total / count for total in self.sums]
        if is_finite is not None:
            is_finite = self.num_lost == 0
            means = [tf.where(is_finite, mean, 0.0) for mean in means]
        for variable in (*self.sums, self.num_batches, self.num_lost):
            variable.assign(tf.zeros_like(variable))
        return means, is_finite
