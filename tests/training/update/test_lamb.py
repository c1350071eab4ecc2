"""Proves that LAMB is timm's, and that a skipped update changes nothing."""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.training.update.lamb import Lamb
from resnet50.training.update.schedules import StepNumbers
from tests.training.tiny import TinyTraining

# timm 1.0.31, timm.optim.lamb.Lamb, with weight_decay 0.02 for the first two variables
# and 0 for the third. Learning rate, factor of the gradients, values after the update.
TIMM = (
    (
        0.1,
        3.0,
        [0.3854793, -0.8843452, 1.882078, 0.3628201, -0.09999871, 0.0, 0.1999997, -0.2],
    ),
    (
        0.1,
        0.1,
        [
            0.2764707,
            -0.7740909,
            1.769334,
            0.4592306,
            -0.1075741,
            0.006527735,
            0.2865558,
            -0.2744116,
        ],
    ),
    (
        0.05,
        1.0,
        [
            0.2228556,
            -0.7199022,
            1.713998,
            0.4934313,
            -0.1118106,
            0.009857671,
            0.3327958,
            -0.3106776,
        ],
    ),
    (
        0.05,
        0.0,
        [
            0.1711736,
            -0.6675459,
            1.660294,
            0.5262429,
            -0.1162222,
            0.01332682,
            0.3706729,
            -0.3403846,
        ],
    ),
    (
        0.02,
        0.5,
        [
            0.1499308,
            -0.6460404,
            1.638263,
            0.528312,
            -0.117937,
            0.01491858,
            0.3866671,
            -0.3551936,
        ],
    ),
    (
        0.01,
        2.0,
        [
            0.1395679,
            -0.6355513,
            1.627522,
            0.5255731,
            -0.1187702,
            0.01576642,
            0.394789,
            -0.3634364,
        ],
    ),
)


def create():
    """A kernel, a decayed variable of zeros, a bias without decay; and their Lamb."""
    kernel = tf.Variable([[0.5, -1.0], [2.0, 0.25]])
    variables = [kernel, tf.Variable(tf.zeros(2)), tf.Variable([0.1, -0.2])]
    return variables, Lamb(variables, variables[:2], weight_decay=0.02)


def gradients_at(t, factor):
    kernel = [[1.0, -2.0], [0.5, t - 2.0]]
    return [
        factor * tf.constant(g) for g in (kernel, [0.25, -1.0 * t], [-1.0, 0.5 * t])
    ]


def values(variables):
    return np.concatenate([variable.numpy().ravel() for variable in variables])


def test_six_updates_are_those_of_timm():
    variables, optimizer = create()
    for t, (rate, factor, expected) in enumerate(TIMM):
        optimizer.apply_gradients(gradients_at(t, factor), tf.constant(rate))
        np.testing.assert_allclose(values(variables), expected, rtol=1e-5, atol=1e-6)


def test_skipped_updates_change_nothing():
    """Before the first update, and between two."""
    variables, optimizer = create()
    for t, (rate, factor, expected) in enumerate(TIMM[:2]):
        before = values([*variables, *optimizer.variables])
        zeros = [tf.zeros_like(variable) for variable in variables]
        optimizer.apply_gradients(zeros, tf.constant(rate), tf.constant(False))
        np.testing.assert_array_equal(
            values([*variables, *optimizer.variables]), before
        )
        optimizer.apply_gradients(
            gradients_at(t, factor), tf.constant(rate), tf.constant(True)
        )
        np.testing.assert_allclose(values(variables), expected, rtol=1e-5, atol=1e-6)


def test_without_weight_decay_no_step_depends_on_the_weights():
    steps = []
    for start in (1.0, 10.0):
        variable = tf.Variable([start])
        optimizer = Lamb([variable], [variable], weight_decay=0.0)
        optimizer.apply_gradients([tf.constant([0.5])], 0.25)
        steps.append(start - variable.numpy()[0])
    # The first update is 1, for any gradient.
    assert steps == pytest.approx([0.25, 0.25], abs=1e-5)


def test_a_training_decays_the_kernels_and_resumes_from_a_checkpoint(tmp_path):
    settings = {"optimizer": "lamb", "l2_penalty": 0.0, "weight_decay": 0.1}
    training, resumed = (TinyTraining(**settings) for _ in range(2))
    plain = TinyTraining(**{**settings, "weight_decay": 0.0})

    def train(training, steps):
        images = tf.one_hot([0, 1, 2, 2], 3)[:, None, None, :]  # [4, 1, 1, 3]
        batch = images, tf.constant([0, 1, 2, 2]), None
        return [float(training.step(*batch, StepNumbers(0.2))) for _ in range(steps)]

    losses = train(training, 10)
    assert losses[-1] < losses[0] / 2
    assert train(plain, 10) != losses
    path = tf.train.Checkpoint(training=training).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(training=resumed).read(path).assert_consumed()
    assert train(resumed, 3) == train(training, 3)
