"""A crop of a resized image, without resizing the rest of it: steps 2, 3 and 5."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.pixels import backend


def resized_size(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """Width and height after a resize that keeps the aspect ratio.

    The longer side is rounded down, as in torchvision.
    """
    shorter = min(width, height)
    return width * shorter_side // shorter, height * shorter_side // shorter


class _Axis(NamedTuple):
    """Where a piece of the resized image comes from, along one axis of the source.

    Attributes:
        start: One end of the piece, pixels from ``first``.
        end: The other end.
        first: The first of the whole pixels that hold all that the filter looks at.
        last: The one after the last of them.
    """

    start: float
    end: float
    first: int
    last: int


def _source(start: int, length: int, source_size: int, resized_size: int) -> _Axis:
    """The source of ``length`` pixels of the resized image, from ``start`` on."""
    scale = source_size / resized_size
    # The product may be above the image's edge by a rounding error.
    ends = start * scale, min((start + length) * scale, source_size)
    reach = math.ceil(max(scale, 1))
    first = max(math.floor(ends[0]) - reach, 0)
    last = min(math.ceil(ends[1]) + reach, source_size)
    return _Axis(ends[0] - first, ends[1] - first, first, last)


def crop_of_resized(
    image: Image.Image | np.ndarray,
    shorter_side: int,
    crop_size: int,
    corner: Callable[[int, int], tuple[int, int]],
    *,
    is_flipped: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Steps 2, 3 and 5 in one: the pixels of a crop of the resized image.

    Only the crop's source region is resampled. The result is that of resizing the whole
    (bilinear, with antialiasing, first along x and then along y) and cropping, to 2 of
    255 levels. On average 99 % of a photograph's values are equal, and 95 % where few
    pixels are enlarged.

    Args:
        image: RGB, any size; or uint8 [H, W, 3].
        shorter_side: Of the resized image, pixels, at least crop_size.
        crop_size: Side of the crop, pixels.
        corner: Takes width and height of the resized image, returns the crop's
            upper left corner in it, (left, top).
        is_flipped: Whether left and right of the crop are swapped.
        out: uint8 [crop_size, crop_size, 3], contiguous, to be overwritten; None for a
            new array.

    Returns:
        uint8 [crop_size, crop_size, 3]; out, if that was given.
    """
    is_array = isinstance(image, np.ndarray)
    source_width, source_height = image.shape[1::-1] if is_array else image.size
    width, height = resized_size(source_width, source_height, shorter_side)
    left, top = corner(width, height)
    x = _source(left, crop_size, source_width, width)
    y = _source(top, crop_size, source_height, height)
    if out is None:
        out = np.empty((crop_size, crop_size, 3), np.uint8)
    kernels = backend.kernels()
    if kernels is None:
        crop = _resample_with_pillow(image, crop_size, x, y)
        if is_flipped:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        out[:] = crop
    else:
        rows = np.asarray(image).reshape(source_height, 3 * source_width)
        square = out.reshape(crop_size, 3 * crop_size)
        kernels.resample(rows, tuple(x), tuple(y), is_flipped, square)
    return out


def _resample_with_pillow(
    image: Image.Image | np.ndarray, size: int, x: _Axis, y: _Axis
) -> Image.Image:
    """Resizes a box of an image to a square."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(
            np.ascontiguousarray(image[y.first : y.last, x.first : x.last])
        )
    else:
        image = image.crop((x.first, y.first, x.last, y.last))
    # One axis after the other, because which comes first decides the rounding between
    # them, and Pillow (since 13) decides that by the image's shape.
    image = image.resize(
        (size, image.height),
        Image.Resampling.BILINEAR,
        box=(x.start, 0, x.end, image.height),
    )
    return image.resize(
        (size, size), Image.Resampling.BILINEAR, box=(0, y.start, size, y.end)
    )
