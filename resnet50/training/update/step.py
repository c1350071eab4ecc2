"""The training step: loss, gradients, one update.

With gradient accumulation several batches make one update: all but the last of a group
go through ``Training.accumulate``, the last through ``Training.step``. In float16 a
batch whose gradients are not finite leaves no trace: the moving statistics that its
forward pass has moved are put back, and it does not count in the totals. The update
that it belongs to is skipped: weights, velocities and averages stay.

Everything that a resumed run needs is a variable of ``Training``; see ``checkpoint``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet50.config.settings import ModelConfig, TrainConfig
from resnet50.network.inputs import normalize_on_device
from resnet50.network.model import ResNet50
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.training.devices.one import ONE_DEVICE
from resnet50.training.devices.protocol import Devices
from resnet50.training.update.accumulation import Accumulation
from resnet50.training.update.averaging import WeightAverage
from resnet50.training.update.loss_scale import LossScale
from resnet50.training.update.mixup import blend, main_labels, partners
from resnet50.training.update.optimizer import SGDMomentum, l2_loss
from resnet50.training.update.totals import Totals


class StepNumbers(NamedTuple):
    """The numbers that change from step to step, which a step takes as one vector.

    TensorFlow keeps each Python number that becomes a tensor for ever, 0.8 kB for each
    value; of arrays it keeps nothing.
    """

    learning_rate: float | tf.Tensor
    r_max: float | tf.Tensor = 1.0  # see layers.BatchRenormalization
    d_max: float | tf.Tensor = 0.0
    mixing_share: float | tf.Tensor = 1.0  # 0..1; see mixup

    @classmethod
    def unpack(cls, vector: tf.Tensor) -> "StepNumbers":
        """The numbers of a vector, each a float32 scalar."""
        return cls(*tf.unstack(vector))


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


class Training(tf.Module):
    """A network in training: model, optimizer, totals, and the step.

    Attributes:
        model: The ResNet50.
        optimizer: Its SGDMomentum.
        totals: Of the epoch so far.
        loss_scale: In float16; otherwise None.
        accumulation: With gradient accumulation; otherwise None.
        average: The WeightAverage of the model; without one None.
    """

    def __init__(
        self,
        num_classes: int,
        model: ModelConfig,
        train: TrainConfig,
        statistics: ChannelStatistics,
        replicas: Devices = ONE_DEVICE,
    ):
        """Creates all variables, the weights drawn from the seed.

        Args:
            num_classes: Of the dataset.
            model: [model] of config.txt.
            train: [train] of config.txt.
            statistics: The training set's, to normalize uint8 images with.
            replicas: The devices; a batch is divided among them.
        """
        super().__init__(name="training")
        self._statistics = statistics
        with replicas.scope():
            self.model = create_model(
                num_classes,
                model,
                train.seed,
                precision=train.precision,
                pools_by_slices=train.xla,
                is_synchronized=model.synchronized_batch_norm and replicas.count > 1,
            )
            averaged = None
            if train.weight_average_decay:
                averaged = create_model(num_classes, model, train.seed)
            self._prepare(train, averaged, replicas)

    def _prepare(
        self,
        train: TrainConfig,
        averaged: tf.Module | None,
        replicas: Devices = ONE_DEVICE,
    ) -> None:
        """Creates all but the network; averaged, another one, becomes its average."""
        self._replicas = replicas
        variables = self.model.trainable_variables
        self.optimizer = SGDMomentum(variables, train.momentum, train.nesterov)
        self.totals = Totals()
        self.loss_scale = LossScale() if train.precision == "float16" else None
        self.accumulation = (
            Accumulation(variables) if train.accumulate_batches > 1 else None
        )
        self.average = averaged and WeightAverage(
            averaged, self.model.variables, train.weight_average_decay
        )
        self._l2_penalty = train.l2_penalty
        self._l2_penalty_on = train.l2_penalty_on
        self._label_smoothing = train.label_smoothing
        self._has_mixup = train.mixup_alpha > 0
        self._compiled_step = replicas.compile(self._step, train.xla)
        self._compiled_accumulate = replicas.compile(self._accumulate, train.xla)

    @property
    def lasting(self) -> tf.train.Checkpoint:
        """What a training with another precision or grouping can go on with.

        Between two epochs, when the totals are zeros.
        """
        average = {} if self.average is None else {"average": self.average}
        return tf.train.Checkpoint(
            model=self.model, optimizer=self.optimizer, **average
        )

    def step(
        self,
        images: np.ndarray | tf.Tensor,
        labels: np.ndarray | tf.Tensor,
        shifts: np.ndarray | tf.Tensor | None,
        numbers: "StepNumbers",
    ) -> tf.Tensor:
        """Trains on one batch: one forward and one backward pass, one update.

        The update is of the mean gradient of this batch and those accumulated before.

        Args:
            images: float16 or float32 [N, H, W, 3], RGB, normalized; or uint8.
            labels: int32 [N].
            shifts: float32 [N, 3], the colour shifts of uint8 images; None for no
                shifts.
            numbers: The step's numbers. Only mixup reads the mixing share; hits are
                then counted against the label of an image's larger part.

        Returns:
            float32 scalar, the batch's loss with the l2 penalty; in float16 see
            LossScale.judge.
        """
        return self._compiled_step(*self._to_device(images, labels, shifts, numbers))

    def accumulate(
        self,
        images: np.ndarray | tf.Tensor,
        labels: np.ndarray | tf.Tensor,
        shifts: np.ndarray | tf.Tensor | None,
        numbers: "StepNumbers",
    ) -> tf.Tensor:
        """Takes one batch's gradients for the next step; otherwise like ``step``."""
        return self._compiled_accumulate(
            *self._to_device(images, labels, shifts, numbers)
        )

    def _to_device(self, images, labels, shifts, numbers):
        vector = np.array(numbers, np.float32)
        return self._replicas.to_device(images, labels, shifts, vector)

    def _step(self, images, labels, shifts, numbers):
        numbers = StepNumbers.unpack(numbers)
        loss, gradients, is_finite = self._differentiate(
            images, labels, shifts, numbers
        )
        if self.accumulation is not None:
            self.accumulation.add(gradients, is_finite)
            gradients, is_finite = self.accumulation.take_mean(is_finite)
        self.optimizer.apply_gradients(gradients, numbers.learning_rate, is_finite)
        if self.average is not None:
            self.average.update(is_finite)
        if self.loss_scale is not None:
            self.loss_scale.update(is_finite)
            self.totals.num_skipped.assign_add(tf.cast(~is_finite, tf.int64))
        return loss

    def _accumulate(self, images, labels, shifts, numbers):
        loss, gradients, is_finite = self._differentiate(
            images, labels, shifts, StepNumbers.unpack(numbers)
        )
        self.accumulation.add(gradients, is_finite)
        return loss

    def _differentiate(self, images, labels, shifts, numbers):
        """One forward and one backward pass, which count in the totals.

        Of several replicas, each does so with its part of the batch: the gradients are
        then summed, the losses and the moving statistics averaged.

        Returns:
            The loss; the gradients, in float16 zeros if they are not finite; and, in
            float16, whether they are, a bool scalar, otherwise None.
        """
        if images.dtype == tf.uint8:
            images = normalize_on_device(images, shifts, self._statistics)
        limits = numbers.r_max, numbers.d_max
        mixing_share = numbers.mixing_share if self._has_mixup else None
        if mixing_share is not None:
            images = blend(images, mixing_share)
        is_scaled = self.loss_scale is not None
        variables = self.model.trainable_variables
        moving = [v for v in self.model.variables if not v.trainable]
        before = [tf.identity(v) for v in moving] if is_scaled else []
        with tf.GradientTape() as tape:
            logits = self.model(images, is_training=True, limits=limits)
            loss = self._classification_loss(logits, labels, mixing_share)
            penalty = l2_loss(self._penalized(), self._l2_penalty)
            total_loss = loss + penalty
            target = total_loss * self.loss_scale.scale if is_scaled else total_loss
            target = self._replicas.share(target)
        gradients, is_finite = tape.gradient(target, variables), None
        # From here on all replicas have the same numbers, but for logits and labels.
        gradients = self._replicas.sum(gradients)
        loss, penalty, total_loss = self._replicas.sum(
            [self._replicas.share(term) for term in (loss, penalty, total_loss)]
        )
        self._replicas.average(moving)
        if is_scaled:
            gradients, is_finite = self.loss_scale.unscale(gradients)
            for variable, value in zip(moving, before):
                variable.assign(tf.where(is_finite, variable, value))
            total_loss = self.loss_scale.judge(total_loss, is_finite)
        if mixing_share is not None:
            labels = main_labels(labels, mixing_share)
        self.totals.add(loss, penalty, logits, labels, is_finite, self._replicas)
        return total_loss, gradients, is_finite

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
        how_to_compute: The ResNet50's precision, pools_by_slices and is_synchronized,
            which change none of its variables. As they are by default, float32 on one
            device, for an evaluation.
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
