"""The six steps that each image goes through in each epoch.

1. draw the shorter side         ``draw``
2. resize to it                  ``resize_and_crop``
3. random crop                   ``resize_and_crop``
4. normalize                     ``normalization_table``
5. random horizontal flip        ``augment``
6. colour jitter                 ``colour_shift``

Randomness and arithmetic are apart: ``draw`` takes a fixed count of numbers from a
Generator, and the rest are pure functions of an image and a Draw. So an image that is
replaced or has another size never changes what its neighbours in the batch get.

Steps 4 and 6 are one affine map for each channel, and a crop has 256 levels: both
together are a table of 256 values, and normalizing, jittering and converting a crop is
one look-up in it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.config import AugmentationConfig


class Draw(NamedTuple):
    """The random choices for one image in one epoch."""

    shorter_side: int
    crop_fractions: tuple[float, float]  # down and right, [0, 1) of the free pixels
    is_flipped: bool
    colour_weights: tuple[float, float, float]  # one for each principal axis


class ChannelStatistics(NamedTuple):
    """The training set's mean and standard deviation: red, green, blue in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def draw(rng: np.random.Generator, settings: AugmentationConfig) -> Draw:
    """Draws what happens to one image. Always consumes the same share of the stream.

    Step 1 is here: the shorter side is uniform over {min, min + step, ..., max}.
    """
    uniform = rng.random(4)
    colour_weights = rng.standard_normal(3) * settings.colour_jitter_stddev
    span = settings.shorter_side_max - settings.shorter_side_min
    num_sides = span // settings.shorter_side_step + 1
    return Draw(
        shorter_side=settings.shorter_side_min
        + int(uniform[0] * num_sides) * settings.shorter_side_step,
        crop_fractions=(float(uniform[1]), float(uniform[2])),
        is_flipped=bool(uniform[3] < settings.flip_probability),
        colour_weights=tuple(colour_weights.tolist()),
    )


def resized_size(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """Width and height after a resize that keeps the aspect ratio.

    The longer side is rounded down, as in torchvision.
    """
    shorter = min(width, height)
    return width * shorter_side // shorter, height * shorter_side // shorter


def crop_corner(
    width: int, height: int, crop_size: int, fractions: tuple[float, float]
) -> tuple[int, int]:
    """Upper left corner (left, top) of a crop inside a width x height image.

    Each of the (width - crop_size + 1) * (height - crop_size + 1) corners is equally
    likely if the fractions, down and right, are uniform over [0, 1).
    """
    down, right = fractions
    return int(right * (width - crop_size + 1)), int(down * (height - crop_size + 1))


def _interval(start: int, length: int, source_size: int, resized_size: int):
    """Where a piece of the resized image comes from, along one axis.

    Returns:
        The piece's ends in the source, and whole pixels around them that hold all that
        the bilinear filter looks at; (start, end, first, last).
    """
    scale = source_size / resized_size
    # The product may be above the image's edge by a rounding error.
    ends = start * scale, min((start + length) * scale, source_size)
    reach = math.ceil(max(scale, 1))
    first = max(math.floor(ends[0]) - reach, 0)
    last = min(math.ceil(ends[1]) + reach, source_size)
    return *ends, first, last


def _region(image: Image.Image | np.ndarray, box: tuple[int, ...]) -> Image.Image:
    """A rectangle of whole pixels, (left, top, right, bottom)."""
    if isinstance(image, Image.Image):
        return image.crop(box)
    left, top, right, bottom = box
    return Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))


def crop_of_resized(
    image: Image.Image | np.ndarray,
    shorter_side: int,
    crop_size: int,
    corner: Callable[[int, int], tuple[int, int]],
) -> np.ndarray:
    """Steps 2 and 3 in one: the pixels of a crop of the resized image.

    Only the crop's source region is resampled. The result is that of resizing the whole
    (bilinear, with antialiasing, first along x and then along y) and cropping: to 2 of
    255 levels, and for 99 % of the values exactly.

    Args:
        image: RGB, any size; or uint8 [H, W, 3].
        shorter_side: Of the resized image, pixels, at least crop_size.
        crop_size: Side of the crop, pixels.
        corner: Takes width and height of the resized image, returns the crop's
            upper left corner in it, (left, top).

    Returns:
        uint8 [crop_size, crop_size, 3].
    """
    is_array = isinstance(image, np.ndarray)
    source_width, source_height = image.shape[1::-1] if is_array else image.size
    width, height = resized_size(source_width, source_height, shorter_side)
    x, y = corner(width, height)
    left, right, first_column, last_column = _interval(
        x, crop_size, source_width, width
    )
    top, bottom, first_row, last_row = _interval(y, crop_size, source_height, height)
    region = _region(image, (first_column, first_row, last_column, last_row))
    # One axis after the other, because which comes first decides the rounding between
    # them, and Pillow (since 13) decides that by the region's shape.
    region = region.resize(
        (crop_size, region.height),
        Image.Resampling.BILINEAR,
        box=(left - first_column, 0, right - first_column, region.height),
    )
    region = region.resize(
        (crop_size, crop_size),
        Image.Resampling.BILINEAR,
        box=(0, top - first_row, crop_size, bottom - first_row),
    )
    return np.asarray(region)


