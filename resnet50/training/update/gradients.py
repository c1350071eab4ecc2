"""Loss and gradients of one batch, computed by each replica on its part of it."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from resnet50.config.settings import TrainConfig
from resnet50.network.layers import normalize_on_device
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.training.devices.protocol import Devices
from resnet50.training.update.loss import ForwardPass, classification_loss, l2_loss
from resnet50.training.update.loss_scale import LossScale
from resnet50.training.update.mixing import dominant_labels, mix_images
from resnet50.training.update.schedules import StepNumbers
from resnet50.training.update.totals import Totals
from resnet50.training.vectors import join, split_like


def regularized_variables(
    model: tf.Module, train: TrainConfig
) -> Sequence[tf.Variable]:
    """The variables under the l2 penalty."""
    return model.trainable_variables if train.l2_penalty_on == "all" else model.kernels


class BatchGradients:
    """Computes gradients, and counts each batch in the totals. Has no variables."""

    def __init__(
        self,
        model: tf.Module,
        train: TrainConfig,
        statistics: ChannelStatistics,
        replicas: Devices,
        totals: Totals,
        loss_scale: LossScale | None,
        class_weights: np.ndarray | None,
    ):
        """Takes what ``Training`` has; see there."""
        self._model = model
        self._train = train
        self._statistics = statistics
        self._replicas = replicas
        self._totals = totals
        self._loss_scale = loss_scale
        self._class_weights = class_weights
        self._regularized = regularized_variables(model, train)

    def compute(self, images, labels, shifts, numbers: StepNumbers):
        """One forward and one backward pass of each replica, counted in the totals.

        Returns:
            The loss to report; the gradients, in float16 zeros if they are not finite;
            and, in float16, whether they are, a bool scalar, otherwise None.
        """
        moving = self._model.moving_statistics
        is_undone = self._loss_scale is not None and moving
        before = join(moving) if is_undone else None
        images, own_share = self._prepare(images, shifts, numbers)
        labels = tf.cast(labels, tf.int32)  # See OneDevice.to_device.
        with tf.GradientTape() as tape:
            forward = self._forward(images, labels, own_share, numbers)
            target = self._replicas.share(self._scale(forward.loss))
        gradients = tape.gradient(target, self._model.trainable_variables)
        gradients, forward = self._reduce(gradients, forward)
        self._replicas.average(moving)
        is_finite, l2_penalty = None, self._train.l2_penalty
        if self._loss_scale is not None:
            gradients, is_finite = self._loss_scale.unscale(gradients)
            if is_undone:
                values = tf.where(is_finite, join(moving), before)
                for variable, value in zip(moving, split_like(values, moving)):
                    variable.assign(value)
            l2_penalty = tf.where(is_finite, l2_penalty, 0.0)
        # After the backward pass, or the joined weights would be in memory during it.
        with tf.control_dependencies(gradients):
            penalty = l2_loss(self._regularized, l2_penalty)
        gradients = self._add_penalty(gradients, penalty.gradients)
        self._totals.add(forward, penalty.loss, is_finite, self._replicas)
        loss = forward.loss + penalty.loss
        if self._loss_scale is not None:
            loss = self._loss_scale.reported_loss(loss, is_finite)
        return loss, gradients, is_finite

    def _prepare(self, images, shifts, numbers: StepNumbers):
        """The network's input, normalized and mixed.

        Returns:
            The images; and the share of each one's own label, or None without mixing.
        """
        if images.dtype == tf.uint8:
            images = normalize_on_device(images, shifts, self._statistics)
        has_boxes = self._train.cutmix_alpha > 0
        if not has_boxes and not self._train.mixup_alpha:
            return images, None
        return mix_images(images, numbers.mix, has_boxes=has_boxes)

    def _forward(self, images, labels, own_share, numbers: StepNumbers) -> ForwardPass:
        """The network's logits and the losses of a batch."""
        limits = numbers.r_max, numbers.d_max
        logits = self._model(images, is_training=True, limits=limits)
        loss = classification_loss(
            logits, labels, own_share, self._train, self._class_weights
        )
        if own_share is not None:
            labels = dominant_labels(labels, own_share)
        return ForwardPass(logits, labels, loss)

    def _scale(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate."""
        return loss if self._loss_scale is None else loss * self._loss_scale.scale

    def _reduce(self, gradients, forward: ForwardPass):
        """Sums the gradients and averages the loss over the replicas."""
        gradients = self._replicas.sum(gradients)
        [loss] = self._replicas.sum([self._replicas.share(forward.loss)])
        return gradients, forward._replace(loss=loss)

    def _add_penalty(self, gradients, penalty_gradients) -> list[tf.Tensor]:
        """The gradients of the whole loss."""
        penalties = {v.ref(): p for v, p in zip(self._regularized, penalty_gradients)}
        pairs = zip(self._model.trainable_variables, gradients)
        return [g + penalties[v.ref()] if v.ref() in penalties else g for v, g in pairs]
