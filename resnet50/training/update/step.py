"""The training step: loss, gradients, one update.

With gradient accumulation several batches make one update: all but the last of a group
go through ``Training.accumulate``, the last through ``Training.step``. In float16 a
batch whose gradients are not finite leaves no trace: its changes to the moving
statistics are undone, and it does not count in the totals. Its update is skipped:
weights, velocities and averages stay.

Everything that a resumed run needs is a variable of ``Training``; see ``checkpoint``.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from resnet50.config.settings import ModelConfig, TrainConfig
from resnet50.network.layers import normalize_on_device
from resnet50.network.model import STAGES, ResNet50, Stage
from resnet50.network.tracing import traced
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.training.devices.protocol import ONE_DEVICE, Devices
from resnet50.training.update.accumulation import Accumulation
from resnet50.training.update.averaging import WeightAverage
from resnet50.training.update.loss import ForwardPass, classification_loss, l2_loss
from resnet50.training.update.loss_scale import LossScale
from resnet50.training.update.mixing import dominant_labels, mix_images
from resnet50.training.update.optimizer import create_optimizer
from resnet50.training.update.schedules import StepNumbers
from resnet50.training.update.totals import Totals
from resnet50.training.vectors import join, split_like

Array = np.ndarray | tf.Tensor


class Training(tf.Module):
    """A network in training: model, optimizer, totals, and the step.

    Attributes:
        loss_scale: In float16; otherwise None.
        accumulation: With gradient accumulation; otherwise None.
        average: The WeightAverage of the model; without one None.
    """

    def __init__(
        self,
        model: tf.Module,
        train: TrainConfig,
        statistics: ChannelStatistics,
        replicas: Devices = ONE_DEVICE,
        averaged: tf.Module | None = None,
        class_weights: np.ndarray | None = None,
    ):
        """Creates all variables but the network's.

        The networks were created in the replicas' scope. ``averaged``, a second network
        of the same kind, becomes the average of the first; None for no average. The
        statistics are the training set's, to normalize uint8 images. For class_weights
        see ``loss.cross_entropy``.
        """
        super().__init__(name="training")
        self.model = model
        self._train = train
        self._statistics = statistics
        self._class_weights = class_weights
        self._replicas = replicas
        variables = model.trainable_variables
        self.loss_scale = self.accumulation = self.average = None
        with replicas.scope():
            decayed = self._regularized_variables()
            factors = self._rate_factors()
            self.optimizer = create_optimizer(variables, decayed, train, factors)
            self.totals = Totals()
            if train.precision == "float16":
                self.loss_scale = LossScale()
            if train.accumulate_batches > 1:
                self.accumulation = Accumulation(variables)
            if averaged is not None:
                self.average = WeightAverage(
                    averaged, model.variables, train.weight_average_decay
                )
        self._compiled_step = replicas.compile(self._step, train.xla)
        self._compiled_accumulate = replicas.compile(self._accumulate, train.xla)

    def _rate_factors(self) -> list[float] | None:
        """For each trained variable, the factor of its learning rate; None for 1."""
        factor = self._train.backbone_rate_factor
        if factor == 1:
            return None
        head = {v.ref() for v in self.model.classifier.variables}
        return [
            1.0 if v.ref() in head else factor for v in self.model.trainable_variables
        ]

    def transferable(self, *, has_same_optimizer: bool) -> tf.train.Checkpoint:
        """What a training with other variables can continue with.

        Only between two epochs, when the totals are zeros. Without the same optimizer,
        because other parts are trained, the new optimizer starts with its own state.
        """
        parts = {"model": self.model}
        if has_same_optimizer:
            parts["optimizer"] = self.optimizer
        if self.average is not None:
            parts["average"] = self.average
        return tf.train.Checkpoint(**parts)

    def step(
        self, images: Array, labels: Array, shifts: Array | None, numbers: StepNumbers
    ) -> tf.Tensor:
        """Trains on one batch: one forward and one backward pass, one update.

        The update uses the mean gradient of this batch and those accumulated before.

        Args:
            images: float16 or float32 [N, H, W, 3], RGB, normalized; or uint8.
            labels: int32 [N].
            shifts: float32 [N, 3], the colour shifts of uint8 images; otherwise None.
            numbers: The step's numbers.

        Returns:
            float32 scalar, the batch's loss with the l2 penalty; in float16 see
            LossScale.reported_loss.
        """
        return self._compiled_step(*self.place(images, labels, shifts, numbers))

    def accumulate(
        self, images: Array, labels: Array, shifts: Array | None, numbers: StepNumbers
    ) -> tf.Tensor:
        """Adds one batch's gradients to the next update; otherwise like ``step``."""
        tensors = self.place(images, labels, shifts, numbers)
        return self._compiled_accumulate(*tensors)

    def place(
        self,
        images: Array,
        labels: Array,
        shifts: Array | None,
        numbers: StepNumbers | tf.Tensor,
    ) -> tuple[tf.Tensor | None, ...]:
        """Copies the arguments of ``step`` to the device; copies are returned as is.

        The numbers become one float32 vector.
        """
        if isinstance(numbers, StepNumbers):
            numbers = np.array(numbers, np.float32)
        return self._replicas.to_device(images, labels, shifts, numbers)

    def _step(self, images, labels, shifts, numbers):
        numbers = StepNumbers(*tf.unstack(numbers))
        loss, gradients, is_finite = self._compute_gradients(
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
        numbers = StepNumbers(*tf.unstack(numbers))
        loss, *results = self._compute_gradients(images, labels, shifts, numbers)
        self.accumulation.add(*results)
        return loss

    def _compute_gradients(self, images, labels, shifts, numbers):
        """One forward and one backward pass of each replica, counted in the totals.

        Returns:
            The loss to report; the gradients, in float16 zeros if they are not finite;
            and, in float16, whether they are, a bool scalar, otherwise None.
        """
        moving = self.model.moving_statistics
        is_undone = self.loss_scale is not None and moving
        before = join(moving) if is_undone else None
        images, own_share = self._prepare(images, shifts, numbers)
        labels = tf.cast(labels, tf.int32)  # See OneDevice.to_device.
        with tf.GradientTape() as tape:
            forward = self._forward(images, labels, own_share, numbers)
            target = self._replicas.share(self._scale(forward.loss))
        gradients = tape.gradient(target, self.model.trainable_variables)
        gradients, forward = self._reduce(gradients, forward)
        self._replicas.average(moving)
        is_finite, l2_penalty = None, self._train.l2_penalty
        if self.loss_scale is not None:
            gradients, is_finite = self.loss_scale.unscale(gradients)
            if is_undone:
                values = tf.where(is_finite, join(moving), before)
                for variable, value in zip(moving, split_like(values, moving)):
                    variable.assign(value)
            l2_penalty = tf.where(is_finite, l2_penalty, 0.0)
        # After the backward pass, or the joined weights would be in memory during it.
        with tf.control_dependencies(gradients):
            penalty = l2_loss(self._regularized_variables(), l2_penalty)
        gradients = self._add_penalty(gradients, penalty.gradients)
        self.totals.add(forward, penalty.loss, is_finite, self._replicas)
        loss = forward.loss + penalty.loss
        if self.loss_scale is not None:
            loss = self.loss_scale.reported_loss(loss, is_finite)
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
        logits = self.model(images, is_training=True, limits=limits)
        loss = classification_loss(
            logits, labels, own_share, self._train, self._class_weights
        )
        if own_share is not None:
            labels = dominant_labels(labels, own_share)
        return ForwardPass(logits, labels, loss)

    def _scale(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate."""
        return loss if self.loss_scale is None else loss * self.loss_scale.scale

    def _reduce(self, gradients, forward: ForwardPass):
        """Sums the gradients and averages the loss over the replicas."""
        gradients = self._replicas.sum(gradients)
        [loss] = self._replicas.sum([self._replicas.share(forward.loss)])
        return gradients, forward._replace(loss=loss)

    def _add_penalty(self, gradients, penalty_gradients) -> list[tf.Tensor]:
        """The gradients of the whole loss."""
        variables = self._regularized_variables()
        penalties = {v.ref(): p for v, p in zip(variables, penalty_gradients)}
        pairs = zip(self.model.trainable_variables, gradients)
        return [g + penalties[v.ref()] if v.ref() in penalties else g for v, g in pairs]

    def _regularized_variables(self) -> Sequence[tf.Variable]:
        """The variables under the l2 penalty."""
        if self._train.l2_penalty_on == "all":
            return self.model.trainable_variables
        return self.model.kernels

    @traced
    def is_finite(self) -> tf.Tensor:
        """Whether every variable is finite; bool scalar."""
        floats = [v for v in self.variables if v.dtype.is_floating]
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in floats])


def create_training(
    num_classes: int,
    model: ModelConfig,
    train: TrainConfig,
    statistics: ChannelStatistics,
    replicas: Devices = ONE_DEVICE,
    stages: Sequence[Stage] = STAGES,
    class_weights: np.ndarray | None = None,
) -> Training:
    """Creates a ResNet50, its weights drawn from the seed, and its Training."""
    same = {"settings": model, "stages": stages, "seed": train.seed}
    with replicas.scope():
        network = ResNet50(
            num_classes,
            **same,
            precision=train.precision,
            pools_by_slices=train.xla,
            pads_in_op=replicas.has_gpu and not train.xla,
            is_synchronized=model.synchronized_batch_norm and replicas.count > 1,
        )
        has_average = train.weight_average_decay > 0
        averaged = ResNet50(num_classes, **same) if has_average else None
    return Training(network, train, statistics, replicas, averaged, class_weights)
