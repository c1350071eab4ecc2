"""The one device that trains or evaluates: the first GPU, or else the CPU.

Programs that only carry weights from file to file leave the GPU to others.
"""

from collections.abc import Callable

import tensorflow as tf


def prepare_device(*, deterministic: bool, notify: Callable[[str], None]) -> None:
    """Sets TensorFlow up; must come before its first use.

    Args:
        deterministic: Whether the same step shall give bitwise the same weights.
        notify: Takes a line about the device for the user.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.set_visible_devices(gpus[:1], "GPU")
        # Otherwise TensorFlow takes all of the card's memory at once.
        tf.config.experimental.set_memory_growth(gpus[0], True)
        details = tf.config.experimental.get_device_details(gpus[0])
        notify(f"GPU: {details.get('device_name', gpus[0].name)}")
    else:
        notify(
            "warning: TensorFlow finds no GPU and computes on the CPU, about a hundred "
            "times slower (for a GPU: an NVIDIA driver, and "
            "pip install 'tensorflow[and-cuda]')"
        )
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def leave_gpus_alone() -> None:
    """Computes on the CPU; must come before TensorFlow's first use."""
    tf.config.set_visible_devices([], "GPU")
