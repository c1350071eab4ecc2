"""The training step: loss, gradients, one update; and the epoch's totals.

Everything that a resumed run needs is a variable of ``Training``; see ``checkpoint``.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from resnet50.config import ModelConfig, TrainConfig
from resnet50.preprocessing.augmentation import ChannelStatistics
from resnet50.training.averaging import WeightAverage
from resnet50.training.mixup import blend, main_labels, partners
from resnet50.training.model import ResNet50
from resnet50.training.optimizer import SGDMomentum, l2_loss


def cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float
) -> tf.Tensor:
    """The batch's mean cross-entropy of softmax(logits) against smoothed labels.

    Szegedy et al. 2015, section 7: the target is 1 - label_smoothing for the label plus
    label_smoothing / K for each of the K classes.

    Args:
        logits: float32 [N, K].
        labels: int32 [N].
        label_smoothing: 0 for the plain cross-entropy.

    Returns:
        float32 scalar.
    """
    num_classes = logits.shape[-1]
    spread = label_smoothing / num_classes
    targets = tf.one_hot(labels, num_classes, 1 - label_smoothing + spread, spread)
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))


def count_correct(predictions: tf.Tensor, labels: tf.Tensor, k: int) -> tf.Tensor:
    """How many of the labels are among the k highest predictions.

    Args:
        predictions: float32 [N, K], logits or probabilities.
        labels: int32 [N].
        k: With fewer than k classes, all of them count.

    Returns:
        int64 scalar.
    """
    hits = tf.math.in_top_k(labels, predictions, min(k, predictions.shape[-1]))
    return tf.math.count_nonzero(hits)


def normalize(
    images: tf.Tensor, shifts: tf.Tensor, statistics: ChannelStatistics
) -> tf.Tensor:
    """Steps 4 and 6 on the device; preprocessing.augmentation.normalize on tensors.

    Args:
        images: uint8 [N, H, W, 3], RGB.
        shifts: float32 [N, 3].
        statistics: The training set's.

    Returns:
        float32 [N, H, W, 3].
    """
    # One product and one sum for each value: level / (255 std) + (shift - mean / std).
    std = np.array(statistics.std)
    scale = tf.constant(1 / (255 * std), tf.float32)
    offsets = shifts - tf.constant(np.array(statistics.mean) / std, tf.float32)
    return tf.cast(images, tf.float32) * scale + offsets[:, None, None, :]


class Totals(tf.Module):
    """Sums over the batches of an epoch so far, kept on the device.

    Reading them is what makes the host wait for the device, so it is done only when
    somebody looks.
    """

    def __init__(self):
        super().__init__(name="totals")
        self.num_batches = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.num_images = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.loss = tf.Variable(0, dtype=tf.float64, trainable=False)
        self.l2_loss = tf.Variable(0, dtype=tf.float64, trainable=False)
        self.top1 = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.top5 = tf.Variable(0, dtype=tf.int64, trainable=False)

    def add(self, loss, penalty, logits, labels) -> None:
        """Adds one batch; runs inside the training step."""
        self.num_batches.assign_add(1)
        self.num_images.assign_add(tf.size(labels, out_type=tf.int64))
        self.loss.assign_add(tf.cast(loss, tf.float64))
        self.l2_loss.assign_add(tf.cast(penalty, tf.float64))
        self.top1.assign_add(count_correct(logits, labels, 1))
        self.top5.assign_add(count_correct(logits, labels, 5))

    def reset(self) -> None:
        """Starts an epoch."""
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    def means(self) -> dict[str, float]:
        """Means so far: loss (cross-entropy), l2_loss, and top1 and top5 in 0..1."""
        num_batches = max(int(self.num_batches), 1)
        num_images = max(int(self.num_images), 1)
        return {
            "loss": float(self.loss) / num_batches,
            "l2_loss": float(self.l2_loss) / num_batches,
            "top1": int(self.top1) / num_images,
            "top5": int(self.top5) / num_images,
        }


class Training(tf.Module):
    """A network in training: model, optimizer, totals, and the step.

    Attributes:
        model: The ResNet50.
        optimizer: Its SGDMomentum.
        totals: Of the epoch so far.
        average: The WeightAverage of the model, or None.
    """

    def __init__(
        self,
        num_classes: int,
        model: ModelConfig,
        train: TrainConfig,
        statistics: ChannelStatistics,
    ):
        """Creates all variables, the weights drawn from the seed.

        Args:
            num_classes: Of the dataset.
            model: [model] of config.txt.
            train: [train] of config.txt.
            statistics: The training set's, to normalize uint8 images with.
        """
        super().__init__(name="training")
        self.model = create_model(num_classes, model, train.seed)
        self.optimizer = SGDMomentum(
            self.model.trainable_variables, train.momentum, train.nesterov
        )
        self.totals = Totals()
        self.average = None
        if train.weight_average_decay:
            copy = create_model(num_classes, model, train.seed)
            self.average = WeightAverage(
                copy, self.model.variables, train.weight_average_decay
            )
        self._l2_penalty = train.l2_penalty
        self._l2_penalty_on = train.l2_penalty_on
        self._label_smoothing = train.label_smoothing
        self._statistics = statistics

    @tf.function
    def step(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        shifts: tf.Tensor,
        learning_rate: tf.Tensor,
        r_max: tf.Tensor,
        d_max: tf.Tensor,
        mixing_share: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Trains on one batch: one forward and one backward pass, one update.

        Args:
            images: float16 or float32 [N, H, W, 3], RGB, normalized; or uint8.
            labels: int32 [N].
            shifts: float32 [N, 3], of uint8 images; of others not looked at.
            learning_rate: float32 scalar; a tensor, so that no value traces anew.
            r_max: float32 scalar; see layers.BatchRenormalization.
            d_max: float32 scalar.
            mixing_share: float32 scalar, 0..1, for mixup; None for none. With it, hits
                are counted against the label of an image's larger part.

        Returns:
            float32 scalar, the batch's loss with the l2 penalty.
        """
        if images.dtype == tf.uint8:
            images = normalize(images, shifts, self._statistics)
        if mixing_share is not None:
            images = blend(images, mixing_share)
        with tf.GradientTape() as tape:
            logits = self.model(images, is_training=True, limits=(r_max, d_max))
            loss = self._classification_loss(logits, labels, mixing_share)
            penalty = l2_loss(self._penalized(), self._l2_penalty)
            total_loss = loss + penalty
        gradients = tape.gradient(total_loss, self.model.trainable_variables)
        self.optimizer.apply_gradients(gradients, learning_rate)
        if self.average is not None:
            self.average.update()
        if mixing_share is not None:
            labels = main_labels(labels, mixing_share)
        self.totals.add(loss, penalty, logits, labels)
        return total_loss

    def _classification_loss(
        self, logits: tf.Tensor, labels: tf.Tensor, mixing_share: tf.Tensor | None
    ) -> tf.Tensor:
        """The mean cross-entropy; with mixup, of both labels by their shares."""
        loss = cross_entropy(logits, labels, self._label_smoothing)
        if mixing_share is None:
            return loss
        other = cross_entropy(logits, partners(labels), self._label_smoothing)
        return mixing_share * loss + (1 - mixing_share) * other

    def _penalized(self) -> Sequence[tf.Variable]:
        """The weights under the l2 penalty."""
        if self._l2_penalty_on == "all":
            return self.model.trainable_variables
        return self.model.kernels

    @tf.function
    def is_finite(self) -> tf.Tensor:
        """Whether every variable is a finite number; bool scalar."""
        floats = [v for v in self.variables if v.dtype.is_floating]
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in floats])


def create_model(num_classes: int, settings: ModelConfig, seed: int = 0) -> ResNet50:
    """The network that [model] in config.txt describes."""
    return ResNet50(
        num_classes,
        variant=settings.variant,
        normalization=settings.normalization,
        moving_average_decay=settings.moving_average_decay,
        epsilon=settings.epsilon,
        zero_init_last_gamma=settings.zero_init_last_gamma,
        seed=seed,
    )
