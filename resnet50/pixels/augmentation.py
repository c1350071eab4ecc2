"""The six steps that each image goes through in each epoch.

1. draw the shorter side         ``sample_params``
2. resize to it                  ``resize_and_crop``, ``resampling``
3. random crop                   ``resize_and_crop``, ``resampling``
4. normalize                     ``normalization_table``
5. random horizontal flip        ``resize_and_crop``, ``resampling``
6. colour jitter                 ``colour_shift``

Randomness and arithmetic are separate: ``sample_params`` draws a fixed number of values
from a Generator, and the rest are pure functions of an image and its
AugmentationParams. So replacing an image, or changing its size, never changes what its
neighbours in the batch get.

Steps 4 and 6 are one affine map for each channel, and a crop has 256 levels: both
together are a table of 256 values, and normalizing, jittering and converting a crop is
one look-up in it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.config.settings import AugmentationConfig, DatasetConfig
from resnet50.pixels import backend
from resnet50.pixels.resampling import crop_of_resized


class AugmentationParams(NamedTuple):
    """The random choices for one image in one epoch."""

    shorter_side: int
    crop_fractions: tuple[float, float]  # down and right, [0, 1) of the free pixels
    is_flipped: bool
    colour_weights: tuple[float, float, float]  # one for each principal axis


class ChannelStatistics(NamedTuple):
    """The training set's mean and standard deviation: red, green, blue in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_config(cls, dataset: DatasetConfig) -> "ChannelStatistics":
        """Those that [dataset] of config.txt gives."""
        return cls(dataset.channel_mean, dataset.channel_std)


def sample_params(
    rng: np.random.Generator, settings: AugmentationConfig
) -> AugmentationParams:
    """Draws what happens to one image. Always consumes the same share of the stream.

    Step 1 is here: the shorter side is uniform over {min, min + step, ..., max}.
    """
    uniform = rng.random(4)
    colour_weights = rng.standard_normal(3) * settings.colour_jitter_stddev
    span = settings.shorter_side_max - settings.shorter_side_min
    num_sides = span // settings.shorter_side_step + 1
    return AugmentationParams(
        shorter_side=settings.shorter_side_min
        + int(uniform[0] * num_sides) * settings.shorter_side_step,
        crop_fractions=(float(uniform[1]), float(uniform[2])),
        is_flipped=bool(uniform[3] < settings.flip_probability),
        colour_weights=tuple(colour_weights.tolist()),
    )


def crop_corner(
    width: int, height: int, crop_size: int, fractions: tuple[float, float]
) -> tuple[int, int]:
    """Upper left corner (left, top) of a crop inside a width x height image.

    Each of the (width - crop_size + 1) * (height - crop_size + 1) corners is equally
    likely if the fractions, down and right, are uniform over [0, 1).
    """
    down, right = fractions
    return int(right * (width - crop_size + 1)), int(down * (height - crop_size + 1))


