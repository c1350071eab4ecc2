"""What a network is fed: images normalized on the device."""

import numpy as np
import tensorflow as tf

from resnet50.pixels.augmentation import ChannelStatistics


def normalize_on_device(
    images: tf.Tensor, shifts: tf.Tensor | None, statistics: ChannelStatistics
) -> tf.Tensor:
    """Steps 4 and 6 on the device; pixels.augmentation.normalize_crops on tensors.

    Args:
        images: uint8 [N, H, W, 3], RGB.
        shifts: float32 [N, 3]; None for no shifts.
        statistics: The training set's.

    Returns:
        float32 [N, H, W, 3].
    """
    # One product and one sum for each value: level / (255 std) + (shift - mean / std).
    std = np.array(statistics.std)
    scale = tf.constant(1 / (255 * std), tf.float32)
    offset = tf.constant(np.array(statistics.mean) / std, tf.float32)
    values = tf.cast(images, tf.float32) * scale
    if shifts is None:
        return values - offset
    return values + (shifts - offset)[:, None, None, :]
