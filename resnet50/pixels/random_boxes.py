"""Boxes of random area and aspect ratio: the crops of Inception, and random erasing.

A box is drawn as in torchvision: an area, as a share of the image's, and a ratio of its
sides; if the box does not fit the image, again, up to ten times. Here all ten are
drawn at once, without knowing the image, so each image takes the same number of draws.
"""

import math
from typing import NamedTuple

import numpy as np

_NUM_TRIES = 10
# torchvision's RandomErasing by default.
_ERASED_AREA, _ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)


class BoxDraw(NamedTuple):
    """The random choices for one box."""

    areas: list[float]  # of each try, as a share of the image's area
    ratios: list[float]  # of each try: one side divided by the other
    ratio_range: tuple[float, float]  # least and greatest ratio
    fractions: tuple[float, float]  # down and right, [0, 1) of the free pixels


class Box(NamedTuple):
    """A rectangle of an image's pixels."""

    left: int
    top: int
    width: int
    height: int


def _power(base: float, exponents: np.ndarray) -> np.ndarray:
    """Returns base to the power of each exponent, [0, 1), to 2**-24 of it.

    Only by square roots and products, which every processor rounds alike.
    """
    powers, root = np.ones_like(exponents), base
    for _ in range(24):
        root, exponents = math.sqrt(root), 2 * exponents
        has_bit = exponents >= 1
        powers = np.where(has_bit, powers * root, powers)
        exponents = exponents - has_bit
    return powers


def draw_boxes(
    rng: np.random.Generator,
    number: int,
    area_range: tuple[float, float],
    ratio_range: tuple[float, float],
) -> list[BoxDraw]:
    """Draws boxes, each from 22 numbers.

    Areas are uniform over their range, and the logarithms of ratios over theirs.
    """
    uniform = rng.random((number, 2 * _NUM_TRIES + 2))
    least, greatest = area_range
    areas = least + (greatest - least) * uniform[:, :_NUM_TRIES]
    narrowest, widest = ratio_range
    powers = _power(widest / narrowest, uniform[:, _NUM_TRIES:-2])
    ratios, fractions = narrowest * powers, uniform[:, -2:]
    rows = zip(areas.tolist(), ratios.tolist(), fractions.tolist())
    return [BoxDraw(a, r, ratio_range, tuple(f)) for a, r, f in rows]


def _sides(pixels: float, ratio: float) -> tuple[int, int]:
    """Returns the sides of a box whose first is the second times the ratio."""
    return round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))


def corner_at(
    size: tuple[int, int], width: int, height: int, fractions: tuple[float, float]
) -> tuple[int, int]:
    """Returns the upper left corner, (left, top), of a box inside an image of a size.

    Each of the possible corners is equally likely if the fractions, down and right, are
    uniform over [0, 1).
    """
    down, right = fractions
    return int(right * (size[0] - width + 1)), int(down * (size[1] - height + 1))


def area_box(size: tuple[int, int], draw: BoxDraw) -> Box:
    """Returns the box of a crop: torchvision's RandomResizedCrop (Szegedy et al. 2014).

    The ratio is width / height. If no try fits, the box is the centre of the image, as
    large as the range of ratios allows.

    Args:
        size: Width and height of the image.
        draw: The random choices.
    """
    image_width, image_height = size
    for area, ratio in zip(draw.areas, draw.ratios):
        pixels = image_width * image_height * area
        width, height = _sides(pixels, ratio)
        if 0 < width <= image_width and 0 < height <= image_height:
            corner = corner_at(size, width, height, draw.fractions)
            return Box(*corner, width, height)
    narrowest, widest = draw.ratio_range
    width = min(image_width, max(1, round(image_height * widest)))
    height = min(image_height, max(1, round(image_width / narrowest)))
    return Box((image_width - width) // 2, (image_height - height) // 2, width, height)


def draw_erasing(rng: np.random.Generator, number: int) -> list[BoxDraw]:
    """Draws the boxes of random erasing."""
    return draw_boxes(rng, number, _ERASED_AREA, _ERASED_RATIO)


def erased_box(size: int, draw: BoxDraw) -> Box | None:
    """Returns the box that torchvision's RandomErasing erases from a square crop.

    Zhong et al. 2017, arXiv 1708.04896. The ratio is height / width. None if no try is
    smaller than the crop.
    """
    for area, ratio in zip(draw.areas, draw.ratios):
        pixels = size * size * area
        height, width = _sides(pixels, ratio)
        if height < size and width < size:
            corner = corner_at((size, size), width, height, draw.fractions)
            return Box(*corner, width, height)
    return None
