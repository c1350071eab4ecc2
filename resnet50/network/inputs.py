"""The network's input: images normalized on the device."""

import numpy as np
import tensorflow as tf

from resnet50.pixels.augmentation import ChannelStatistics


def normalize_on_device(
    images: tf.Tensor, shifts: tf.Tensor | None, statistics: ChannelStatistics
) -> tf.Tensor:
    """Steps 4 and 6 of the preprocessing; the same as normalize_crops, on tensors.

    Args:
        images: uint8 [N, H, W, 3], RGB.
        shifts: float32 [N, 3], colour shifts; None for no shifts.
        statistics: The channel statistics of the training set.

    Returns:
        float32 [N, H, W, 3].
    """
    # One product and one sum per value: level / (255 std) + (shift - mean / std).
    std = np.array(statistics.std)
    scale = tf.constant(1 / (255 * std), tf.float32)
    offset = tf.constant(np.array(statistics.mean) / std, tf.float32)
    values = tf.cast(images, tf.float32) * scale
    if shifts is None:
        return values - offset
    return values + (shifts - offset)[:, None, None, :]
