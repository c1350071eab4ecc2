"""The six steps that each image goes through in each epoch.

1. draw the shorter side         ``sample_params``
2. resize to it                  ``resample_crop``
3. random crop                   ``crop_footprint``
4. normalize                     ``normalization_table``
5. random horizontal flip        ``resample_crop``
6. colour jitter                 ``colour_shift``

Randomness and arithmetic are separate: ``sample_params`` draws a fixed number of values
from a Generator, and the rest are pure functions of an image and its
AugmentationParams. So replacing or resizing an image never changes the other images of
the batch.

Steps 4 and 6 are one affine map per channel, and a channel has 256 levels. So both are
one table of 256 values per channel, and a single look-up normalizes, jitters and
converts a crop.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.config.settings import AugmentationConfig, DatasetConfig
from resnet50.pixels import resampling
from resnet50.pixels.optional_steps import OptionalParams
from resnet50.pixels.random_boxes import BoxDraw, area_box, corner_at, erased_box
from resnet50.pixels.resampling import Footprint
from resnet50.pixels.trivial_augment import apply_operation


class AugmentationParams(NamedTuple):
    """The random choices for one image in one epoch."""

    shorter_side: int
    # Down and right, [0, 1) of the free pixels; None for the centre.
    crop_fractions: tuple[float, float] | None
    is_flipped: bool
    colour_weights: tuple[float, float, float]  # one per principal axis
    optional: OptionalParams = OptionalParams()


class ChannelStatistics(NamedTuple):
    """Mean and standard deviation of the training set: red, green, blue in 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_config(cls, dataset: DatasetConfig) -> "ChannelStatistics":
        """Reads them from [dataset] of config.txt."""
        return cls(dataset.channel_mean, dataset.channel_std)


def sample_params(
    rng: np.random.Generator, settings: AugmentationConfig
) -> AugmentationParams:
    """Makes the random choices for one image, always from seven draws.

    Step 1: the shorter side is uniform over {min, min + step, ..., max}.
    """
    uniform = rng.random(4)
    colour_weights = rng.standard_normal(3) * settings.colour_jitter_stddev
    span = settings.shorter_side_max - settings.shorter_side_min
    num_sides = span // settings.shorter_side_step + 1
    is_centred = settings.crop_method == "center"
    return AugmentationParams(
        shorter_side=settings.shorter_side_min
        + int(uniform[0] * num_sides) * settings.shorter_side_step,
        crop_fractions=None if is_centred else tuple(uniform[1:3].tolist()),
        is_flipped=bool(uniform[3] < settings.flip_probability),
        colour_weights=tuple(colour_weights.tolist()),
    )


def crop_corner(
    width: int, height: int, crop_size: int, fractions: tuple[float, float] | None
) -> tuple[int, int]:
    """Returns the upper left corner, (left, top), of a crop inside an image.

    The fractions are those of ``corner_at``; None is for the centre.
    """
    if fractions is None:
        return resampling.centre_corner(width, height, crop_size)
    return corner_at((width, height), crop_size, crop_size, fractions)


def crop_footprint(
    size: tuple[int, int], params: AugmentationParams, crop_size: int
) -> Footprint:
    """Step 3: which pixels of an image, of some width and height, its crop comes from.

    The rest of the image need not be decoded.
    """
    if params.optional.area_crop is not None:
        return resampling.box_footprint(area_box(size, params.optional.area_crop))
    resized = resampling.resized_size(*size, params.shorter_side)
    corner = crop_corner(*resized, crop_size, params.crop_fractions)
    return resampling.footprint(size, resized, corner, crop_size)


@functools.lru_cache(maxsize=1)
def normalization_table(statistics: ChannelStatistics) -> np.ndarray:
    """Step 4 as float64 [3, 256]: (level / 255 - mean) / std of each channel."""
    levels = np.arange(256) / 255
    mean = np.asarray(statistics.mean)[:, None]
    return (levels - mean) / np.asarray(statistics.std)[:, None]


