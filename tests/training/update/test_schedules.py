"""Proves the schedules' values by hand, above all at their boundaries."""

import pytest

from resnet50.config.settings import BatchRenormConfig
from resnet50.training.update.schedules import (
    SCHEDULES,
    is_update_at,
    learning_rate_at,
    renorm_limits_at,
)


def rate_at(step, **changes):
    settings = {
        "base_learning_rate": 0.1,
        "schedule": "constant",
        "total_steps": 100,
        "warmup_steps": 0,
        "decay_steps": [30, 60, 80],
        "decay_factor": 0.1,
    }
    return learning_rate_at(step, **(settings | changes))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_rises_linearly_to_exactly_the_base(schedule):
    # Shares of 1 / (4 + 1) = 0.02 each.
    rates = [rate_at(step, schedule=schedule, warmup_steps=4) for step in range(4)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08])
    assert rate_at(4, schedule=schedule, warmup_steps=4) == 0.1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warm_up_the_first_step_has_the_base(schedule):
    assert rate_at(0, schedule=schedule) == 0.1


def test_constant_stays():
    assert {rate_at(step) for step in (0, 29, 30, 99, 1000)} == {0.1}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (29, 0.1),
        (30, 0.01),
        (59, 0.01),
        (60, 0.001),
        (79, 0.001),
        (80, 0.0001),
        (99, 0.0001),
    ],
)
def test_step_falls_at_each_boundary(step, expected):
    assert rate_at(step, schedule="step") == pytest.approx(expected)


def test_step_without_boundaries_stays():
    assert rate_at(99, schedule="step", decay_steps=[]) == 0.1


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (20, 0.1),
        (40, 0.1 * (1 + 0.5**0.5) / 2),  # a quarter of the way: cos(pi / 4)
        (60, 0.05),
        (100, 0.0),
        (120, 0.0),
    ],
)
def test_cosine_falls_from_the_end_of_the_warm_up_to_zero(step, expected):
    rate = rate_at(step, schedule="cosine", warmup_steps=20)
    assert rate == pytest.approx(expected)


def test_linear_falls_from_the_end_of_the_warm_up_to_zero():
    steps = (19, 20, 40, 60, 99, 100, 120)
    rates = [rate_at(step, schedule="linear", warmup_steps=20) for step in steps]
    expected = [0.1 * 20 / 21, 0.1, 0.075, 0.05, 0.1 / 80, 0, 0]
    assert rates == pytest.approx(expected)


def test_cosine_with_a_training_shorter_than_its_warm_up_only_warms_up():
    rates = [
        rate_at(step, schedule="cosine", warmup_steps=4, total_steps=2)
        for step in range(3)
    ]
    assert rates == pytest.approx([0.02, 0.04, 0.06])


def test_an_unknown_schedule_is_refused():
    with pytest.raises(AssertionError, match="square"):
        rate_at(0, schedule="square")


@pytest.mark.parametrize(
    ("step", "r_max", "d_max"),
    [
        (0, 1.0, 0.0),
        (5_000, 1.0, 0.0),
        (15_000, 1 + 2 * 10 / 35, 2.5),  # 10 of 35 thousand steps; 10 of 20
        (25_000, 1 + 2 * 20 / 35, 5.0),
        (40_000, 3.0, 5.0),
        (90_000, 3.0, 5.0),
    ],
)
def test_renorm_limits_at_ioffe_s_boundaries(step, r_max, d_max):
    renorm = BatchRenormConfig(
        r_max=3.0,
        r_start_step=5_000,
        r_end_step=40_000,
        d_max=5.0,
        d_start_step=5_000,
        d_end_step=25_000,
    )
    assert renorm_limits_at(step, renorm) == pytest.approx((r_max, d_max))


def test_renorm_limits_without_a_ramp_jump():
    steps = {"r_start_step": 7, "r_end_step": 7, "d_start_step": 0, "d_end_step": 0}
    renorm = BatchRenormConfig(r_max=3.0, d_max=5.0, **steps)
    assert renorm_limits_at(6, renorm) == (1.0, 5.0)
    assert renorm_limits_at(7, renorm) == (3.0, 5.0)


@pytest.mark.parametrize(
    ("accumulate_batches", "expected"),
    [
        (1, range(10)),
        (2, [1, 3, 4, 6, 8, 9]),  # Epochs of 5: two pairs, and one that is left.
        (5, [4, 9]),
        (7, [4, 9]),
    ],
)
def test_updates_end_the_groups_of_an_epoch(accumulate_batches, expected):
    found = [
        step
        for step in range(10)
        if is_update_at(
            step, batches_per_epoch=5, accumulate_batches=accumulate_batches
        )
    ]
    assert found == list(expected)
