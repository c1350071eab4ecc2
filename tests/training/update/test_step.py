"""Proves that loss and hits are as by hand, and a step is one pass and one trace."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from resnet50.network.inputs import normalize_on_device
from resnet50.pixels import augmentation
from resnet50.training.update.optimizer import SGDMomentum
from resnet50.training.update.step import (
    StepNumbers,
    Training,
    cross_entropy,
)
from resnet50.training.update.totals import Totals, count_correct
from tests.settings import SETTINGS
from tests.training.tiny import TinyNetwork, TinyTraining
from tests.training.tolerances import sum_bound

STATISTICS = augmentation.ChannelStatistics((0.48, 0.45, 0.40), (0.27, 0.26, 0.28))


def test_cross_entropy_by_hand():
    logits = tf.constant([[0.0, 0.0], [np.log(3), 0.0]])  # p = 1/2, 1/2 and 3/4, 1/4
    loss = cross_entropy(logits, tf.constant([0, 1]), 0.0)
    assert float(loss) == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-6)


def test_label_smoothing_by_hand():
    logits = tf.constant([[np.log(3), 0.0]])
    loss = cross_entropy(logits, tf.constant([0]), 0.2)
    # The targets are 0.8 + 0.2 / 2 and 0.2 / 2.
    assert float(loss) == pytest.approx(-0.9 * np.log(3 / 4) - 0.1 * np.log(1 / 4))


def test_hits_among_the_k_highest():
    predictions = tf.constant([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4], [0.7, 0.1, 0.2]])
    labels = tf.constant([1, 2, 1])
    assert [int(count_correct(predictions, labels, k)) for k in (1, 2, 3)] == [1, 2, 3]
    assert int(count_correct(predictions, labels, 5)) == 3  # fewer than five classes


def test_totals_are_means_over_the_batches_and_the_images():
    totals = Totals()
    totals.add(1.0, 0.5, tf.constant([[1.0, 0.0], [0.0, 1.0]]), tf.constant([0, 0]))
    totals.add(2.0, 0.5, tf.constant([[1.0, 0.0], [0.0, 1.0]]), tf.constant([0, 1]))
    assert totals.means() == {"loss": 1.5, "l2_loss": 0.5, "top1": 0.75, "top5": 1.0}
    totals.reset()
    assert totals.means() == {"loss": 0, "l2_loss": 0, "top1": 0, "top5": 0}


@pytest.fixture(scope="module")
def trained():
    """A training after three steps of different learning rates, with its start."""
    train = dataclasses.replace(SETTINGS.train, l2_penalty=1e-4)
    training = Training(10, SETTINGS.model, train, STATISTICS)
    mean_before = training.model.stem_normalization.moving_mean.numpy()
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 32, 32, 3)).astype(np.float16)
    labels = np.array([0, 1, 2, 3], np.int32)
    losses = [
        float(training.step(images, labels, None, StepNumbers(rate)))
        for rate in (0.0, 0.01, 0.02)
    ]
    return training, images, mean_before, losses


def test_no_step_traces_anew(trained):
    training, *_ = trained
    assert training._compiled_step.experimental_get_tracing_count() == 1


def test_moving_statistics_move_once_a_step(trained):
    _, images, mean_before, _ = trained
    fresh = Training(10, SETTINGS.model, SETTINGS.train, STATISTICS)
    layer = fresh.model.stem_normalization
    stem = fresh.model.stem_convolution(tf.cast(images, tf.float32))
    stem = tf.cast(stem, tf.float64)
    batch_mean = tf.reduce_mean(stem, [0, 1, 2]).numpy()
    magnitudes = tf.reduce_mean(tf.abs(stem), [0, 1, 2]).numpy()
    assert np.all(mean_before == 0)
    labels = np.zeros(4, np.int32)
    fresh.step(images, labels, None, StepNumbers(0.0))
    decay = SETTINGS.model.moving_average_decay
    expected = (1 - decay) * batch_mean
    bound = (1 - decay) * sum_bound(4 * 16 * 16, magnitudes)
    assert np.all(np.abs(layer.moving_mean.numpy() - expected) < bound)


def test_the_returned_loss_has_the_l2_penalty(trained):
    training, _, _, losses = trained
    means = training.totals.means()
    expected = means["loss"] + means["l2_loss"]
    assert np.mean(losses) == pytest.approx(expected, rel=1e-5)
    assert means["l2_loss"] > 0.1


class WithBias(TinyNetwork):
    """A tiny network that has a weight beside its kernel."""

    def __init__(self):
        super().__init__(seed=0)
        self.bias = tf.Variable([1.0, -2.0, 3.0])

    def __call__(self, *arguments, **keywords):
        return super().__call__(*arguments, **keywords) + self.bias


def test_the_l2_penalty_may_include_gamma_beta_and_the_bias():
    """The penalty is half their squares, and its gradient themselves."""
    trainings = {}
    for penalized in ("kernels", "all"):
        training = trainings[penalized] = TinyTraining()
        training.model = WithBias()
        training.optimizer = SGDMomentum(training.model.trainable_variables, 0.9)
        training._l2_penalty, training._l2_penalty_on = 0.1, penalized
        batch = np.ones((2, 4, 4, 3), np.float32), np.array([0, 1], np.int32)
        training.step(*batch, None, StepNumbers(1.0))
    only, every = trainings["kernels"], trainings["all"]
    moved = only.model.bias - every.model.bias
    np.testing.assert_allclose(moved, [0.1, -0.2, 0.3], atol=1e-6)
    np.testing.assert_array_equal(only.model.kernel, every.model.kernel)
    more = every.totals.means()["l2_loss"] - only.totals.means()["l2_loss"]
    assert more == pytest.approx(0.1 / 2 * (1 + 4 + 9))


def test_all_and_kernels_of_the_network():
    """53 convolutions with gamma and beta each, and a classifier with its bias."""
    for penalized, expected in (("kernels", 54), ("all", 54 + 2 * 53 + 1)):
        train = dataclasses.replace(SETTINGS.train, l2_penalty_on=penalized)
        training = Training(10, SETTINGS.model, train, STATISTICS)
        assert len(training._penalized()) == expected


def all_levels():
    """uint8 [2, 16, 16, 3]: each level in each channel, and a shift for each image."""
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    shifts = np.array([[0.1, -0.2, 0.05], [0, 0, 0]], np.float32)
    return np.concatenate([images, images[:, ::-1]]), shifts


def test_normalizing_on_the_device_is_normalizing_in_the_preprocessor():
    images, shifts = all_levels()
    expected = augmentation.normalize_crops(images, shifts, STATISTICS)
    found = normalize_on_device(tf.constant(images), tf.constant(shifts), STATISTICS)
    # Eight roundings of numbers up to 4.
    atol = sum_bound(8, 4)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=atol)


def test_a_step_on_uint8_images_is_one_on_normalized_images():
    images, shifts = all_levels()
    others = np.array([0, 2], np.int32), shifts, StepNumbers(0.1)
    raw, ready = TinyTraining(), TinyTraining()
    normalized = augmentation.normalize_crops(images, shifts, ready._statistics)
    losses = [
        float(training.step(pixels, *others))
        for training, pixels in ((raw, images), (ready, normalized))
    ]
    # Means over 256 pixels, each rounded otherwise.
    bound = sum_bound(256, 1.0)
    assert losses[0] == pytest.approx(losses[1], rel=bound)
    np.testing.assert_allclose(raw.model.kernel, ready.model.kernel, atol=bound)
