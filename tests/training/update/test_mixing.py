"""Proves mixup and CutMix by hand and by torchvision, and that draws need no state."""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.training.update.loss import cross_entropy, label_targets
from resnet50.training.update.mixing import (
    Mix,
    box_mask,
    dominant_labels,
    mix_at,
    mix_images,
)
from resnet50.training.update.schedules import StepNumbers
from tests.training.tiny import TinyTraining

LEARNING_RATE = 0.1

# torchvision 0.29.1, v2.CutMix.make_params for images of 224 * 224. In place of its
# draws: lambda, x, y. Its results: left, top, right, bottom; and the new lambda.
TORCHVISION_BOXES = (
    (0.3, 50, 100, (0, 7, 143, 193), 0.469905931),
    (0.9, 0, 7, (0, 0, 35, 42), 0.970703125),
    (0.0, 112, 111, (0, 0, 224, 223), 0.004464286),
    (1.0, 3, 3, (3, 3, 3, 3), 1.0),
    (0.5, 223, 200, (144, 121, 224, 224), 0.835778061),
)


def on_device(mix):
    return Mix(*map(tf.constant, mix))


def test_shares_are_a_function_of_seed_and_step():
    def share_at(step, seed=3):
        mix = mix_at(step, seed=seed, mixup_alpha=0.2, cutmix_alpha=0.0)
        assert mix == Mix(mix.share)
        return mix.share

    shares = [share_at(step) for step in range(2000)]
    assert shares[1500] == share_at(1500)
    assert len(set(shares)) == 2000
    assert share_at(0, seed=4) != shares[0]
    assert 0 <= min(shares) < max(shares) <= 1
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.4), rel=0.05)


def test_boxes_have_the_drawn_area_and_any_centre():
    mixes = [mix_at(s, seed=3, mixup_alpha=0.0, cutmix_alpha=1.0) for s in range(2000)]
    assert {mix.share for mix in mixes} == {1}
    areas = [(2 * mix.box_reach) ** 2 for mix in mixes]
    assert 0 <= min(areas) < max(areas) <= 1
    # Uniform, as Beta(1, 1): the mean 1/2 and the variance 1/12.
    assert np.mean(areas) == pytest.approx(0.5, abs=0.03)
    assert np.var(areas) == pytest.approx(1 / 12, rel=0.05)
    for centres in ([mix.box_x for mix in mixes], [mix.box_y for mix in mixes]):
        assert np.mean(centres) == pytest.approx(0.5, abs=0.03)
    assert np.corrcoef([mix[1:] for mix in mixes], rowvar=False) == pytest.approx(
        np.eye(3), abs=0.1
    )


def test_with_both_half_of_the_batches_have_a_box():
    mixes = [mix_at(s, seed=3, mixup_alpha=0.2, cutmix_alpha=1.0) for s in range(2000)]
    has_box = [mix.box_reach > 0 for mix in mixes]
    assert np.mean(has_box) == pytest.approx(0.5, abs=0.05)
    assert all(box == (mix.share == 1) for box, mix in zip(has_box, mixes))
    shares = [mix.share for box, mix in zip(has_box, mixes) if not box]
    assert np.var(shares) == pytest.approx(1 / (4 * 1.4), rel=0.1)


@pytest.mark.parametrize("case", TORCHVISION_BOXES)
def test_boxes_are_those_of_torchvision(case):
    share, x, y, (left, top, right, bottom), new_share = case
    mix = Mix(1.0, 0.5 * (1 - share) ** 0.5, (x + 0.5) / 224, (y + 0.5) / 224)
    expected = np.zeros((224, 224), bool)
    expected[top:bottom, left:right] = True
    np.testing.assert_array_equal(box_mask(on_device(mix), 224), expected)
    images = tf.zeros((2, 224, 224, 3))
    _, own_share = mix_images(images, on_device(mix), has_boxes=True)
    assert float(own_share) == pytest.approx(new_share, abs=1e-6)


