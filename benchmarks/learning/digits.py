"""Compares held-out accuracy on scikit-learn's digits with Keras' in one run.

Both have the same network (variant v1), initial weights, order of batches and training:
SGD with momentum, l2 penalty, warm-up, cosine. Differences remain: Keras' convolutions
have biases, which the batch normalization after them removes; its SGD has the learning
rate inside the velocity; its moving variances average the biased variances. Keras also
rounds differently, so after some steps the two differ like two seeds. Accuracies can
be compared only over several seeds.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.learning.two_samples import compare
from resnet50.config.settings import Config
from resnet50.dataset.images import EPOCH_ORDER
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.training.update.schedules import PerStepNumbers
from resnet50.training.update.step import Training, create_training
from resnet50.training.update.totals import count_correct
from tests.network.keras_weights import (
    KERAS_EPSILON,
    copy_weights_to_keras,
    pair_with_keras,
)
from tests.settings import SETTINGS

# 8 x 8 pixels, enlarged for the network; 1,437 images to train on, 360 held out.
CLASSES, SIZE, HELD_OUT = 10, 32, 360

# Differences from config.txt as shipped.
RECIPE = {
    "batch_size": 64,
    "epochs": 12,
    "learning_rate": 0.05,
    "schedule": "cosine",
    "warmup_epochs": 1,
}


class Images(NamedTuple):
    """Normalized digits with their labels."""

    images: np.ndarray  # float32 [N, SIZE, SIZE, 3]
    labels: np.ndarray  # int32 [N]


def read_digits() -> tuple[Images, Images]:
    """The training images and the held-out ones, the same split each time."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    levels = (digits.images * (255 / 16)).astype(np.uint8)
    grown = [Image.fromarray(x).resize((SIZE, SIZE), Image.BILINEAR) for x in levels]
    pixels = np.stack([np.asarray(image.convert("RGB"), np.float32) for image in grown])
    train, held_out = order[HELD_OUT:], order[:HELD_OUT]
    pixels = (pixels - pixels[train].mean()) / pixels[train].std()
    labels = digits.target.astype(np.int32)
    return tuple(Images(pixels[part], labels[part]) for part in (train, held_out))


def configure(seed: int) -> Config:
    """config.txt as shipped, with RECIPE and Keras' variant and epsilon."""
    return dataclasses.replace(
        SETTINGS,
        model=dataclasses.replace(SETTINGS.model, variant="v1", epsilon=KERAS_EPSILON),
        train=dataclasses.replace(SETTINGS.train, **RECIPE, seed=seed),
    )


def batches(data: Images, config: Config) -> Iterator[Images]:
    """All epochs' batches; the incomplete last batch of an epoch is dropped."""
    size = config.train.batch_size
    for epoch in range(config.train.epochs):
        rng = np.random.default_rng([config.train.seed, EPOCH_ORDER, epoch])
        order = rng.permutation(len(data.labels))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            yield Images(data.images[chosen], data.labels[chosen])


def create_keras_twin(training: Training, config: Config) -> keras.Model:
    """Keras' ResNet50 with this project's weights, Keras' optimizer, and RECIPE."""
    model = keras.applications.ResNet50(
        weights=None,
        classes=CLASSES,
        classifier_activation=None,
        input_shape=(SIZE, SIZE, 3),
    )
    pairs = pair_with_keras(training.model, model)
    copy_weights_to_keras(pairs)
    # Keras' L2 has no factor of 1/2.
    penalty = keras.regularizers.L2(config.train.l2_penalty / 2)
    for _, layer in pairs:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = config.model.moving_average_decay
        else:
            layer.kernel.regularizer = penalty
    model.compile(
        keras.optimizers.SGD(momentum=config.train.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return model


def top1(logits: tf.Tensor, labels: np.ndarray) -> float:
    """Share of correct answers."""
    return int(count_correct(logits, labels, 1)) / len(labels)


def train_both(seed: int, train: Images, held_out: Images) -> tuple[float, float]:
    """Trains this project's network and Keras', alternating batch by batch.

    Returns:
        Held-out top-1 of ours and of Keras's.
    """
    config = configure(seed)
    # These statistics are for uint8 images only.
    unused = ChannelStatistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    ours = create_training(CLASSES, config.model, config.train, unused)
    twin = create_keras_twin(ours, config)
    batches_per_epoch = len(train.labels) // config.train.batch_size
    numbers = PerStepNumbers(config.train, config.batch_renorm, batches_per_epoch)
    for step, batch in enumerate(batches(train, config)):
        ours.step(*batch, None, numbers.at(step))
        twin.optimizer.learning_rate = numbers.learning_rate(step)
        twin.train_on_batch(*batch)
    logits = tf.function(ours.model)(held_out.images, is_training=False)
    keras_logits = twin.predict_on_batch(held_out.images)
    return top1(logits, held_out.labels), top1(keras_logits, held_out.labels)


def run(num_seeds: int) -> None:
    """Prints both accuracies for each seed, and their difference."""
    train, held_out = read_digits()
    print(f"images:   {len(train.labels)} to train on, {len(held_out.labels)} held out")
    print(f"recipe:   {RECIPE}, else config.txt as shipped")
    compare("Keras", _all_seeds(num_seeds, train, held_out))


def _all_seeds(num_seeds: int, train: Images, held_out: Images):
    for seed in range(num_seeds):
        yield train_both(seed, train, held_out)
        keras.backend.clear_session()
