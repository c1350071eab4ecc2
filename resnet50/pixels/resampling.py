"""Makes a crop of a resized image without resizing the rest of it: steps 2, 3 and 5."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.pixels import backend


def image_size(image: Image.Image | np.ndarray) -> tuple[int, int]:
    """Returns width and height of an image or of uint8 [H, W, 3]."""
    return image.shape[1::-1] if isinstance(image, np.ndarray) else image.size


def resized_size(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """Returns width and height after a resize that keeps the aspect ratio.

    The longer side is rounded down, as in torchvision.
    """
    shorter = min(width, height)
    return width * shorter_side // shorter, height * shorter_side // shorter


class Span(NamedTuple):
    """The source of a crop along one axis."""

    start: float  # position of the crop's near edge, pixels from ``first``
    end: float  # position of its far edge
    first: int  # the first of the whole pixels that the filter needs
    last: int  # the pixel after the last of them


def _span(start: int, length: int, source_size: int, resized_size: int) -> Span:
    """Returns the source of ``length`` pixels of the resized image, from ``start``."""
    scale = source_size / resized_size
    # Rounding may put the product beyond the image's edge.
    ends = start * scale, min((start + length) * scale, source_size)
    reach = math.ceil(max(scale, 1))
    first = max(math.floor(ends[0]) - reach, 0)
    last = min(math.ceil(ends[1]) + reach, source_size)
    return Span(ends[0] - first, ends[1] - first, first, last)


def crop_of_resized(
    image: Image.Image | np.ndarray,
    resized: tuple[int, int],
    corner: tuple[int, int],
    crop_size: int,
    *,
    is_flipped: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Steps 2, 3 and 5 in one: computes the pixels of a crop of the resized image.

    Only the crop's source region is resampled: bilinear, with antialiasing, along x and
    then along y. The result is that of resizing the whole image and cropping, to 2 of
    255 levels. On average 99 % of a photograph's values are equal, and 95 % where few
    pixels are enlarged.

    Args:
        image: RGB, any size; or uint8 [H, W, 3].
        resized: Width and height of the resized image; see ``resized_size``.
        corner: The crop's upper left corner in it: left, top.
        crop_size: Side of the crop, pixels.
        is_flipped: Whether to swap left and right of the crop.
        out: uint8 [crop_size, crop_size, 3], contiguous; overwritten. None: a new one.

    Returns:
        uint8 [crop_size, crop_size, 3]: ``out``, if it was given.
    """
    if out is None:
        out = np.empty((crop_size, crop_size, 3), np.uint8)
    x, y = map(_span, corner, (crop_size, crop_size), image_size(image), resized)
    backend.get().resample(image, x, y, is_flipped, out)
    return out
