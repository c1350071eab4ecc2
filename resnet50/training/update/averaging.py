"""A running average of the weights, which often classifies better than the last ones.

Polyak and Juditsky 1992; as an exponential moving average in Szegedy et al. 2015 (arXiv
1512.00567, section 8).
"""

from collections.abc import Sequence

import tensorflow as tf


class WeightAverage(tf.Module):
    """The exponential moving average of a network, itself a network.

        average = average - share * (average - variable)

    with share = 1 - decay, or 9 / (10 + num_updates) as long as that is larger, so that
    the start is soon forgotten. This is the ramp of tf.train.ExponentialMovingAverage,
    whose decay is min(decay, (1 + num_updates) / (10 + num_updates)).

    Moving means and variances are averaged like the weights, as in torchvision and
    timm: those of the last weights would not fit the averaged weights.

    Attributes:
        model: The averaged network; part of a checkpoint.
        num_updates: Number of updates so far, int64.
    """

    def __init__(
        self, model: tf.Module, variables: Sequence[tf.Variable], decay: float
    ):
        """Starts as a copy of the variables, which its checkpoint does not contain.

        model is a network of the same kind; overwritten, it becomes the average. decay
        is the share of the average that an update keeps, above 0, below 1.
        """
        super().__init__(name="weight_average")
        assert 0 < decay < 1, decay
        self.model = model
        self.num_updates = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._decay = decay
        # Behind a function, as in optimizer.SGDMomentum: a checkpoint calls a variable
        # by its shortest path.
        self._get_variables = lambda: variables
        self.start()

    def _pairs(self):
        return zip(self.model.variables, self._get_variables(), strict=True)

    def start(self) -> None:
        """Copies the current variables into the average."""
        for average, variable in self._pairs():
            average.assign(variable)

    def update(self, is_finite: tf.Tensor | None = None) -> None:
        """Moves the average towards the variables, unless is_finite is false.

        Runs inside the training step; is_finite is a bool scalar, or None for true.
        """
        ramp = 9 / (10 + tf.cast(self.num_updates, tf.float32))
        share, one = tf.maximum(1 - self._decay, ramp), tf.constant(1, tf.int64)
        if is_finite is not None:
            share = tf.where(is_finite, share, 0.0)
            one = tf.cast(is_finite, tf.int64)
        for average, variable in self._pairs():
            average.assign_sub(share * (average - variable))
        self.num_updates.assign_add(one)
