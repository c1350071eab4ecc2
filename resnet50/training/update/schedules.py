"""Numbers that change from step to step: pure functions of the step.

A step is a batch's position since the start of training, from 0: epoch *
batches_per_epoch + batch_index. Nothing here has a state, so a resumed run continues
with the same numbers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from resnet50.config.settings import BatchRenormConfig, TrainConfig
from resnet50.training.update.mixing import Mix, mix_at

SCHEDULES = ("constant", "step", "linear", "cosine")


class StepNumbers(NamedTuple):
    """The numbers that change from step to step.

    The compiled step takes them as one array: TensorFlow keeps each Python number that
    becomes a tensor for ever, 0.8 kB for each value.
    """

    learning_rate: float
    r_max: float = 1.0  # See normalization.BatchRenormalization.
    d_max: float = 0.0
    # See mixing.Mix.
    mixing_share: float = 1.0
    box_reach: float = 0.0
    box_x: float = 0.0
    box_y: float = 0.0

    @property
    def mix(self) -> Mix:
        """How mixup or CutMix mixes the batch."""
        return Mix(self.mixing_share, self.box_reach, self.box_x, self.box_y)


def learning_rate_at(
    step: int,
    *,
    base_learning_rate: float,
    schedule: str,
    total_steps: int,
    warmup_steps: int,
    decay_steps: Sequence[int],
    decay_factor: float,
) -> float:
    """Returns the learning rate of a step.

    Up to warmup_steps it rises linearly, whatever the schedule (Goyal et al. 2017,
    arXiv 1706.02677, section 2.2), starting above 0:

        base_learning_rate * (step + 1) / (warmup_steps + 1)

    which is exactly base_learning_rate at warmup_steps. From there on:

        constant    base_learning_rate
        step        base_learning_rate * decay_factor^n, after n of the decay_steps
        linear      base_learning_rate * (1 - progress) with
                    progress = (step - warmup_steps) / (total_steps - warmup_steps)
        cosine      base_learning_rate * (1 + cos(pi * progress)) / 2

    The line and the cosine (Loshchilov and Hutter 2016, arXiv 1608.03983, without
    restarts) are 0 at total_steps, one step after the last. Each of decay_steps is the
    first step of a lower rate.
    """
    assert schedule in SCHEDULES, schedule
    if step < warmup_steps:
        return base_learning_rate * (step + 1) / (warmup_steps + 1)
    if schedule == "step":
        num_decays = sum(step >= decay_step for decay_step in decay_steps)
        return base_learning_rate * decay_factor**num_decays
    progress = _ramp(step, warmup_steps, total_steps)
    if schedule == "linear":
        return base_learning_rate * (1 - progress)
    if schedule == "cosine":
        return base_learning_rate * (1 + math.cos(math.pi * progress)) / 2
    return base_learning_rate


def renorm_limits_at(step: int, renorm: BatchRenormConfig) -> tuple[float, float]:
    """Returns batch renormalization's limits (r_max, d_max) of a step.

    Until its start step each limit is that of plain batch normalization, 1 and 0. It
    then rises linearly to its final value, which it has from its end step on. Ioffe
    2017 (arXiv 1702.03275, section 4): r_max from 1 to 3 between steps 5,000 and
    40,000, d_max from 0 to 5 between steps 5,000 and 25,000.
    """
    return (
        1 + (renorm.r_max - 1) * _ramp(step, renorm.r_start_step, renorm.r_end_step),
        renorm.d_max * _ramp(step, renorm.d_start_step, renorm.d_end_step),
    )


def is_update_at(step: int, *, batches_per_epoch: int, accumulate_batches: int) -> bool:
    """Whether a step ends a group of batches, whose mean gradient is then applied.

    With k = accumulate_batches, the groups are each epoch's batches 0 to k-1, k to 2k-1
    and so on. The last group of an epoch may be smaller, so nothing is pending between
    two epochs.
    """
    end = step % batches_per_epoch + 1
    return end % accumulate_batches == 0 or end == batches_per_epoch


def _ramp(step: int, start_step: int, end_step: int) -> float:
    """Returns 0 up to start_step, 1 from end_step on, and linear values between."""
    if step >= end_step:
        return 1.0
    if step <= start_step:
        return 0.0
    return (step - start_step) / (end_step - start_step)


class PerStepNumbers:
    """Computes the numbers that change from step to step from config.txt."""

    def __init__(
        self, train: TrainConfig, renorm: BatchRenormConfig, batches_per_epoch: int
    ):
        """Converts the configuration's epochs to steps."""
        self._train, self._renorm = train, renorm
        self._batches_per_epoch = batches_per_epoch

    def is_update(self, step: int) -> bool:
        """Whether a step ends a group of batches and updates the weights."""
        return is_update_at(
            step,
            batches_per_epoch=self._batches_per_epoch,
            accumulate_batches=self._train.accumulate_batches,
        )

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        train = self._train
        return learning_rate_at(
            step,
            base_learning_rate=train.learning_rate,
            schedule=train.schedule,
            total_steps=self._to_steps(train.epochs),
            warmup_steps=self._to_steps(train.warmup_epochs),
            decay_steps=[self._to_steps(epoch) for epoch in train.decay_epochs],
            decay_factor=train.decay_factor,
        )

    def at(self, step: int) -> StepNumbers:
        """All numbers of a step."""
        train, mix = self._train, Mix()
        if train.mixup_alpha or train.cutmix_alpha:
            mix = mix_at(
                step,
                seed=train.seed,
                mixup_alpha=train.mixup_alpha,
                cutmix_alpha=train.cutmix_alpha,
            )
        r_max, d_max = renorm_limits_at(step, self._renorm)
        return StepNumbers(self.learning_rate(step), r_max, d_max, *mix)

    def _to_steps(self, epochs: float) -> int:
        return round(epochs * self._batches_per_epoch)
