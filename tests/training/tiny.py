"""A training of the same kind as the real one, with a network of one layer."""

import tensorflow as tf

from resnet50.preprocessing.augmentation import ChannelStatistics
from resnet50.training.averaging import WeightAverage
from resnet50.training.optimizer import SGDMomentum
from resnet50.training.step import Totals, Training


class TinyNetwork(tf.Module):
    """Logits from the mean colour: float32 [N, 3]."""

    def __init__(self, seed: int):
        super().__init__(name="tiny")
        self.kernel = tf.Variable(tf.random.stateless_normal((3, 3), (seed, 0)))
        self.moving_mean = tf.Variable(tf.zeros(3), trainable=False)

    @property
    def kernels(self):
        return (self.kernel,)

    def __call__(self, images, is_training, limits=None):
        colours = tf.reduce_mean(tf.cast(images, tf.float32), [1, 2])
        if is_training:
            self.moving_mean.assign(
                0.9 * self.moving_mean + 0.1 * tf.reduce_mean(colours, 0)
            )
        return tf.matmul(colours, self.kernel)


class TinyTraining(Training):
    """Has the variables and the step of a Training, but another model."""

    def __init__(self, seed: int = 0, average_decay: float = 0.0):
        tf.Module.__init__(self, name="training")
        self.model = TinyNetwork(seed)
        self.optimizer = SGDMomentum(self.model.trainable_variables, 0.9)
        self.totals = Totals()
        self.average = None
        if average_decay:
            self.average = WeightAverage(
                TinyNetwork(seed), self.model.variables, average_decay
            )
        self._l2_penalty = 1e-4
        self._l2_penalty_on = "kernels"
        self._label_smoothing = 0.0
        self._statistics = ChannelStatistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
