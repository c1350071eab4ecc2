"""Trainings like the real one, with networks of one layer or of two blocks."""

import dataclasses

import numpy as np
import tensorflow as tf

from resnet50.network.model import Stage
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.training.devices.protocol import ONE_DEVICE
from resnet50.training.update.step import Training, create_training
from tests.settings import SETTINGS
from tests.training.halves import skip_where_hidden

STATISTICS = ChannelStatistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class TinyNetwork(tf.Module):
    """Logits from the mean colour: float32 [N, 3]."""

    def __init__(self, seed: int = 0):
        super().__init__(name="tiny")
        self.kernel = tf.Variable(tf.random.stateless_normal((3, 3), (seed, 0)))
        self.moving_mean = tf.Variable(tf.zeros(3), trainable=False)

    @property
    def kernels(self):
        return (self.kernel,)

    @property
    def moving_statistics(self):
        return (self.moving_mean,)

    def __call__(self, images, is_training, limits=None):
        colours = tf.reduce_mean(tf.cast(images, tf.float32), [1, 2])
        if is_training:
            self.moving_mean.assign(
                0.9 * self.moving_mean + 0.1 * tf.reduce_mean(colours, 0)
            )
        return tf.matmul(colours, self.kernel)


class TinyTraining(Training):
    """A Training of a TinyNetwork."""

    def __init__(
        self,
        seed: int = 0,
        model: tf.Module | None = None,
        class_weights: np.ndarray | None = None,
        **settings,
    ):
        """Creates it.

        Args:
            seed: Seed of the network.
            model: Another network instead.
            class_weights: See Training.
            settings: Keys of [train] that differ from config.txt as shipped.
        """
        train = dataclasses.replace(SETTINGS.train, **settings)
        averaged = TinyNetwork(seed) if train.weight_average_decay else None
        model = model or TinyNetwork(seed)
        super().__init__(
            model, train, STATISTICS, averaged=averaged, class_weights=class_weights
        )


SHALLOW_STAGES = (Stage(num_blocks=1, channels=4, stride=1), Stage(1, 8, 2))


def create_shallow_training(
    normalization="batch_norm",
    replicas=ONE_DEVICE,
    is_synchronized=False,
    trainable="all",
    class_weights=None,
    **settings,
) -> Training:
    """Creates a Training of a ResNet of two blocks and three classes.

    Skips the test if ONEDNN_MAX_CPU_ISA makes its precision impossible.

    Args:
        normalization: The key of [model].
        replicas: See Training.
        is_synchronized: synchronized_batch_norm of [model].
        trainable: The key of [model].
        class_weights: See Training.
        settings: Keys of [train] that differ from config.txt as shipped.
    """
    skip_where_hidden(settings.get("precision", "float32"))
    model = dataclasses.replace(
        SETTINGS.model,
        normalization=normalization,
        synchronized_batch_norm=is_synchronized,
        trainable=trainable,
    )
    train = dataclasses.replace(SETTINGS.train, **settings)
    return create_training(
        3, model, train, STATISTICS, replicas, SHALLOW_STAGES, class_weights
    )
