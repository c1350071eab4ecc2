"""Proves the losses by hand and by timm, with mixed labels, and the l2 penalty."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from resnet50.training.update.loss import (
    classification_loss,
    cross_entropy,
    l2_loss,
    label_targets,
)
from tests.settings import SETTINGS
from tests.training.tolerances import sum_bound


def test_cross_entropy_by_hand():
    logits = tf.constant([[0.0, 0.0], [np.log(3), 0.0]])  # p = 1/2, 1/2 and 3/4, 1/4
    loss = cross_entropy(logits, label_targets(tf.constant([0, 1]), 2, 0.0))
    assert float(loss) == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-6)


def test_label_smoothing_by_hand():
    logits = tf.constant([[np.log(3), 0.0]])
    loss = cross_entropy(logits, label_targets(tf.constant([0]), 2, 0.2))
    # The targets are 0.8 + 0.2 / 2 and 0.2 / 2.
    assert float(loss) == pytest.approx(-0.9 * np.log(3 / 4) - 0.1 * np.log(1 / 4))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradient_of_a_blended_label_by_hand(smoothing):
    """The loss is that of the blended targets; its gradient is softmax - targets."""
    logits = tf.constant([[0.3, -1.0, 2.0], [1.0, 0.0, -0.5]])
    labels, share = tf.constant([0, 2]), tf.constant(0.7)
    train = dataclasses.replace(SETTINGS.train, label_smoothing=smoothing)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = classification_loss(logits, labels, share, train)
    targets = np.array([[0.7, 0, 0.3], [0.3, 0, 0.7]])
    targets = (1 - smoothing) * targets + smoothing / 3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert float(loss) == pytest.approx(
        -(targets * np.log(probabilities)).sum(axis=1).mean(), rel=1e-6
    )
    np.testing.assert_allclose(
        tape.gradient(loss, logits), (probabilities - targets) / 2, atol=1e-6
    )


# timm 1.0.31, timm.loss.BinaryCrossEntropy on the logits below and the targets
# 0.7 * y1 + 0.3 * y2 of the labels 0 and 2, smoothed by 0.1; with the target thresholds
# none, 0.2 and 0.5. Loss, and its gradient.
TIMM = (
    (
        1.0,
        0.83850509,
        [[-0.01481513, 0.03926802, 0.09624395], [0.07128754, 0.07777778, -0.0476321]],
    ),
    (
        0.2,
        0.49583849,
        [[-0.07092625, 0.04482357, -0.01986716], [-0.04482357, 0.08333334, -0.1037432]],
    ),
    (
        0.5,
        0.99583846,
        [[-0.07092625, 0.04482357, 0.1467995], [0.1218431, 0.08333334, -0.1037432]],
    ),
)


@pytest.mark.parametrize(("threshold", "expected", "gradient"), TIMM)
def test_binary_cross_entropy_is_that_of_timm(threshold, expected, gradient):
    logits = tf.constant([[0.3, -1.0, 2.0], [1.0, 0.0, -0.5]])
    train = dataclasses.replace(
        SETTINGS.train,
        loss="binary_cross_entropy",
        target_threshold=threshold,
        label_smoothing=0.1,
    )
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = classification_loss(logits, tf.constant([0, 2]), tf.constant(0.7), train)
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, logits), gradient, atol=1e-6)


def test_l2_loss_and_its_gradients_by_hand():
    kernels = [tf.Variable([[1.0, -2.0]]), tf.Variable([3.0])]
    penalty = l2_loss(kernels, 0.1)
    # 0.1 / 2 * (1 + 4 + 9); its gradient is 0.1 * kernel.
    assert penalty.loss.numpy() == pytest.approx(0.7)
    assert penalty.gradients[0].numpy() == pytest.approx(np.array([[0.1, -0.2]]))
    assert penalty.gradients[1].numpy() == pytest.approx([0.3])


def test_l2_loss_is_a_sum_in_float32():
    """In float16 these squares vanish, one by one and together."""
    weights = np.random.default_rng(0).normal(0, 1e-4, (64, 64)).astype(np.float32)
    exact = 0.1 / 2 * np.square(weights, dtype=np.float64).sum()
    loss = float(l2_loss([tf.Variable(weights)], 0.1).loss)
    assert loss == pytest.approx(exact, rel=sum_bound(weights.size, 1))
