"""Mixup (Zhang et al. 2017, arXiv 1710.09412): blends of two images and their labels.

Each image x_i of a batch becomes

    share * x_i + (1 - share) * x_j

and its loss share * loss(y_i) + (1 - share) * loss(y_j), which is the loss of the
blended label, because the cross-entropy is linear in it. As in the paper's own program
(its figure 1), one share (the paper's lambda) is drawn for each batch, and each image's
partner is from the same batch: the image before it, in an order that is random in each
epoch. Where several GPUs share a batch, the partner is in the same GPU's part.

The share is a pure function of the seed and the step, so a resumed run draws the same
ones. Images are blended on the device.
"""

import numpy as np
import tensorflow as tf

# Separates the random stream of the shares from those of the epoch order, of the
# augmentation and of the weights, which use the same seed.
MIXUP = 4


def mixing_share_at(step: int, *, seed: int, alpha: float) -> float:
    """Draws a batch's share, 0..1, from Beta(alpha, alpha) with alpha above 0.

    Near 0 most shares are near 0 or 1; at 1 they are uniform.
    """
    return float(np.random.default_rng([seed, MIXUP, step]).beta(alpha, alpha))


def partners(batch: tf.Tensor) -> tf.Tensor:
    """Returns, for each element of a batch, the one it is blended with: [N, ...]."""
    return tf.roll(batch, shift=1, axis=0)


def blend(images: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Blends each image with its partner; share is the weight of the image itself.

    Maps float16 or float32 [N, H, W, 3], normalized, to float32 [N, H, W, 3].
    """
    images = tf.cast(images, tf.float32)
    return share * images + (1 - share) * partners(images)


def dominant_labels(labels: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Returns the label of the larger part of each blended image, int32 [N]."""
    return tf.where(share >= 0.5, labels, partners(labels))
