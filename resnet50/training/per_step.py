"""The numbers that change from step to step, computed from config.txt."""

from resnet50.config.settings import BatchRenormConfig, TrainConfig
from resnet50.training.update.mixup import mixing_share_at
from resnet50.training.update.schedules import (
    StepNumbers,
    is_update_at,
    learning_rate_at,
    renorm_limits_at,
)


class PerStepNumbers:
    """Computes a step's numbers with the functions of ``schedules`` and ``mixup``."""

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
        train, share = self._train, 1.0
        if train.mixup_alpha:
            share = mixing_share_at(step, seed=train.seed, alpha=train.mixup_alpha)
        r_max, d_max = renorm_limits_at(step, **vars(self._renorm))
        return StepNumbers(self.learning_rate(step), r_max, d_max, share)

    def _to_steps(self, epochs: float) -> int:
        return round(epochs * self._batches_per_epoch)
