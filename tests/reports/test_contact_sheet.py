"""Proves the position of a crop's region, and that captions fit their tile."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from resnet50.pixels.augmentation import AugmentationParams
from resnet50.reports.contact_sheet import (
    Tile,
    contact_sheet,
    crop_region,
    shorten,
    small_with_region,
)
from tests.images import photograph
from tests.pixels.whole_images import resize_and_crop


def params(shorter_side, down, right):
    return AugmentationParams(shorter_side, (down, right), False, (0.0, 0.0, 0.0))


def test_box_by_hand():
    # 400 x 200 becomes 80 x 40; a crop of 32 has the corners 0..48 across, 0..8 down.
    assert crop_region((400, 200), params(40, 0.0, 0.0), 32) == (0, 0, 160, 160)
    assert crop_region((400, 200), params(40, 0.99, 0.99), 32) == (240, 40, 400, 200)


@pytest.mark.parametrize("size", [(90, 60), (61, 97)])
def test_the_region_holds_the_pixels_of_the_crop(size):
    image = Image.fromarray(photograph(*size))
    chosen = params(50, 0.3, 0.8)
    region = crop_region(size, chosen, 32)
    resample = Image.Resampling.BILINEAR
    expected = np.asarray(image.resize((32, 32), resample, box=region), int)
    crop = resize_and_crop(image, chosen, 32).astype(int)
    assert np.abs(crop - expected).mean() < 1


@pytest.mark.parametrize("size", [(400, 100), (1, 1), (1, 900), (30, 60)])
def test_originals_of_any_shape_fit_their_square(size):
    image = Image.new("RGB", size, "blue")
    small = small_with_region(image, (0, 0, min(size), min(size)))
    assert max(small.size) == 148
    assert small.width * size[1] == pytest.approx(small.height * size[0], rel=0.02) or (
        min(small.size) == 1
    )
    assert image.getcolors() == [(size[0] * size[1], (0, 0, 255))]


def test_long_captions_are_shortened_to_their_width():
    font = ImageFont.load_default(13)
    long = "n02113799 standard poodle, the one that was shorn for the show"
    text = shorten(long, 200, font)
    assert text.endswith("...")
    assert long.startswith(text.removesuffix("..."))
    assert 170 < font.getlength(text) <= 200
    assert shorten("tench", 200, font) == "tench"
    assert shorten("a\nb\udcff", 200, font) == "a?b?"


def test_nothing_is_rendered_outside_a_tile():
    """Long captions must not reach the next tile or the edge of the sheet."""
    crop = np.full((32, 32, 3), 200, np.uint8)
    small = small_with_region(Image.new("RGB", (40, 40), "blue"), (0, 0, 32, 32))
    tile = Tile(small, crop, "M" * 200, "g" * 200)
    sheet = np.asarray(contact_sheet("W" * 200, [tile] * 7))
    assert sheet.shape == (34 + 2 * 192, 1560, 3)
    for column in range(6):
        assert (sheet[34:, column * 310 : column * 310 + 10] == 255).all()
    assert (sheet[:, -10:] == 255).all()
    assert (sheet[-8:] == 255).all()
    assert (sheet[34 + 192 :, 2 * 310 :] == 255).all()