def resize_and_crop(
    image: Image.Image | np.ndarray,
    choice: AugmentationParams,
    crop_size: int,
    *,
    is_flipped: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Steps 2, 3 and 5: resizes, takes the drawn crop, and mirrors it if it shall be.

    Args:
        image: RGB, any size, or uint8 [H, W, 3]. Not modified.
        choice: What was drawn for it.
        crop_size: Side of the crop, pixels.
        is_flipped: Whether left and right of the crop are swapped.
        out: uint8 [crop_size, crop_size, 3], contiguous, to be overwritten; None for a
            new array.

    Returns:
        uint8 [crop_size, crop_size, 3], RGB; out, if that was given.
    """
    return crop_of_resized(
        image,
        choice.shorter_side,
        crop_size,
        lambda w, h: crop_corner(w, h, crop_size, choice.crop_fractions),
        is_flipped=is_flipped,
        out=out,
    )


def normalization_table(statistics: ChannelStatistics) -> np.ndarray:
    """Step 4 for each level and channel: (level / 255 - mean) / std.

    Returns:
        float64 [3, 256].
    """
    levels = np.arange(256) / 255
    mean = np.asarray(statistics.mean)[:, None]
    return (levels - mean) / np.asarray(statistics.std)[:, None]


def _sums_and_products(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the pixels of each channel, and of each product of two channels.

    Whole numbers, exact, so no machine's order of summation can change them.

    Args:
        crop: uint8 [H, W, 3].

    Returns:
        float64 [3] and float64 [3, 3].
    """
    kernels = backend.kernels()
    if kernels is None:
        return _sums_and_products_by_blocks(crop)
    by_column = kernels.column_sums(crop.reshape(len(crop), -1))
    sums, squares, with_next, with_second = by_column.reshape(4, -1, 3).sum(
        axis=1, dtype=np.float64
    )
    red_green, green_blue, _ = with_next
    red_blue, _, _ = with_second
    products = [
        [squares[0], red_green, red_blue],
        [red_green, squares[1], green_blue],
        [red_blue, green_blue, squares[2]],
    ]
    return sums, np.array(products)


# Pixels in a block, _ROWS of 4. A sum of 256 products of two levels is below 2**24, so
# float32 holds it exactly; and 4 interleaved pixels a row suit a matrix product.
_ROWS = 256
_BLOCK = 4 * _ROWS


def _sums_and_products_by_blocks(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


# Off the diagonal, relative to it: far below what the last bit of a float64 can tell.
_NEGLIGIBLE = 1e-18


def principal_axes(
    matrix: Sequence[Sequence[float]],
) -> list[tuple[float, list[float]]]:
    """Eigenvalues of a symmetric 3 x 3 matrix, ascending, each with its eigenvector.

    Jacobi's rotations (Golub and Van Loan, section 8.5), with nothing but + - * / and
    square roots, which every processor rounds alike. LAPACK's last bits depend on the
    processor, and with them, in one crop of millions, a batch's.
    """
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = matrix
    diagonal = [xx, yy, zz]
    others = [yz, xz, xy]  # Each at the index of the axis that it has no part in.
    axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    negligible = _NEGLIGIBLE**2 * (xx * xx + yy * yy + zz * zz)
    while sum(value * value for value in others) > negligible:
        for p, q, rest in (0, 1, 2), (0, 2, 1), (1, 2, 0):
            value = others[rest]
            if not value:
                continue
            # Tangent, cosine and sine of the angle that turns this value into 0.
            theta = (diagonal[q] - diagonal[p]) / (2 * value)
            tangent = 1 / (abs(theta) + math.sqrt(theta * theta + 1))
            tangent = math.copysign(tangent, theta)
            cosine = 1 / math.sqrt(tangent * tangent + 1)
            sine = tangent * cosine
            diagonal[p] -= tangent * value
            diagonal[q] += tangent * value
            of_p, of_q = others[q], others[p]
            others[rest] = 0.0
            others[q] = cosine * of_p - sine * of_q
            others[p] = sine * of_p + cosine * of_q
            pairs = list(zip(axes[p], axes[q]))
            axes[p] = [cosine * a - sine * b for a, b in pairs]
            axes[q] = [sine * a + cosine * b for a, b in pairs]
    return sorted(zip(diagonal, axes))


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
    axes = principal_axes((covariance / np.outer(scale, scale)).tolist())
    shift = [0.0, 0.0, 0.0]
    for weight, (eigenvalue, axis) in zip(weights, axes):
        strength = weight * math.copysign(eigenvalue, eigenvalue * max(axis, key=abs))
        shift = [total + strength * part for total, part in zip(shift, axis)]
    return np.array(shift, np.float32)


def augment(
    image: Image.Image | np.ndarray,
    choice: AugmentationParams,
    crop_size: int,
    statistics: ChannelStatistics,
    out: np.ndarray,
) -> np.ndarray:
    """All six steps of one image, straight into its place in the batch.

    With uint8, whoever reads the batch does steps 4 and 6; see ``normalize_crops``.

    Args:
        image: RGB, any size, or uint8 [H, W, 3]. Not modified.
        choice: What was drawn for it.
        crop_size: Side of the crop, pixels.
        statistics: The training set's.
        out: uint8, float16 or float32 [crop_size, crop_size, 3]; overwritten.

    Returns:
        float32 [3], the colour's shift of step 6.
    """
    # A crop in uint8 is made in its place: nothing is left to do to it.
    place = out if out.dtype == np.uint8 else None
    crop = resize_and_crop(
        image, choice, crop_size, is_flipped=choice.is_flipped, out=place
    )
    shift = colour_shift(crop, statistics.std, choice.colour_weights)
    if place is None:
        table = normalization_table(statistics) + shift[:, None]
        _look_up(table.astype(out.dtype), crop, out)
    return shift


def _look_up(table: np.ndarray, crop: np.ndarray, out: np.ndarray) -> None:
    """Replaces each level by its channel's value in the table: steps 4 and 6.

    Args:
        table: float16 or float32 [3, 256].
        crop: uint8 [H, W, 3].
        out: Of the table's type, [H, W, 3], contiguous; overwritten.
    """
    kernels = backend.kernels()
    if kernels is None:
        for channel in range(3):
            out[:, :, channel] = table[channel].take(crop[:, :, channel])
        return
    whole_numbers = f"u{out.itemsize}"  # numba knows no float16; bits are moved only.
    kernels.look_up(
        table.view(whole_numbers),
        crop.reshape(len(crop), -1),
        out.view(whole_numbers).reshape(len(out), -1),
    )


def normalize_crops(
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
