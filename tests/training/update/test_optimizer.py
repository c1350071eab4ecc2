"""Proves the momentum convention by hand, and that a checkpoint keeps the velocities.

The checkpoint must not list the weights a second time.
"""

import pytest
import tensorflow as tf

from resnet50.training.update.optimizer import SGDMomentum


def test_momentum_over_three_steps_by_hand():
    weights = tf.Variable([1.0, -2.0])
    optimizer = SGDMomentum([weights], momentum=0.5)
    steps = (
        # gradient, learning rate    velocity            weights
        ([1.0, 4.0], 0.5, [1.0, 4.0], [0.5, -4.0]),
        ([2.0, 0.0], 0.5, [2.5, 2.0], [-0.75, -5.0]),
        # The learning rate is not in the velocity: a tenth of it, a tenth of the step.
        ([0.0, 1.0], 0.05, [1.25, 2.0], [-0.8125, -5.1]),
    )
    for gradient, learning_rate, velocity, expected in steps:
        optimizer.apply_gradients([tf.constant(gradient)], tf.constant(learning_rate))
        assert optimizer.velocities[0].numpy() == pytest.approx(velocity)
        assert weights.numpy() == pytest.approx(expected)


def test_nesterov_over_three_steps_by_hand():
    weights = tf.Variable([1.0])
    optimizer = SGDMomentum([weights], momentum=0.5, use_nesterov=True)
    steps = (
        # gradient, velocity, gradient + momentum * velocity, learning rate, weight
        (1.0, 1.0, 1.5, 0.5, 0.25),
        (2.0, 2.5, 3.25, 0.5, -1.375),
        (-1.0, 0.25, -0.875, 0.05, -1.33125),
    )
    for gradient, velocity, update, learning_rate, expected in steps:
        optimizer.apply_gradients([tf.constant([gradient])], tf.constant(learning_rate))
        assert update == gradient + 0.5 * velocity
        assert optimizer.velocities[0].numpy() == pytest.approx([velocity])
        assert weights.numpy() == pytest.approx([expected])


@pytest.mark.parametrize("use_nesterov", [False, True])
def test_twenty_steps_are_those_of_keras(use_nesterov):
    ours, theirs = tf.Variable([1.0, -2.0]), tf.Variable([1.0, -2.0])
    optimizer = SGDMomentum([ours], momentum=0.9, use_nesterov=use_nesterov)
    reference = tf.keras.optimizers.SGD(0.1, momentum=0.9, nesterov=use_nesterov)
    for step in range(20):
        optimizer.apply_gradients([2 * ours + step], 0.1)
        reference.apply_gradients([(2 * theirs + step, theirs)])
    assert ours.numpy() == pytest.approx(theirs.numpy(), rel=1e-5)


def test_each_variable_gets_its_own_gradient_and_velocity():
    matrix, bias = tf.Variable([[1.0, 1.0]]), tf.Variable([1.0])
    optimizer = SGDMomentum([matrix, bias], momentum=0.9)
    for _ in range(2):
        gradients = [tf.constant([[1.0, 2.0]]), tf.constant([10.0])]
        optimizer.apply_gradients(gradients, 0.1)
    # Two steps of velocities g and 1.9 g: weights 1 - 0.1 * 2.9 g.
    assert matrix.numpy()[0] == pytest.approx([0.71, 0.42])
    assert bias.numpy() == pytest.approx([-1.9])


def test_a_gradient_too_few_is_refused():
    optimizer = SGDMomentum([tf.Variable(1.0), tf.Variable(1.0)], momentum=0.9)
    with pytest.raises(ValueError, match="shorter"):
        optimizer.apply_gradients([tf.constant(1.0)], 0.1)


def test_learning_rates_as_tensors_do_not_retrace():
    weights = tf.Variable([1.0])
    optimizer = SGDMomentum([weights], momentum=0.0)
    make_step = tf.function(
        lambda learning_rate: optimizer.apply_gradients(
            [tf.constant([1.0])], learning_rate
        )
    )
    for learning_rate in (0.5, 0.25, 0.125):
        make_step(tf.constant(learning_rate))
    assert weights.numpy() == pytest.approx([0.125])
    assert make_step.experimental_get_tracing_count() == 1


def test_checkpoint_holds_the_velocities_and_only_them(tmp_path):
    weights = tf.Variable([1.0])
    optimizer = SGDMomentum([weights], momentum=0.5)
    optimizer.apply_gradients([tf.constant([2.0])], 0.1)
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    names = [name for name, _ in tf.train.list_variables(path)]
    assert [name for name in names if name.startswith("optimizer")] == [
        "optimizer/velocities/0/.ATTRIBUTES/VARIABLE_VALUE"
    ]

    restored = SGDMomentum([tf.Variable([1.0])], momentum=0.5)
    tf.train.Checkpoint(optimizer=restored).read(path).assert_consumed()
    assert restored.velocities[0].numpy() == [2.0]
