"""The loss: cross-entropy or binary cross-entropy, and the l2 penalty."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet50.config.settings import TrainConfig
from resnet50.training.update.mixing import partners
from resnet50.training.vectors import join, split_like


class ForwardPass(NamedTuple):
    """The results for a batch, or for one replica's part of it."""

    logits: tf.Tensor  # float32 [N, K]
    labels: tf.Tensor  # int32 [N], for top-1 and top-5
    loss: tf.Tensor  # float32 scalar, the mean over the images, without l2 penalty


def balanced_class_weights(class_counts: np.ndarray) -> np.ndarray:
    """Returns a weight for each class, inverse to its number of images; float32 [K].

    As class_weight="balanced" of scikit-learn: the mean over all images is 1. A class
    without images has the weight 0.
    """
    present = class_counts > 0
    mean = class_counts.sum() / present.sum()
    return np.where(present, mean / np.maximum(class_counts, 1), 0).astype(np.float32)


def label_targets(
    labels: tf.Tensor,
    num_classes: int,
    label_smoothing: float,
    own_share: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the target of each class, float32 [N, K], from labels, int32 [N].

    Szegedy et al. 2015, section 7: the target is 1 - label_smoothing for the label plus
    label_smoothing / K for each of the K classes. Of mixed images, own_share is the
    share of the own label, a scalar; the rest is for the partner's.
    """
    spread = label_smoothing / num_classes
    targets = tf.one_hot(labels, num_classes, 1 - label_smoothing + spread, spread)
    if own_share is None:
        return targets
    return own_share * targets + (1 - own_share) * partners(targets)


def cross_entropy(
    logits: tf.Tensor, targets: tf.Tensor, class_weights: np.ndarray | None = None
) -> tf.Tensor:
    """Returns the mean cross-entropy of softmax(logits) and targets.

    With class_weights w, float32 [K], an image's loss is sum over k of
    w_k * target_k * -log(probability_k), as in torch.nn.CrossEntropyLoss(weight=w). The
    sum over the images is divided by their number, as in PyTorch if the targets are
    probabilities. If they are labels, PyTorch divides by the sum of the labels'
    weights, which changes with the batch: then the mean over the parts of a batch, on
    several GPUs or in gradient accumulation, would not be that of the batch.

    Maps two float32 [N, K] to a float32 scalar.
    """
    if class_weights is not None:
        # The op below computes gradients for targets whose sum is 1.
        weighted = class_weights * targets * tf.nn.log_softmax(logits)
        return -tf.reduce_mean(tf.reduce_sum(weighted, axis=1))
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))


def binary_cross_entropy(
    logits: tf.Tensor,
    targets: tf.Tensor,
    target_threshold: float,
    class_weights: np.ndarray | None = None,
) -> tf.Tensor:
    """Returns the mean over images and classes of the loss of "is it this class?".

    As timm's BinaryCrossEntropy (Wightman et al. 2021, arXiv 2110.00476, section 3):
    with a threshold below 1, targets above it become 1 and the others 0. So both labels
    of a mixed image may have the target 1. Each class's loss is multiplied by its
    weight, float32 [K], if there are any.

    Maps two float32 [N, K] to a float32 scalar.
    """
    if target_threshold < 1:
        targets = tf.cast(targets > target_threshold, tf.float32)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    if class_weights is not None:
        losses *= class_weights
    return tf.reduce_mean(losses)


def classification_loss(
    logits: tf.Tensor,
    labels: tf.Tensor,
    own_share: tf.Tensor | None,
    train: TrainConfig,
    class_weights: np.ndarray | None = None,
) -> tf.Tensor:
    """Returns the loss that [train] describes, without the l2 penalty; see above."""
    num_classes = logits.shape[-1]
    targets = label_targets(labels, num_classes, train.label_smoothing, own_share)
    if train.loss == "binary_cross_entropy":
        threshold = train.target_threshold
        return binary_cross_entropy(logits, targets, threshold, class_weights)
    return cross_entropy(logits, targets, class_weights)


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
