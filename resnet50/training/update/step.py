"""The training step: one update, with the gradients of one batch or of several.

With gradient accumulation several batches make one update: all but the last of a group
go through ``Training.accumulate``, the last through ``Training.step``. In float16 a
batch whose gradients are not finite leaves no trace: its changes to the moving
statistics are undone, and it does not count in the totals. Its update is skipped:
weights, velocities and averages stay.

Everything that a resumed run needs is a variable of ``Training``; see ``checkpoint``.
"""

import functools
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from resnet50.config.settings import ModelConfig, TrainConfig
from resnet50.network.model import STAGES, ResNet50, Stage
from resnet50.network.tracing import traced
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.training.devices.protocol import ONE_DEVICE, Devices
from resnet50.training.update.accumulation import Accumulation
from resnet50.training.update.averaging import WeightAverage
from resnet50.training.update.gradients import BatchGradients, regularized_variables
from resnet50.training.update.loss_scale import LossScale
from resnet50.training.update.optimizer import create_optimizer
from resnet50.training.update.schedules import StepNumbers
from resnet50.training.update.totals import Totals

Array: TypeAlias = np.ndarray | tf.Tensor


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
        self._replicas = replicas
        variables = model.trainable_variables
        self.loss_scale = self.accumulation = self.average = None
        with replicas.scope():
            decayed = regularized_variables(model, train)
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
        self._gradients = BatchGradients(
            model,
            train,
            statistics,
            replicas,
            self.totals,
            self.loss_scale,
            class_weights,
        )
        has_xla = bool(train.xla)
        self._compiled_step = replicas.compile(self._step, has_xla)
        self._compiled_accumulate = replicas.compile(self._accumulate, has_xla)

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
        self,
        images: Array,
        labels: Array,
        shifts: Array | None,
        numbers: StepNumbers | tf.Tensor,
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
        self,
        images: Array,
        labels: Array,
        shifts: Array | None,
        numbers: StepNumbers | tf.Tensor,
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
    ) -> tuple[tf.Tensor, ...]:
        """Copies the arguments of ``step`` to the device; keeps copies, and None.

        The numbers become one float32 vector.
        """
        if isinstance(numbers, StepNumbers):
            numbers = np.array(numbers, np.float32)
        return self._replicas.to_device(images, labels, shifts, numbers)

    def _step(self, images, labels, shifts, numbers):
        numbers = StepNumbers(*tf.unstack(numbers))
        loss, gradients, is_finite = self._gradients.compute(
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
        loss, *results = self._gradients.compute(images, labels, shifts, numbers)
        self.accumulation.add(*results)
        return loss

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
    create = functools.partial(
        ResNet50, num_classes, settings=model, stages=stages, seed=train.seed
    )
    with replicas.scope():
        network = create(
            precision=train.precision,
            pools_by_slices=bool(train.xla),
            pads_in_op=replicas.has_gpu and not train.xla,
            is_synchronized=model.synchronized_batch_norm and replicas.count > 1,
        )
        has_average = train.weight_average_decay > 0
        averaged = create() if has_average else None
    return Training(network, train, statistics, replicas, averaged, class_weights)