def resize_and_crop(image: Image.Image, choice: Draw, crop_size: int) -> np.ndarray:
    """Steps 2 and 3: resizes the shorter side as drawn, and takes the drawn crop.

    Returns:
        uint8 [crop_size, crop_size, 3], RGB.
    """
    return crop_of_resized(
        image,
        choice.shorter_side,
        crop_size,
        lambda w, h: crop_corner(w, h, crop_size, choice.crop_fractions),
    )


def normalization_table(statistics: ChannelStatistics) -> np.ndarray:
    """Step 4 for each level and channel: (level / 255 - mean) / std.

    Returns:
        float64 [3, 256].
    """
    levels = np.arange(256) / 255
    mean = np.asarray(statistics.mean)[:, None]
    return (levels - mean) / np.asarray(statistics.std)[:, None]


# Pixels in a block, _ROWS of 4. A sum of 256 products of two levels is below 2**24, so
# float32 holds it exactly; and 4 interleaved pixels a row suit a matrix product.
_ROWS = 256
_BLOCK = 4 * _ROWS


def _sums_and_products(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the pixels of each channel, and of each product of two channels.

    Whole numbers, exact, so no machine's order of summation can change them.

    Args:
        crop: uint8 [H, W, 3].

    Returns:
        float64 [3] and float64 [3, 3].
    """
    num_blocks = -(-crop.size // (3 * _BLOCK))
    padded = np.zeros(num_blocks * _BLOCK * 3, np.float32)
    padded[: crop.size] = crop.reshape(-1)
    rows = padded.reshape(num_blocks, _ROWS, 12)
    blocks = np.matmul(rows.transpose(0, 2, 1), rows)  # [num_blocks, 12, 12]
    by_place = blocks.sum(axis=0, dtype=np.float64).reshape(4, 3, 4, 3)
    sums = np.matmul(np.ones((1, _ROWS), np.float32), rows)
    return (
        sums.sum(axis=(0, 1), dtype=np.float64).reshape(4, 3).sum(axis=0),
        np.einsum("iaib->ab", by_place),
    )


def colour_shift(
    crop: np.ndarray, std: tuple[float, float, float], weights
) -> np.ndarray:
    """Step 6: the shift of a normalized crop along its own principal RGB axes.

    Krizhevsky et al. 2012, section 4.1: the sum over the axes of (weight * eigenvalue *
    eigenvector) of the pixels' covariance. There the axes come from the whole training
    set, here from this crop after normalization. An eigenvector's sign, which no
    definition fixes, is such that its largest component is positive.

    Args:
        crop: uint8 [H, W, 3], RGB, before normalization.
        std: The channels' standard deviations that step 4 divides by, in 0..1.
        weights: Three normal draws, one for each axis, smallest eigenvalue first.

    Returns:
        float32 [3], what to add to each normalized channel.
    """
    num_pixels = crop.size // 3
    sums, products = _sums_and_products(crop)
    covariance = (products - np.outer(sums, sums) / num_pixels) / num_pixels
    scale = 255 * np.asarray(std)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    largest = np.abs(eigenvectors).argmax(axis=0)
    signs = np.sign(eigenvectors[largest, np.arange(3)])
    return (eigenvectors @ (signs * eigenvalues * np.asarray(weights))).astype("f4")


def augment(
    image: Image.Image | np.ndarray,
    choice: Draw,
    crop_size: int,
    statistics: ChannelStatistics,
    out: np.ndarray,
) -> np.ndarray:
    """All six steps of one image, straight into its place in the batch.

    With uint8, steps 4 and 6 are left to whoever reads the batch; see ``normalize``.

    Args:
        image: RGB, any size, or uint8 [H, W, 3]. Not modified.
        choice: What was drawn for it.
        crop_size: Side of the crop, pixels.
        statistics: The training set's.
        out: uint8, float16 or float32 [crop_size, crop_size, 3]; overwritten.

    Returns:
        float32 [3], the colour's shift of step 6.
    """
    crop = resize_and_crop(image, choice, crop_size)
    shift = colour_shift(crop, statistics.std, choice.colour_weights)
    if choice.is_flipped:
        crop = crop[:, ::-1]
    if out.dtype == np.uint8:
        out[:] = crop
        return shift
    table = (normalization_table(statistics) + shift[:, None]).astype(out.dtype)
    for channel in range(3):
        out[:, :, channel] = table[channel].take(crop[:, :, channel])
    return shift


def normalize(
    crops: np.ndarray, shifts: np.ndarray, statistics: ChannelStatistics
) -> np.ndarray:
    """Steps 4 and 6 for crops that ``augment`` has left as uint8.

    Args:
        crops: uint8 [N, H, W, 3], RGB.
        shifts: float32 [N, 3].
        statistics: The training set's.

    Returns:
        float32 [N, H, W, 3].
    """
    table = normalization_table(statistics)
    values = np.stack([table[c].take(crops[..., c]) for c in range(3)], axis=-1)
    return (values + shifts[:, None, None, :]).astype(np.float32)
