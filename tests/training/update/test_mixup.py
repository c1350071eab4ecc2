"""Proves mixup's blends by hand, and that the shares need no state."""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.training.update.loss import cross_entropy
from resnet50.training.update.mixup import blend, dominant_labels, mixing_share_at
from resnet50.training.update.schedules import StepNumbers
from tests.training.tiny import TinyTraining

LEARNING_RATE = 0.1


def test_shares_are_a_function_of_seed_and_step():
    shares = [mixing_share_at(step, seed=3, alpha=0.2) for step in range(2000)]
    assert shares[1500] == mixing_share_at(1500, seed=3, alpha=0.2)
    assert len(set(shares)) == 2000
    assert mixing_share_at(0, seed=4, alpha=0.2) != shares[0]
    assert 0 <= min(shares) < max(shares) <= 1
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.4), rel=0.05)


def test_each_image_is_blended_with_the_one_before_it():
    images = tf.reshape(tf.constant([1.0, 10.0, 100.0], tf.float16), (3, 1, 1, 1))
    blended = blend(images, tf.constant(0.75))
    assert blended.dtype == tf.float32
    expected = [0.75 + 25, 7.5 + 0.25, 75 + 2.5]
    assert blended.numpy().ravel() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.75, [4, 5, 6]), (0.5, [4, 5, 6]), (0.25, [6, 4, 5])]
)
def test_the_label_of_the_larger_part_counts(share, expected):
    labels = dominant_labels(tf.constant([4, 5, 6]), tf.constant(share))
    assert labels.numpy().tolist() == expected


def test_a_share_of_one_is_no_mixup():
    images = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype("f2")
    batch = images, np.array([0, 1], np.int32), None
    plain, mixed = TinyTraining(), TinyTraining(mixup_alpha=0.2)
    numbers = StepNumbers(LEARNING_RATE, mixing_share=1.0)
    losses = [training.step(*batch, numbers) for training in (plain, mixed)]
    assert float(losses[0]) == float(losses[1])
    for first, second in zip(plain.variables, mixed.variables, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_a_step_trains_on_the_blend_and_counts_the_larger_part():
    images = np.zeros((2, 4, 4, 3), np.float32)
    images[0, ..., 0], images[1, ..., 1] = 1, 1  # Red, class 0; green, class 1.
    labels = np.array([0, 1], np.int32)
    training = TinyTraining(mixup_alpha=0.2)
    training.model.kernel.assign(5 * tf.eye(3))
    kernel = tf.constant(training.model.kernel)
    numbers = StepNumbers(LEARNING_RATE, mixing_share=0.25)
    training.step(images, labels, None, numbers)
    # The larger part of each is the other's colour, which the network sees.
    assert training.totals.means()["top1"] == 1
    colours = np.array([[0.25, 0.75, 0], [0.75, 0.25, 0]], np.float32)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        logits = tf.matmul(colours, kernel)
        loss = 0.25 * cross_entropy(logits, tf.constant([0, 1]), 0.0)
        loss += 0.75 * cross_entropy(logits, tf.constant([1, 0]), 0.0)
    expected = kernel - LEARNING_RATE * (tape.gradient(loss, kernel) + 1e-4 * kernel)
    np.testing.assert_allclose(training.model.kernel, expected, atol=1e-6)
