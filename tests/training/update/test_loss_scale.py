"""Proves when the loss scale moves, and which loss a lost batch reports."""

import math

import pytest
import tensorflow as tf

from resnet50.training.update import loss_scale
from resnet50.training.update.loss_scale import LossScale

YES, NO = tf.constant(True), tf.constant(False)


def state(scale):
    return float(scale.scale), int(scale.num_finite)


def test_it_halves_at_once_and_not_below_one():
    scale = LossScale()
    assert state(scale) == (32768, 0)
    for expected in (16384, 8192):
        scale.update(NO)
        assert state(scale) == (expected, 0)
    scale.scale.assign(1)
    scale.update(NO)
    assert state(scale) == (1, 0)


def test_it_doubles_after_2000_finite_updates_in_a_row():
    scale = LossScale()
    scale.num_finite.assign(1998)
    scale.update(YES)
    assert state(scale) == (32768, 1999)
    scale.update(YES)
    assert state(scale) == (65536, 0)
    scale.num_finite.assign(1999)
    scale.update(NO)
    assert state(scale) == (32768, 0)
    scale.update(YES)
    assert state(scale) == (32768, 1)


def test_it_has_a_highest_value():
    scale = LossScale()
    scale.scale.assign(loss_scale.MAX_SCALE)
    scale.num_finite.assign(1999)
    scale.update(YES)
    assert state(scale) == (2.0**24, 0)


def test_gradients_are_divided_exactly():
    scale = LossScale()
    gradients = [tf.constant([1e-3, -7.0]), tf.constant(3.0)]
    unscaled, is_finite = scale.unscale([g * scale.scale for g in gradients])
    assert is_finite
    for found, expected in zip(unscaled, gradients, strict=True):
        assert found.numpy().tobytes() == expected.numpy().tobytes()


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_one_bad_value_makes_all_gradients_zero(bad):
    unscaled, is_finite = LossScale().unscale(
        [tf.constant([1.0, bad]), tf.constant([2.0])]
    )
    assert not is_finite
    assert [g.numpy().tolist() for g in unscaled] == [[0, 0], [0]]


def test_a_lost_batch_is_an_error_at_the_lowest_scale_only():
    scale, loss = LossScale(), tf.constant(math.nan)
    assert float(scale.reported_loss(tf.constant(2.5), YES)) == 2.5
    assert float(scale.reported_loss(loss, NO)) == 0
    scale.scale.assign(1)
    assert math.isnan(scale.reported_loss(loss, NO))
    # Also where the loss itself is finite: the gradients are not, even unscaled.
    assert math.isnan(scale.reported_loss(tf.constant(2.5), NO))
