"""A training of the same kind as the real one, with a network of one layer."""

import dataclasses

import tensorflow as tf

from resnet50.preprocessing.augmentation import ChannelStatistics
from resnet50.training.step import Training
from tests.settings import SETTINGS


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

    def __init__(self, seed: int = 0, **settings):
        """Creates it; settings are keys of [train] other than as shipped."""
        tf.Module.__init__(self, name="training")
        self.model = TinyNetwork(seed)
        self._statistics = ChannelStatistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        self._prepare(dataclasses.replace(SETTINGS.train, **settings))
