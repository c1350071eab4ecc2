"""Numbers that change from step to step: pure functions of the step.

A step is a batch's position since the start of training, from 0: epoch *
batches_per_epoch + batch_index. Nothing here has a state, so a resumed run continues
with the same numbers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

SCHEDULES = ("constant", "step", "cosine")


class StepNumbers(NamedTuple):
    """The numbers that change from step to step.

    The compiled step takes them as one array: TensorFlow keeps each Python number that
    becomes a tensor for ever, 0.8 kB for each value.
    """

    learning_rate: float
    r_max: float = 1.0  # See normalization.BatchRenormalization.
    d_max: float = 0.0
    mixing_share: float = 1.0  # 0..1; only mixup reads it.


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
        cosine      base_learning_rate * (1 + cos(pi * progress)) / 2 with
                    progress = (step - warmup_steps) / (total_steps - warmup_steps)

    The cosine (Loshchilov and Hutter 2016, arXiv 1608.03983, without restarts) is 0 at
    total_steps, one step after the last.

    Args:
        step: From 0.
        base_learning_rate: The learning rate at the end of the warm-up.
        schedule: One of SCHEDULES.
        total_steps: Steps of the whole training; only cosine uses it.
        warmup_steps: 0 for no warm-up.
        decay_steps: The first step of each lower rate; only step uses it.
        decay_factor: Factor at each of decay_steps; only step uses it.
    """
    assert schedule in SCHEDULES, schedule
    if step < warmup_steps:
        return base_learning_rate * (step + 1) / (warmup_steps + 1)
    if schedule == "step":
        num_decays = sum(step >= decay_step for decay_step in decay_steps)
        return base_learning_rate * decay_factor**num_decays
    if schedule == "cosine":
        progress = _ramp(step, warmup_steps, total_steps)
        return base_learning_rate * (1 + math.cos(math.pi * progress)) / 2
    return base_learning_rate


def renorm_limits_at(
    step: int,
    *,
    r_max: float,
    r_start_step: int,
    r_end_step: int,
    d_max: float,
    d_start_step: int,
    d_end_step: int,
) -> tuple[float, float]:
    """Returns batch renormalization's limits (r_max, d_max) of a step.

    Until its start step each limit is that of plain batch normalization, 1 and 0. It
    then rises linearly to its final value, which it has from its end step on. Ioffe
    2017 (arXiv 1702.03275, section 4): r_max from 1 to 3 between steps 5,000 and
    40,000, d_max from 0 to 5 between steps 5,000 and 25,000.

    Args:
        step: From 0.
        r_max: Final limit of r, at least 1.
        r_start_step: Last step at which r is 1.
        r_end_step: First step of the final r_max.
        d_max: Final limit of d, at least 0.
        d_start_step: Last step at which d is 0.
        d_end_step: First step of the final d_max.
    """
    return (
        1 + (r_max - 1) * _ramp(step, r_start_step, r_end_step),
        d_max * _ramp(step, d_start_step, d_end_step),
    )


def is_update_at(step: int, *, batches_per_epoch: int, accumulate_batches: int) -> bool:
    """Whether a step ends a group of batches, whose mean gradient is then applied.

    With k = accumulate_batches, the groups are each epoch's batches 0 to k-1, k to 2k-1
    and so on. The last group of an epoch may be smaller, so nothing is pending between
    two epochs.

    Args:
        step: From 0.
        batches_per_epoch: Steps of an epoch.
        accumulate_batches: Batches in a group, at least 1.
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
