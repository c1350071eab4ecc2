"""The loss: cross-entropy, with mixup that of two labels, and the l2 penalty."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet50.training.update.mixup import partners
from resnet50.training.vectors import join, split_like


class ForwardPass(NamedTuple):
    """The results for a batch, or for one replica's part of it."""

    logits: tf.Tensor  # float32 [N, K]
    labels: tf.Tensor  # int32 [N], for top-1 and top-5
    cross_entropy: tf.Tensor  # float32 scalar, the mean over the images


def balanced_class_weights(class_counts: np.ndarray) -> np.ndarray:
    """Returns a weight for each class, inverse to its number of images; float32 [K].

    As class_weight="balanced" of scikit-learn: the mean over all images is 1. A class
    without images has the weight 0.
    """
    present = class_counts > 0
    mean = class_counts.sum() / present.sum()
    return np.where(present, mean / np.maximum(class_counts, 1), 0).astype(np.float32)


def cross_entropy(
    logits: tf.Tensor,
    labels: tf.Tensor,
    label_smoothing: float,
    class_weights: np.ndarray | None = None,
) -> tf.Tensor:
    """Returns the mean cross-entropy of softmax(logits) against smoothed labels.

    Szegedy et al. 2015, section 7: the target is 1 - label_smoothing for the label plus
    label_smoothing / K for each of the K classes.

    With class_weights w, float32 [K], an image's loss is sum over k of
    w_k * target_k * -log(probability_k), as in torch.nn.CrossEntropyLoss(weight=w). The
    sum over the images is divided by their number, as in PyTorch if the targets are
    probabilities. If they are labels, PyTorch divides by the sum of the labels'
    weights, which changes with the batch: then the mean over the parts of a batch, on
    several GPUs or in gradient accumulation, would not be that of the batch.

    Maps logits, float32 [N, K], and labels, int32 [N], to a float32 scalar.
    """
    num_classes = logits.shape[-1]
    spread = label_smoothing / num_classes
    targets = tf.one_hot(labels, num_classes, 1 - label_smoothing + spread, spread)
    if class_weights is not None:
        # The op below computes gradients for targets whose sum is 1.
        weighted = class_weights * targets * tf.nn.log_softmax(logits)
        return -tf.reduce_mean(tf.reduce_sum(weighted, axis=1))
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))


def mixed_cross_entropy(
    logits: tf.Tensor,
    labels: tf.Tensor,
    label_smoothing: float,
    mixing_share: tf.Tensor | None,
    class_weights: np.ndarray | None = None,
) -> tf.Tensor:
    """Returns the cross-entropy; with mixup, that of both labels by their shares."""
    loss = cross_entropy(logits, labels, label_smoothing, class_weights)
    if mixing_share is None:
        return loss
    other = cross_entropy(logits, partners(labels), label_smoothing, class_weights)
    return mixing_share * loss + (1 - mixing_share) * other


class L2Penalty(NamedTuple):
    """The l2 penalty and its gradients.

    Attributes:
        loss: float32 scalar, l2_penalty / 2 times the sum of all squared weights.
        gradients: For each weight tensor, l2_penalty times its values.
    """

    loss: tf.Tensor
    gradients: list[tf.Tensor]


def l2_loss(weights: Sequence[tf.Variable], l2_penalty: float) -> L2Penalty:
    """Computes the l2 penalty.

    With the half, l2_penalty is the same as "weight_decay" of torch.optim.SGD, and the
    1e-4 of He et al. 2015. The gradients are computed here because
    automatic differentiation would take two kernels for each variable.
    """
    vector = join(weights)
    # tf.nn.l2_loss contains the half.
    loss = l2_penalty * tf.nn.l2_loss(vector)
    return L2Penalty(loss, split_like(l2_penalty * vector, weights))
