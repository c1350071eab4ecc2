"""Proves the losses by hand and by timm, with mixed labels, and the l2 penalty."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from resnet50.training.update.loss import (
    balanced_class_weights,
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


# Of torch.nn.functional.cross_entropy (PyTorch 2.14.1), with the logits and weights of
# the test: by smoothing and share, loss and gradient. Without a share, reduction="sum"
# and divided by 3; with one, blended targets and reduction="mean".
TORCH = {
    (0.0, None): (
        1.9564801454544067,
        [
            [-0.1419624, 0.0067327, 0.1352297],
            [0.2618882, 0.0963433, -0.3582315],
            [0.0792459, -0.4717533, 0.3925074],
        ],
    ),
    (0.1, None): (
        1.9545735120773315,
        [
            [-0.1271457, -0.0144796, 0.1416253],
            [0.2563327, 0.0741211, -0.3304537],
            [0.0707186, -0.4346181, 0.3638995],
        ],
    ),
    (0.0, 0.7): (
        2.1007754802703857,
        [
            [-0.0697286, -0.1872079, 0.2569365],
            [0.1647483, 0.0790015, -0.2437499],
            [0.0703307, -0.293681, 0.2233503],
        ],
    ),
    (0.1, 0.7): (
        2.084439516067505,
        [
            [-0.0621352, -0.1890261, 0.2511614],
            [0.1689068, 0.0585135, -0.2274202],
            [0.062695, -0.2743531, 0.2116581],
        ],
    ),
}


@pytest.mark.parametrize(("smoothing", "share"), TORCH)
def test_class_weights_are_those_of_pytorch(smoothing, share):
    logits = tf.constant([[0.3, -1.0, 2.0], [1.0, 0.0, -0.5], [-0.7, 0.2, 0.9]])
    labels, weights = tf.constant([0, 2, 1]), np.array([0.5, 2, 1.25], np.float32)
    own_share = None if share is None else tf.constant(share)
    train = dataclasses.replace(SETTINGS.train, label_smoothing=smoothing)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = classification_loss(logits, labels, own_share, train, weights)
    expected, gradient = TORCH[smoothing, share]
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, logits), gradient, atol=1e-6)


def test_balanced_class_weights_are_inverse_to_the_counts():
    """sklearn.utils.class_weight.compute_class_weight("balanced") without the 0."""
    counts = np.array([4, 0, 1, 1])
    weights = balanced_class_weights(counts)
    assert weights.dtype == np.float32
    assert weights == pytest.approx([0.5, 0, 2, 2])
    assert (weights * counts).sum() == counts.sum()  # The mean over the images is 1.


def test_equal_class_weights_change_nothing():
    logits = tf.constant([[0.3, -1.0, 2.0], [1.0, 0.0, -0.5]])
    labels, ones = tf.constant([0, 2]), balanced_class_weights(np.array([5, 5, 5]))
    for loss in ("cross_entropy", "binary_cross_entropy"):
        train = dataclasses.replace(SETTINGS.train, loss=loss, label_smoothing=0.1)
        weighted = classification_loss(logits, labels, None, train, ones)
        plain = classification_loss(logits, labels, None, train)
        assert float(weighted) == pytest.approx(float(plain), rel=1e-6)


def test_class_weights_of_a_binary_cross_entropy_by_hand():
    train = dataclasses.replace(SETTINGS.train, loss="binary_cross_entropy")
    weights = np.array([3, 0.5], np.float32)
    logits, labels = tf.constant([[0.0, np.log(3)]]), tf.constant([0])
    loss = classification_loss(logits, labels, None, train, weights)
    assert float(loss) == pytest.approx((3 * np.log(2) + 0.5 * np.log(4)) / 2)


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
