"""Proves the running average of the weights by hand, and that it is a network's."""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.training.update.averaging import WeightAverage
from resnet50.training.update.schedules import StepNumbers
from tests.training.tiny import TinyTraining, create_shallow_training


class OneVariable(tf.Module):
    def __init__(self, value):
        super().__init__()
        self.variable = tf.Variable(value)


def test_the_average_over_four_updates_by_hand():
    source = OneVariable([1.0])
    average = WeightAverage(OneVariable([7.0]), source.variables, decay=0.25)
    assert average.model.variable.numpy() == [1.0]  # Starts as a copy.
    expected = 1.0
    # The ramp: 9 / 10, 9 / 11, 9 / 12, and then less than 1 - 0.25.
    for value, share in ((2.0, 9 / 10), (3.0, 9 / 11), (0.0, 9 / 12), (1.0, 0.75)):
        source.variable.assign([value])
        average.update()
        expected = expected - share * (expected - value)
        # Three roundings for each update, of numbers up to 3.
        assert average.model.variable.numpy() == pytest.approx([expected], rel=4e-6)
    assert int(average.num_updates) == 4


def test_it_is_tensorflow_s_own_average_with_its_ramp():
    source = OneVariable([1.0])
    ours = WeightAverage(OneVariable([0.0]), source.variables, decay=0.9)
    num_updates = tf.Variable(0)
    theirs = tf.train.ExponentialMovingAverage(0.9, num_updates=num_updates)
    # Theirs starts at its first call, with the value itself.
    theirs.apply(source.variables)
    for step in range(200):
        source.variable.assign([np.sin(step)])
        theirs.apply(source.variables)
        ours.update()
        num_updates.assign_add(1)
    found = ours.model.variable.numpy()
    assert found == pytest.approx(theirs.average(source.variable).numpy(), rel=1e-4)


def trained(decay):
    training = create_shallow_training(weight_average_decay=decay)
    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype("f2")
    labels = np.array([0, 1, 2, 0], "i4")
    for rate in (0.01, 0.02):
        training.step(images, labels, None, StepNumbers(rate))
    return training


def test_a_network_s_average_changes_nothing_else_and_has_its_statistics_too():
    plain, averaged = trained(0.0), trained(0.9)
    assert plain.average is None
    names = {v.name for v in averaged.average.variables}
    assert len(averaged.variables) == len(plain.variables) + 1 + len(
        averaged.model.variables
    )
    assert any("moving_mean" in name for name in names)
    for first, second in zip(plain.model.variables, averaged.model.variables):
        np.testing.assert_array_equal(first.numpy(), second.numpy())
    pairs = zip(averaged.average.model.variables, averaged.model.variables, strict=True)
    moved = [(a.numpy() != v.numpy()).any() for a, v in pairs if "moving" in v.name]
    assert all(moved)
    assert len(moved) == 2 * 9  # The stem's, and four of each block.
    assert averaged._compiled_step.experimental_get_tracing_count() == 1


def test_a_skipped_update_leaves_the_average():
    training = TinyTraining(precision="float16", weight_average_decay=0.5)
    images = tf.random.stateless_uniform([4, 32, 32, 3], [1, 2])
    labels = tf.constant([0, 1, 2, 0])
    before = [v.numpy() for v in training.average.variables]
    training.step(images * np.inf, labels, None, StepNumbers(0.1))
    for variable, expected in zip(training.average.variables, before):
        np.testing.assert_array_equal(variable, expected)
    training.step(images, labels, None, StepNumbers(0.1))
    assert int(training.average.num_updates) == 1
    assert any(
        np.any(v.numpy() != b) for v, b in zip(training.average.variables, before)
    )
