"""Mixup and CutMix: images mixed with another one of their batch, and so their labels.

Mixup (Zhang et al. 2017, arXiv 1710.09412) blends each image x_i of a batch:

    share * x_i + (1 - share) * x_j

CutMix (Yun et al. 2019, arXiv 1905.04899) replaces a box of x_i by the same box of x_j;
share is the part of x_i that stays. Both blend the labels in the same shares. As in the
programs of both papers and in torchvision, one share (the papers' lambda) and one box
are drawn for each batch, and each image's partner is from the same batch: the image
before it, in an order that is random in each epoch. Where several GPUs share a batch,
the partner is in the same GPU's part.

The draw is a pure function of the seed and the step, so a resumed run draws the same
ones. Images are mixed on the device.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Separates the random stream of the draws from those of the epoch order, of the
# augmentation and of the weights, which use the same seed.
MIXING = 4


class Mix(NamedTuple):
    """The draw for one batch; on the device, float32 scalars."""

    share: float = 1.0  # of each image itself, outside the box; below 1 with mixup
    box_reach: float = 0.0  # half the box's side / the image's side, 0..1/2
    box_x: float = 0.0  # the box's centre / the image's side, [0, 1)
    box_y: float = 0.0


def mix_at(step: int, *, seed: int, mixup_alpha: float, cutmix_alpha: float) -> Mix:
    """Draws how a batch is mixed, where at least one alpha is above 0.

    If both are, each batch has mixup or CutMix, with probability 1/2, as in
    torchvision's train.py. The share is drawn from Beta(alpha, alpha): near 0 most
    shares are near 0 or 1; at 1 they are uniform.
    """
    rng = np.random.default_rng([seed, MIXING, step])
    has_box = cutmix_alpha > 0
    if has_box and mixup_alpha > 0:
        has_box = bool(rng.random() < 0.5)
    alpha = cutmix_alpha if has_box else mixup_alpha
    share = float(rng.beta(alpha, alpha))
    if not has_box:
        return Mix(share)
    x, y = rng.random(2).tolist()
    return Mix(1.0, 0.5 * math.sqrt(1 - share), x, y)


def partners(batch: tf.Tensor) -> tf.Tensor:
    """Returns, for each element of a batch, the one it is mixed with: [N, ...]."""
    return tf.roll(batch, shift=1, axis=0)


def box_mask(mix: Mix, size: int) -> tf.Tensor:
    """Which pixels of an image CutMix replaces, as torchvision's CutMix: [size, size].

    The box's sides are 2 * floor(box_reach * size), but it ends at the image's edges.
    """
    reach = tf.floor(mix.box_reach * size)
    pixels = tf.range(size, dtype=tf.float32)

    def is_within(centre):
        centre = tf.minimum(tf.floor(centre * size), size - 1)
        return (pixels >= centre - reach) & (pixels < centre + reach)

    return is_within(mix.box_y)[:, None] & is_within(mix.box_x)


def mix_images(
    images: tf.Tensor, mix: Mix, *, has_boxes: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes each image with its partner.

    Args:
        images: float16 or float32 [N, size, size, 3], normalized.
        mix: The batch's draw, on the device.
        has_boxes: Whether any batch has CutMix.

    Returns:
        float32 [N, size, size, 3]; and the share of each image's own label, a scalar.
    """
    images = tf.cast(images, tf.float32)
    weight = own_share = mix.share
    if has_boxes:
        size = images.shape[1]
        mask = box_mask(mix, size)
        weight = tf.where(mask, 0.0, mix.share)[:, :, None]
        num_replaced = tf.reduce_sum(tf.cast(mask, tf.float32))
        own_share = mix.share * (1 - num_replaced / size**2)
    return weight * images + (1 - weight) * partners(images), own_share


def dominant_labels(labels: tf.Tensor, own_share: tf.Tensor) -> tf.Tensor:
    """Returns the label of the larger part of each mixed image, int32 [N]."""
    return tf.where(own_share >= 0.5, labels, partners(labels))
