"""Makes crops of a resized image without resizing the rest of it.

``resample_crop`` applies steps 2, 3 and 5; ``views`` makes the crops of a validation
image, without randomness. ``pixel_loops`` chooses the implementation of all loops over
pixels.
"""

import functools
import math
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.pixels.random_boxes import Box

NUM_CROPS = (1, 10)


@functools.cache
def pixel_loops() -> ModuleType:
    """Returns ``kernels``, compiled by numba, or ``pillow_numpy`` if numba is unusable.

    Both modules have the same functions and give the same results, bit by bit. The
    first call loads them, so only a process that makes crops pays for it.
    """
    from resnet50.pixels import pillow_numpy

    try:
        import numba

        from resnet50.pixels import kernels
    except ImportError:  # Numba also raises it if numpy is too new for it.
        return pillow_numpy
    # With NUMBA_DISABLE_JIT the loops would run in Python, value by value.
    return pillow_numpy if numba.config.DISABLE_JIT else kernels


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

    def moved(self, distance: int) -> "Span":
        """Returns the same pixels, counted from a pixel at some distance."""
        return self._replace(first=self.first - distance, last=self.last - distance)


class Footprint(NamedTuple):
    """The pixels of an image that a crop is computed from."""

    x: Span
    y: Span

    @property
    def region(self) -> tuple[int, int, int, int]:
        """The pixels' region: left, top, right, bottom."""
        return self.x.first, self.y.first, self.x.last, self.y.last

    def within(self, corner: tuple[int, int]) -> "Footprint":
        """Returns the same pixels in a part of the image that begins at a corner."""
        return Footprint(self.x.moved(corner[0]), self.y.moved(corner[1]))


def _span(start: int, length: int, source_size: int, resized_size: int) -> Span:
    """Returns the source of ``length`` pixels of the resized image, from ``start``."""
    scale = source_size / resized_size
    # Rounding may put the product beyond the image's edge.
    ends = start * scale, min((start + length) * scale, source_size)
    reach = math.ceil(max(scale, 1))
    first = max(math.floor(ends[0]) - reach, 0)
    last = min(math.ceil(ends[1]) + reach, source_size)
    return Span(ends[0] - first, ends[1] - first, first, last)


def footprint(
    size: tuple[int, int],
    resized: tuple[int, int],
    corner: tuple[int, int],
    crop_size: int,
) -> Footprint:
    """Returns the pixels that a crop of a resized image depends on.

    Args:
        size: Width and height of the image.
        resized: The same of the resized image; see ``resized_size``.
        corner: The crop's upper left corner in it: left, top.
        crop_size: Side of the crop, pixels.
    """
    return Footprint(*map(_span, corner, (crop_size, crop_size), size, resized))


def box_footprint(box: Box) -> Footprint:
    """Returns the pixels of a crop that is a whole box of the image, resized."""
    starts, sizes = (box.left, box.top), (box.width, box.height)
    return Footprint(*(Span(0.0, n, at, at + n) for at, n in zip(starts, sizes)))


def centre_corner(width: int, height: int, crop_size: int) -> tuple[int, int]:
    """Returns the upper left corner, (left, top), of a crop in the middle of an image.

    Half of an odd margin is rounded as in torchvision's CenterCrop.
    """
    return round(0.5 * (width - crop_size)), round(0.5 * (height - crop_size))


def resample_crop(
    image: Image.Image | np.ndarray,
    source: Footprint,
    out: np.ndarray,
    *,
    is_flipped: bool = False,
) -> np.ndarray:
    """Steps 2, 3 and 5 in one: computes the pixels of a crop of the resized image.

    Only the crop's source is resampled: bilinear, with antialiasing, along x and then
    along y. The result is that of resizing the whole image and cropping, to 2 of 255
    levels. On average 99 % of a photograph's values are equal, and 95 % where few
    pixels are enlarged.

    Args:
        image: RGB, or uint8 [H, W, 3].
        source: The crop's pixels in it.
        out: uint8 [crop_size, crop_size, 3], contiguous; overwritten and returned.
        is_flipped: Whether to swap left and right of the crop.
    """
    pixel_loops().resample(image, *source, is_flipped, out)
    return out


def views(
    image: Image.Image, *, shorter_side: int, crop_size: int, num_crops: int
) -> np.ndarray:
    """Resizes a validation image and crops it.

    One crop is the centre. Ten are the four corners and the centre, and the same five
    mirrored (Krizhevsky et al. 2012, section 4.1).

    The resized image's shorter side, pixels, must be at least ``crop_size``. Returns
    RGB, uint8 [num_crops, crop_size, crop_size, 3].
    """
    resized = resized_size(*image.size, shorter_side)
    right, bottom = (side - crop_size for side in resized)
    corners = [centre_corner(*resized, crop_size)]
    if num_crops == 10:
        corners = [(0, 0), (right, 0), (0, bottom), (right, bottom), *corners]
    crops = np.empty((num_crops, crop_size, crop_size, 3), np.uint8)
    for corner, crop in zip(corners, crops):
        resample_crop(image, footprint(image.size, resized, corner, crop_size), crop)
    if num_crops == 10:
        crops[5:] = crops[:5, :, ::-1]
    return crops