def test_a_box_shows_the_image_before():
    images = np.random.default_rng(0).standard_normal((3, 8, 8, 3)).astype("f2")
    mix = Mix(1.0, 0.25, 0.5, 0.25)  # Rows 0 to 3, columns 2 to 5.
    mixed, own_share = mix_images(images, on_device(mix), has_boxes=True)
    expected = images.astype("f4")
    expected[:, 0:4, 2:6] = images[[2, 0, 1], 0:4, 2:6]
    np.testing.assert_array_equal(mixed, expected)
    assert float(own_share) == 0.75


@pytest.mark.parametrize("has_boxes", [False, True])
def test_each_image_is_blended_with_the_one_before_it(has_boxes):
    images = tf.reshape(tf.constant([1.0, 10.0, 100.0], tf.float16), (3, 1, 1, 1))
    mix = on_device(Mix(0.75))
    blended, own_share = mix_images(images, mix, has_boxes=has_boxes)
    assert blended.dtype == tf.float32
    expected = [0.75 + 25, 7.5 + 0.25, 75 + 2.5]
    assert blended.numpy().ravel() == pytest.approx(expected)
    assert float(own_share) == 0.75


@pytest.mark.parametrize(
    ("share", "expected"), [(0.75, [4, 5, 6]), (0.5, [4, 5, 6]), (0.25, [6, 4, 5])]
)
def test_the_label_of_the_larger_part_counts(share, expected):
    labels = dominant_labels(tf.constant([4, 5, 6]), tf.constant(share))
    assert labels.numpy().tolist() == expected


def test_a_share_of_one_is_no_mixup():
    images = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype("f2")
    batch = images, np.array([0, 1], np.int32), None
    plain, mixed = TinyTraining(), TinyTraining(mixup_alpha=0.2)
    numbers = StepNumbers(LEARNING_RATE, mixing_share=1.0)
    losses = [training.step(*batch, numbers) for training in (plain, mixed)]
    assert float(losses[0]) == float(losses[1])
    for first, second in zip(plain.variables, mixed.variables, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_a_step_trains_on_the_blend_and_counts_the_larger_part():
    images = np.zeros((2, 4, 4, 3), np.float32)
    images[0, ..., 0], images[1, ..., 1] = 1, 1  # Red, class 0; green, class 1.
    labels = np.array([0, 1], np.int32)
    training = TinyTraining(mixup_alpha=0.2)
    training.model.kernel.assign(5 * tf.eye(3))
    kernel = tf.constant(training.model.kernel)
    numbers = StepNumbers(LEARNING_RATE, mixing_share=0.25)
    training.step(images, labels, None, numbers)
    # The larger part of each is the other's colour, which the network sees.
    assert training.totals.means()["top1"] == 1
    colours = np.array([[0.25, 0.75, 0], [0.75, 0.25, 0]], np.float32)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        logits = tf.matmul(colours, kernel)
        targets = label_targets(tf.constant([0, 1]), 3, 0.0)
        loss = 0.25 * cross_entropy(logits, targets)
        loss += 0.75 * cross_entropy(logits, targets[::-1])
    expected = kernel - LEARNING_RATE * (tape.gradient(loss, kernel) + 1e-4 * kernel)
    np.testing.assert_allclose(training.model.kernel, expected, atol=1e-6)


def test_a_step_trains_on_boxes_and_their_shares_of_the_labels():
    images = np.zeros((2, 4, 4, 3), np.float32)
    images[0, ..., 0], images[1, ..., 1] = 1, 1
    training, blended = TinyTraining(cutmix_alpha=1.0), TinyTraining(mixup_alpha=1.0)
    batch = images, np.array([0, 1], np.int32), None
    # A box of a quarter of the image; the network sees its mean colour.
    numbers = StepNumbers(LEARNING_RATE, box_reach=0.25, box_x=0.5, box_y=0.5)
    loss = training.step(*batch, numbers)
    same = blended.step(*batch, StepNumbers(LEARNING_RATE, mixing_share=0.75))
    assert float(loss) == pytest.approx(float(same), rel=1e-6)
    np.testing.assert_allclose(training.model.kernel, blended.model.kernel, rtol=1e-6)
