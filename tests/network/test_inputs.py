"""Proves that images are normalized on the device as in the preprocessor."""

import numpy as np
import tensorflow as tf

from resnet50.network.inputs import normalize_on_device
from resnet50.pixels import augmentation
from tests.training.tolerances import sum_bound

STATISTICS = augmentation.ChannelStatistics((0.48, 0.45, 0.40), (0.27, 0.26, 0.28))
BOUND = sum_bound(8, 4)  # Eight roundings of numbers up to 4.


def all_levels():
    """uint8 [2, 16, 16, 3]: each level in each channel, and a shift for each image."""
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    shifts = np.array([[0.1, -0.2, 0.05], [0, 0, 0]], np.float32)
    return np.concatenate([images, images[:, ::-1]]), shifts


def test_normalizing_on_the_device_is_normalizing_in_the_preprocessor():
    images, shifts = all_levels()
    expected = augmentation.normalize_crops(images, shifts, STATISTICS)
    found = normalize_on_device(tf.constant(images), tf.constant(shifts), STATISTICS)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=BOUND)


def test_no_shifts_are_shifts_of_zero():
    images, shifts = all_levels()
    found = normalize_on_device(tf.constant(images), None, STATISTICS)
    expected = augmentation.normalize_crops(images, 0 * shifts, STATISTICS)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=BOUND)
