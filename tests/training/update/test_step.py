"""Proves that a step is one pass and one trace, and what its checkpoint is called."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from resnet50.pixels import augmentation
from resnet50.training.update.gradients import regularized_variables
from resnet50.training.update.schedules import StepNumbers
from resnet50.training.update.step import create_training
from tests.network.test_layers import all_levels
from tests.settings import SETTINGS
from tests.training.tiny import (
    STATISTICS,
    TinyNetwork,
    TinyTraining,
    create_shallow_training,
)
from tests.training.tolerances import sum_bound


def create_batch():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 32, 32, 3)).astype(np.float16)
    return images, np.array([0, 1, 2, 0], np.int32)


@pytest.fixture(scope="module")
def trained():
    """A training after three steps of different learning rates, with their losses."""
    training = create_shallow_training(l2_penalty=1e-2)
    losses = [
        float(training.step(*create_batch(), None, StepNumbers(rate)))
        for rate in (0.0, 0.01, 0.02)
    ]
    return training, losses


def test_three_steps_are_traced_once(trained):
    training, _ = trained
    assert training._compiled_step.experimental_get_tracing_count() == 1


def test_a_step_moves_the_moving_statistics_once():
    training = create_shallow_training()
    images, labels = create_batch()
    layer = training.model.stem_normalization
    stem = training.model.stem_convolution(tf.cast(images, tf.float32))
    stem = tf.cast(stem, tf.float64)
    batch_mean = tf.reduce_mean(stem, [0, 1, 2]).numpy()
    magnitudes = tf.reduce_mean(tf.abs(stem), [0, 1, 2]).numpy()
    assert np.all(layer.moving_mean.numpy() == 0)
    training.step(images, labels, None, StepNumbers(0.0))
    decay = SETTINGS.model.moving_average_decay
    expected = (1 - decay) * batch_mean
    bound = (1 - decay) * sum_bound(4 * 16 * 16, magnitudes)
    assert np.all(np.abs(layer.moving_mean.numpy() - expected) < bound)


def test_the_returned_loss_has_the_l2_penalty(trained):
    training, losses = trained
    means = training.totals.means()
    expected = means["loss"] + means["l2_loss"]
    assert np.mean(losses) == pytest.approx(expected, rel=1e-5)
    assert means["l2_loss"] > 0.1


class WithBias(TinyNetwork):
    """A tiny network with a weight besides its kernel."""

    def __init__(self):
        super().__init__()
        self.bias = tf.Variable([1.0, -2.0, 3.0])

    def __call__(self, *arguments, **keywords):
        return super().__call__(*arguments, **keywords) + self.bias


def test_the_l2_penalty_may_include_gamma_beta_and_the_bias():
    """The penalty is half their squares, and its gradient themselves."""
    only, every = (
        TinyTraining(model=WithBias(), l2_penalty=0.1, l2_penalty_on=regularized)
        for regularized in ("kernels", "all")
    )
    for training in (only, every):
        batch = np.ones((2, 4, 4, 3), np.float32), np.array([0, 1], np.int32)
        training.step(*batch, None, StepNumbers(1.0))
    moved = only.model.bias - every.model.bias
    np.testing.assert_allclose(moved, [0.1, -0.2, 0.3], atol=1e-6)
    np.testing.assert_array_equal(only.model.kernel, every.model.kernel)
    more = every.totals.means()["l2_loss"] - only.totals.means()["l2_loss"]
    assert more == pytest.approx(0.1 / 2 * (1 + 4 + 9))


def test_all_and_kernels_of_the_network():
    """53 convolutions with gamma and beta each, and a classifier with its bias."""
    for regularized, expected in (("kernels", 54), ("all", 54 + 2 * 53 + 1)):
        train = dataclasses.replace(SETTINGS.train, l2_penalty_on=regularized)
        training = create_training(10, SETTINGS.model, train, STATISTICS)
        assert len(regularized_variables(training.model, training._train)) == expected


def test_a_step_on_uint8_images_is_one_on_normalized_images():
    images, shifts = all_levels()
    labels, numbers = np.array([0, 2], np.int32), StepNumbers(0.1)
    raw, ready = TinyTraining(), TinyTraining()
    normalized = augmentation.normalize_crops(images, shifts, STATISTICS)
    losses = [
        float(raw.step(images, labels, shifts, numbers)),
        float(ready.step(normalized, labels, None, numbers)),
    ]
    # Means over 256 pixels, rounded differently.
    bound = sum_bound(256, 1.0)
    assert losses[0] == pytest.approx(losses[1], rel=bound)
    np.testing.assert_allclose(raw.model.kernel, ready.model.kernel, atol=bound)


def test_names_in_a_checkpoint_are_those_of_old_checkpoints(tmp_path):
    training = create_shallow_training(
        precision="float16", accumulate_batches=2, weight_average_decay=0.9
    )
    path = tf.train.Checkpoint(training=training).write(str(tmp_path / "checkpoint"))
    found = dict(tf.train.list_variables(path))
    del found["_CHECKPOINTABLE_OBJECT_GRAPH"]

    statistics = ("gamma", "beta", "moving_mean", "moving_variance")
    block = [f"convolution{i}/kernel" for i in (1, 2, 3)] + ["projection/kernel"]
    block += [f"normalization{i}/{name}" for i in (1, 2, 3) for name in statistics]
    block += [f"projection_normalization/{name}" for name in statistics]
    network = ["stem_convolution/kernel", "classifier/kernel", "classifier/bias"]
    network += [f"stem_normalization/{name}" for name in statistics]
    network += [f"stages/{stage}/0/{name}" for stage in (0, 1) for name in block]
    # The velocities and sums belong to the trained variables in the order of names.
    trained = sorted(name for name in network if "moving" not in name)
    names = [f"model/{name}" for name in network]
    names += [f"average/{name}" for name in (*names, "num_updates")]
    for folder, variables in (
        ("optimizer/velocities", range(len(trained))),
        ("accumulation/sums", range(len(trained))),
        ("accumulation", ("num_batches", "num_lost")),
        ("loss_scale", ("num_finite", "scale")),
        ("totals", ("l2_loss", "loss", "num_batches", "num_images", "num_skipped")),
        ("totals", ("top1", "top5")),
    ):
        names += [f"{folder}/{variable}" for variable in variables]
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    assert set(found) == {f"training/{name}{suffix}" for name in names}
    for index, name in enumerate(trained):
        shape = found[f"training/model/{name}{suffix}"]
        for folder in ("optimizer/velocities", "accumulation/sums"):
            assert found[f"training/{folder}/{index}{suffix}"] == shape, name
