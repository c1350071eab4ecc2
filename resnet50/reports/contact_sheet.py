"""Renders a contact sheet: originals next to their crops, in rows, with captions.

Five tiles in a row are 1,560 pixels wide, which fits the screen of a laptop; 64 images
take 13 rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resnet50.pixels.augmentation import AugmentationParams, crop_footprint

# Layout, in pixels.
_COLUMNS, _PICTURE, _SEAM, _GAP = 5, 148, 4, 10
_FONT_SIZE, _LINE = 13, 17
_TILE_WIDTH = 2 * _PICTURE + _SEAM
_TILE_HEIGHT = _PICTURE + 2 * _LINE
_HEADING = 2 * _LINE
_GREY = (90, 90, 90)


class Tile(NamedTuple):
    """One image of a sheet."""

    original: Image.Image  # from small_with_region
    crop: np.ndarray  # uint8 [H, H, 3], RGB
    title: str  # first line below the pictures
    caption: str  # second line


def crop_region(
    size: tuple[int, int], params: AugmentationParams, crop_size: int
) -> tuple[float, float, float, float]:
    """The part of an image of some width and height that a crop comes from.

    Returns:
        (left, top, right, bottom) in pixels of the image, before the resize.
    """
    x, y = crop_footprint(size, params, crop_size)
    return x.first + x.start, y.first + y.start, x.first + x.end, y.first + y.end


def small_with_region(
    image: Image.Image, region: tuple[float, float, float, float]
) -> Image.Image:
    """A copy of an RGB image with the longer side of a tile, and a ``crop_region``."""
    scale = _PICTURE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BILINEAR)
    x_scale, y_scale = width / image.width, height / image.height
    left, right = round(region[0] * x_scale), round(region[2] * x_scale) - 1
    top, bottom = round(region[1] * y_scale), round(region[3] * y_scale) - 1
    pen = ImageDraw.Draw(small)
    # Yellow between black stands out from any photograph, also for colour-blind people.
    # An image one pixel wide has no room for it.
    for inset, colour in ((0, "black"), (1, "yellow"), (2, "black")):
        if right - left >= 2 * inset and bottom - top >= 2 * inset:
            corners = (left + inset, top + inset, right - inset, bottom - inset)
            pen.rectangle(corners, outline=colour)
    return small


def shorten(
    text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """The text, or as much of its beginning as fits a width in pixels."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1].rstrip(" ,")
    return f"{text}..."


def contact_sheet(heading: str, tiles: Sequence[Tile]) -> Image.Image:
    """Renders a heading and tiles in rows of five: the original, then the crop.

    Returns:
        An RGB image at most 1,560 pixels wide.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    width = columns * (_TILE_WIDTH + _GAP) + _GAP
    height = _HEADING + rows * (_TILE_HEIGHT + _GAP)
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, 8), shorten(heading, width - 2 * _GAP, font), "black", font)
    for index, tile in enumerate(tiles):
        left = _GAP + index % columns * (_TILE_WIDTH + _GAP)
        top = _HEADING + index // columns * (_TILE_HEIGHT + _GAP)
        # The original is centred in its square.
        x_margin, y_margin = (_PICTURE - side for side in tile.original.size)
        sheet.paste(tile.original, (left + x_margin // 2, top + y_margin // 2))
        crop = Image.fromarray(tile.crop).resize((_PICTURE, _PICTURE))
        sheet.paste(crop, (left + _PICTURE + _SEAM, top))
        below = top + _PICTURE
        for text, colour in ((tile.title, "black"), (tile.caption, _GREY)):
            pen.text((left, below), shorten(text, _TILE_WIDTH, font), colour, font)
            below += _LINE
    return sheet