def principal_axes(
    matrix: Sequence[Sequence[float]],
) -> list[tuple[float, list[float]]]:
    """Eigenvalues of a symmetric 3 x 3 matrix, ascending, each with its eigenvector.

    LAPACK's last bits depend on the processor, and would change a batch's bytes for one
    crop in millions.
    """
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = matrix
    diagonal, others = [xx, yy, zz], [yz, xz, xy]
    axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    resampling.pixel_loops().diagonalize(diagonal, others, axes)
    return sorted(zip(diagonal, axes))


def colour_shift(crop: np.ndarray, std: tuple[float, ...], weights) -> np.ndarray:
    """Step 6: the shift of a normalized crop along its own principal RGB axes.

    Krizhevsky et al. 2012, section 4.1: the sum over the axes of (weight * eigenvalue *
    eigenvector) of the pixels' covariance. In the paper the axes come from the whole
    training set, here from this crop after normalization. Each eigenvector's sign is
    chosen such that its largest component is positive.

    Args:
        crop: uint8 [H, W, 3], RGB, before normalization.
        std: The channels' standard deviations of step 4, in 0..1.
        weights: Three normal draws, one per axis, smallest eigenvalue first.

    Returns:
        float32 [3], to be added to each normalized channel.
    """
    num_pixels = crop.size // 3
    sums, products = resampling.pixel_loops().sums_and_products(crop)
    scale = [255 * channel for channel in std]
    covariance = [
        [
            (products[i][j] - sums[i] * sums[j] / num_pixels)
            / num_pixels
            / (scale[i] * scale[j])
            for j in range(3)
        ]
        for i in range(3)
    ]
    axes = principal_axes(covariance)
    shift = [0.0, 0.0, 0.0]
    for weight, (eigenvalue, axis) in zip(weights, axes):
        strength = weight * math.copysign(eigenvalue, eigenvalue * max(axis, key=abs))
        shift = [total + strength * part for total, part in zip(shift, axis)]
    return np.array(shift, np.float32)


def augment(
    image: Image.Image | np.ndarray,
    source: Footprint,
    params: AugmentationParams,
    statistics: ChannelStatistics,
    out: np.ndarray,
) -> np.ndarray:
    """Steps 2 to 6 and the optional ones of one image, written into the batch.

    Args:
        image: RGB, or uint8 [H, W, 3], the image or a part of it. Not modified.
        source: The crop's pixels in it.
        params: The choices of steps 1, 3, 5 and 6, and of the optional ones.
        statistics: For step 4.
        out: uint8, float16 or float32 [crop_size, crop_size, 3]; overwritten. If it is
            uint8, its reader does steps 4 and 6; see ``normalize_crops``.

    Returns:
        float32 [3], the colour shift of step 6.
    """
    is_raw = out.dtype == np.uint8
    crop = out if is_raw else np.empty(out.shape, np.uint8)
    resampling.resample_crop(image, source, crop, is_flipped=params.is_flipped)
    if params.optional.operation is not None:
        apply_operation(crop, params.optional.operation)
    shift = colour_shift(crop, statistics.std, params.colour_weights)
    if not is_raw:
        table = normalization_table(statistics) + shift[:, None]
        resampling.pixel_loops().look_up(table.astype(out.dtype), crop, out)
    if params.optional.erasing is not None:
        _erase(out, params.optional.erasing, statistics)
    return shift


def _erase(out: np.ndarray, draw: BoxDraw, statistics: ChannelStatistics) -> None:
    """Sets a box of a crop to 0; of a uint8 crop to the levels nearest to the mean."""
    box = erased_box(len(out), draw)
    if box is not None:
        levels = [round(255 * mean) for mean in statistics.mean]
        value = levels if out.dtype == np.uint8 else 0
        out[box.top : box.top + box.height, box.left : box.left + box.width] = value


def normalize_crops(
    crops: np.ndarray, shifts: np.ndarray, statistics: ChannelStatistics
) -> np.ndarray:
    """Steps 4 and 6 for crops that ``augment`` has left as uint8 [N, H, W, 3].

    ``shifts``, float32 [N, 3], are what it returned. Returns float32 [N, H, W, 3].
    """
    values = normalization_table(statistics)[range(3), crops]
    return (values + shifts[:, None, None, :]).astype(np.float32)
