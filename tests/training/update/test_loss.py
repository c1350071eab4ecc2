"""Proves the cross-entropy, mixup's and the l2 penalty by hand."""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.training.update.loss import cross_entropy, l2_loss, mixed_cross_entropy
from tests.training.tolerances import sum_bound


def test_cross_entropy_by_hand():
    logits = tf.constant([[0.0, 0.0], [np.log(3), 0.0]])  # p = 1/2, 1/2 and 3/4, 1/4
    loss = cross_entropy(logits, tf.constant([0, 1]), 0.0)
    assert float(loss) == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-6)


def test_label_smoothing_by_hand():
    logits = tf.constant([[np.log(3), 0.0]])
    loss = cross_entropy(logits, tf.constant([0]), 0.2)
    # The targets are 0.8 + 0.2 / 2 and 0.2 / 2.
    assert float(loss) == pytest.approx(-0.9 * np.log(3 / 4) - 0.1 * np.log(1 / 4))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradient_of_a_blended_label_by_hand(smoothing):
    """The loss is that of the blended targets; its gradient is softmax - targets."""
    logits = tf.constant([[0.3, -1.0, 2.0], [1.0, 0.0, -0.5]])
    labels, share = tf.constant([0, 2]), tf.constant(0.7)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = mixed_cross_entropy(logits, labels, smoothing, share)
    targets = np.array([[0.7, 0, 0.3], [0.3, 0, 0.7]])
    targets = (1 - smoothing) * targets + smoothing / 3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert float(loss) == pytest.approx(
        -(targets * np.log(probabilities)).sum(axis=1).mean(), rel=1e-6
    )
    np.testing.assert_allclose(
        tape.gradient(loss, logits), (probabilities - targets) / 2, atol=1e-6
    )


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
