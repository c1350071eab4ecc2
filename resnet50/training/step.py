"""The training step: loss, gradients, one update; and the epoch's totals.

With gradient accumulation several batches make one update: all but the last of a group
go through ``Training.accumulate``, the last through ``Training.step``. In float16 a
batch whose gradients are not finite leaves no trace: the moving statistics that its
forward pass has moved are put back, and it does not count in the totals. The update
that it belongs to is skipped: weights and velocities stay.

Everything that a resumed run needs is a variable of ``Training``; see ``checkpoint``.
"""

import numpy as np
import tensorflow as tf

from resnet50.config import ModelConfig, TrainConfig
from resnet50.preprocessing.augmentation import ChannelStatistics
from resnet50.training.accumulation import Accumulation
from resnet50.training.loss_scale import LossScale
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
    somebody looks. In float16 they are of the batches with finite gradients.
    """

    def __init__(self):
        super().__init__(name="totals")
        self.num_batches = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.num_images = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.loss = tf.Variable(0, dtype=tf.float64, trainable=False)
        self.l2_loss = tf.Variable(0, dtype=tf.float64, trainable=False)
        self.top1 = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.top5 = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.num_skipped = tf.Variable(0, dtype=tf.int64, trainable=False)

    def add(self, loss, penalty, logits, labels, is_finite=None) -> None:
        """Adds one batch, unless it is not finite; runs inside the training step."""
        for variable, addend in (
            (self.num_batches, 1),
            (self.num_images, tf.size(labels)),
            (self.loss, loss),
            (self.l2_loss, penalty),
            (self.top1, count_correct(logits, labels, 1)),
            (self.top5, count_correct(logits, labels, 5)),
        ):
            addend = tf.cast(addend, variable.dtype)
            if is_finite is not None:
                addend = tf.where(is_finite, addend, tf.zeros_like(addend))
            variable.assign_add(addend)

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
        loss_scale: In float16; otherwise None.
        accumulation: With gradient accumulation; otherwise None.
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
        self.model = create_model(
            num_classes,
            model,
            train.seed,
            precision=train.precision,
            pools_by_slices=train.xla,
        )
        self._statistics = statistics
        self._prepare(train)

    def _prepare(self, train: TrainConfig) -> None:
        """Creates all but the network."""
        variables = self.model.trainable_variables
        self.optimizer = SGDMomentum(variables, train.momentum)
        self.totals = Totals()
        self.loss_scale = LossScale() if train.precision == "float16" else None
        self.accumulation = (
            Accumulation(variables) if train.accumulate_batches > 1 else None
        )
        self._l2_penalty = train.l2_penalty
        self._label_smoothing = train.label_smoothing
        self._compiled_step = tf.function(self._step, jit_compile=train.xla)
        self._compiled_accumulate = tf.function(self._accumulate, jit_compile=train.xla)

    @property
    def lasting(self) -> tf.train.Checkpoint:
        """What a training with another precision or grouping can go on with."""
        return tf.train.Checkpoint(
            model=self.model, optimizer=self.optimizer, totals=self.totals
        )

    def step(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        shifts: tf.Tensor,
        learning_rate: tf.Tensor,
        r_max: tf.Tensor,
        d_max: tf.Tensor,
    ) -> tf.Tensor:
        """Trains on one batch: one forward and one backward pass, one update.

        The update is of the mean gradient of this batch and those accumulated before.

        Args:
            images: float16 or float32 [N, H, W, 3], RGB, normalized; or uint8.
            labels: int32 [N].
            shifts: float32 [N, 3], of uint8 images; of others not looked at.
            learning_rate: float32 scalar; a tensor, so that no value traces anew.
            r_max: float32 scalar; see layers.BatchRenormalization.
            d_max: float32 scalar.

        Returns:
            float32 scalar, the batch's loss with the l2 penalty; in float16 see
            LossScale.judge.
        """
        return self._compiled_step(images, labels, shifts, learning_rate, r_max, d_max)

    def accumulate(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        shifts: tf.Tensor,
        r_max: tf.Tensor,
        d_max: tf.Tensor,
    ) -> tf.Tensor:
        """Takes one batch's gradients for the next step; otherwise like ``step``."""
        return self._compiled_accumulate(images, labels, shifts, r_max, d_max)

    def _step(self, images, labels, shifts, learning_rate, r_max, d_max):
        loss, gradients, is_finite = self._differentiate(
            images, labels, shifts, (r_max, d_max)
        )
        if self.accumulation is not None:
            self.accumulation.add(gradients, is_finite)
            gradients, is_finite = self.accumulation.take_mean(is_finite)
        self.optimizer.apply_gradients(gradients, learning_rate, is_finite)
        if self.loss_scale is not None:
            self.loss_scale.update(is_finite)
            self.totals.num_skipped.assign_add(tf.cast(~is_finite, tf.int64))
        return loss

    def _accumulate(self, images, labels, shifts, r_max, d_max):
        loss, gradients, is_finite = self._differentiate(
            images, labels, shifts, (r_max, d_max)
        )
        self.accumulation.add(gradients, is_finite)
        return loss

    def _differentiate(self, images, labels, shifts, limits):
        """One forward and one backward pass, which count in the totals.

        Returns:
            The loss; the gradients, in float16 zeros if they are not finite; and, in
            float16, whether they are, a bool scalar, otherwise None.
        """
        if images.dtype == tf.uint8:
            images = normalize(images, shifts, self._statistics)
        is_scaled = self.loss_scale is not None
        variables = self.model.trainable_variables
        moving = [v for v in self.model.variables if not v.trainable]
        before = [tf.identity(v) for v in moving] if is_scaled else []
        with tf.GradientTape() as tape:
            logits = self.model(images, is_training=True, limits=limits)
            loss = cross_entropy(logits, labels, self._label_smoothing)
            penalty = l2_loss(self.model.kernels, self._l2_penalty)
            total_loss = loss + penalty
            target = total_loss * self.loss_scale.scale if is_scaled else total_loss
        gradients, is_finite = tape.gradient(target, variables), None
        if is_scaled:
            gradients, is_finite = self.loss_scale.unscale(gradients)
            for variable, value in zip(moving, before):
                variable.assign(tf.where(is_finite, variable, value))
            total_loss = self.loss_scale.judge(total_loss, is_finite)
        self.totals.add(loss, penalty, logits, labels, is_finite)
        return total_loss, gradients, is_finite

    @tf.function
    def is_finite(self) -> tf.Tensor:
        """Whether every variable is a finite number; bool scalar."""
        floats = [v for v in self.variables if v.dtype.is_floating]
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in floats])


def create_model(
    num_classes: int,
    settings: ModelConfig,
    seed: int = 0,
    **how_to_compute,
) -> ResNet50:
    """The network that [model] in config.txt describes.

    Args:
        num_classes: Of the dataset.
        settings: [model] of config.txt.
        seed: Of the weights.
        how_to_compute: The ResNet50's precision and pools_by_slices, which change none
            of its variables. As they are by default, float32, for an evaluation.
    """
    return ResNet50(
        num_classes,
        variant=settings.variant,
        normalization=settings.normalization,
        moving_average_decay=settings.moving_average_decay,
        epsilon=settings.epsilon,
        zero_init_last_gamma=settings.zero_init_last_gamma,
        **how_to_compute,
        seed=seed,
    )
