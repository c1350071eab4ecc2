"""Proves that batches of a group train like one large batch, also across a restart."""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.network.model import ResNet50
from resnet50.training.update.schedules import StepNumbers
from tests.training.tiny import TinyTraining, create_shallow_training
from tests.training.tolerances import UNIT_ROUNDOFF, difference, joined, make_smooth

NUMBERS = StepNumbers(0.1)


def create_images(num_images, size=32):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((num_images, size, size, 3), np.float32)
    return images, (np.arange(num_images) % 3).astype(np.int32)


def train_group(training, images, labels, num_parts):
    """One update from batches of equal size."""
    parts = list(zip(np.split(images, num_parts), np.split(labels, num_parts)))
    for number, (some_images, some_labels) in enumerate(parts, start=1):
        batch = (
            tf.constant(some_images),
            tf.constant(some_labels),
            None,
            NUMBERS,
        )
        if number < num_parts:
            training.accumulate(*batch)
        else:
            training.step(*batch)


def freeze_statistics(monkeypatch):
    """Lets networks normalize with the moving statistics in training too."""
    call = ResNet50.__call__

    def evaluate(network, images, is_training, limits):
        return call(network, images, is_training=False)

    monkeypatch.setattr(ResNet50, "__call__", evaluate)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_parts_of_a_batch_make_the_update_of_the_whole(precision, monkeypatch):
    make_smooth(monkeypatch)
    freeze_statistics(monkeypatch)
    images, labels = create_images(12)
    whole = create_shallow_training(precision=precision)
    parts = create_shallow_training(precision=precision, accumulate_batches=3)
    first = joined(whole.model.variables)
    for training, num_parts in ((whole, 1), (parts, 3)):
        for _ in range(2):  # The second update is of what the first has left.
            train_group(training, images, labels, num_parts)
    # Each value is rounded some 20 times, and a gradient is a float32 sum over the
    # 16 * 16 pixels of 12 images: errors that add up like random walks. The 2-norm is
    # compared, because a single value that nearly cancels out may be all rounding. Each
    # of the two updates then rounds the weights.
    unit = UNIT_ROUNDOFF["float32"]
    tolerance = 10 * (UNIT_ROUNDOFF[precision] + (12 * 16 * 16) ** 0.5 * unit)
    ours, theirs = (joined(t.optimizer.variables) for t in (parts, whole))
    assert difference(ours, theirs) < tolerance
    ours, theirs = (joined(t.model.variables) - first for t in (parts, whole))
    bound = tolerance * np.linalg.norm(theirs) + 4 * unit * np.linalg.norm(first)
    assert np.linalg.norm(ours - theirs) < bound
    assert parts.totals.means() == pytest.approx(whole.totals.means(), rel=tolerance)
    assert int(parts.totals.num_batches) == 3 * int(whole.totals.num_batches) == 6


def test_nothing_but_the_update_waits():
    training = create_shallow_training(accumulate_batches=2)
    images, labels = create_images(4)
    before = [v.numpy() for v in training.model.trainable_variables]
    training.accumulate(images, labels, None, NUMBERS)
    for variable, value in zip(training.model.trainable_variables, before):
        np.testing.assert_array_equal(variable, value)
    # The statistics are each batch's.
    assert np.any(training.model.stem_normalization.moving_mean)
    assert int(training.totals.num_batches) == 1
    assert any(np.any(total) for total in training.accumulation.sums)
    training.step(images, labels, None, NUMBERS)
    assert not any(np.any(total) for total in training.accumulation.sums)
    assert int(training.accumulation.num_batches) == 0


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_an_overflow_in_one_batch_skips_the_group(lost):
    training = TinyTraining(precision="float16", accumulate_batches=3)
    images, labels = create_images(6, 4)
    images[2 * lost] = np.inf
    before = [v.numpy() for v in (training.model.kernel, *training.optimizer.variables)]
    train_group(training, images, labels, 3)
    for variable, value in zip(
        (training.model.kernel, *training.optimizer.variables), before
    ):
        np.testing.assert_array_equal(variable, value)
    assert float(training.loss_scale.scale) == 2.0**14  # Halved once.
    assert int(training.totals.num_skipped) == 1
    assert int(training.totals.num_batches) == 2  # The sound ones count.
    assert training.is_finite()
    train_group(training, np.nan_to_num(images, posinf=0), labels, 3)
    assert np.any(training.model.kernel.numpy() != before[0])
    assert int(training.totals.num_skipped) == 1


def test_without_groups_there_is_nothing_to_hold_them():
    plain, grouping = TinyTraining(), TinyTraining(accumulate_batches=2)
    assert plain.accumulation is None
    num_more = len(grouping.variables) - len(plain.variables)
    assert num_more == len(plain.model.trainable_variables) + 2
    assert plain.loss_scale is None


def test_class_weights_do_not_depend_on_the_parts_of_a_batch():
    """One part has only images of a heavy class: its mean must stay heavy."""
    images, labels = create_images(6, size=4)
    labels = np.sort(labels)
    weights = np.array([0.1, 1, 5], np.float32)
    whole = TinyTraining(class_weights=weights)
    parts = TinyTraining(class_weights=weights, accumulate_batches=3)
    unweighted = TinyTraining()
    for training, num_parts in ((whole, 1), (parts, 3), (unweighted, 1)):
        train_group(training, images, labels, num_parts)
    kernels = [t.model.kernel.numpy() for t in (whole, parts, unweighted)]
    np.testing.assert_allclose(kernels[1], kernels[0], rtol=1e-5, atol=1e-7)
    assert np.abs(kernels[2] - kernels[0]).max() > 1e-3
