"""Proves that a file of any mode and format decodes, by its content, to known RGB.

An undecodable file raises one kind of error, with a reason.
"""

import warnings

import numpy as np
import pytest
from PIL import Image

from resnet50.dataset import decoding
from resnet50.dataset.decoding import UndecodableImageError, decode_rgb
from resnet50.dataset.sources import ImageSource
from tests.fuzz import image_seeds
from tests.images import (
    colour_of,
    index_of,
    make_image_kinds,
    make_undecodable_kinds,
    photograph,
)

PHOTOGRAPH = photograph(50, 41)
GREY = np.asarray(Image.fromarray(PHOTOGRAPH).convert("L"))
PALETTE = np.asarray(Image.fromarray(PHOTOGRAPH).quantize(40).convert("RGB"))


def repeat(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


# Exact pixels of every lossless kind.
LOSSLESS = {
    "rgb.png": PHOTOGRAPH,
    "rotated_by_exif.png": PHOTOGRAPH,
    "palette.png": PALETTE,
    "palette_with_transparency.png": PALETTE,
    "palette_with_alphas.png": PALETTE,
    "grey_with_transparency.png": repeat(GREY),
    "rgb_with_transparency.png": PHOTOGRAPH,
    "rgba.png": PHOTOGRAPH,
    "grey_alpha.png": repeat(GREY),
    "one_bit.png": repeat(Image.fromarray(GREY).convert("1").convert("L")),
    "sixteen_bit.png": repeat(PHOTOGRAPH[..., 0]),
    "sixteen_bit.tiff": repeat(PHOTOGRAPH[..., 0]),
    "rgb.tiff": PHOTOGRAPH,
    "cmyk.tiff": PHOTOGRAPH,
    "palette.gif": PALETTE,
    "rgb.bmp": PHOTOGRAPH,
    "rgb.webp": PHOTOGRAPH,
    "png_named.JPEG": PHOTOGRAPH,
    "no_extension": PHOTOGRAPH,
    "one_pixel.png": PHOTOGRAPH[:1, :1],
    "column.png": photograph(1, 5000),
    "row.png": photograph(5000, 1),
}

LOSSY = {
    "rgb.JPEG": PHOTOGRAPH,
    "grey.JPEG": repeat(GREY),
    "cmyk.JPEG": PHOTOGRAPH,
    "rotated_by_exif.JPEG": PHOTOGRAPH,
}


def rgb_of(path):
    return decode_rgb(ImageSource(str(path)))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return make_image_kinds(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def undecodable(tmp_path_factory):
    return make_undecodable_kinds(tmp_path_factory.mktemp("undecodable"))


def test_every_kind_has_an_expectation(kinds):
    assert set(kinds) == set(LOSSLESS) | set(LOSSY)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_kind_decodes_exactly(kinds, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = rgb_of(kinds[kind])
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), LOSSLESS[kind])


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_kind_decodes_nearly(kinds, kind):
    image = rgb_of(kinds[kind])
    assert image.mode == "RGB"
    assert image.size == (50, 41)
    # JPEG loses most of the noise; a wrong or inverted channel is off by 40 or more.
    error = np.asarray(image).astype(float) - LOSSY[kind]
    assert np.abs(error).mean() < 12
    assert np.abs(error.mean(axis=(0, 1))).max() < 2


@pytest.mark.parametrize(
    ("mode", "extension"),
    [("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGB", "png"), ("CMYK", "tiff")],
)
def test_flat_colours_survive(tmp_path, mode, extension):
    for index in (0, 10, 120, 700, 1330):
        path = tmp_path / f"{index}.{extension}"
        Image.new("RGB", (20, 20), colour_of(index)).convert(mode).save(path)
        pixels = np.asarray(rgb_of(path)).reshape(-1, 3)
        assert {index_of(pixel) for pixel in pixels} == {index}


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    values = np.array([[0, 255, 256, 511, 32_768, 65_279, 65_280, 65_535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "values.png")
    pixels = np.asarray(rgb_of(tmp_path / "values.png"))
    np.testing.assert_array_equal(pixels, repeat(values >> 8))


@pytest.mark.parametrize("extension", ["JPEG", "png", "webp"])
def test_exif_orientation_is_ignored(tmp_path, extension):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"image.{extension}"
    Image.fromarray(PHOTOGRAPH).save(path, exif=exif)
    assert rgb_of(path).size == (50, 41)


def test_first_of_several_frames(tmp_path):
    first, second = (Image.new("RGB", (9, 9), colour_of(i)) for i in (5, 6))
    first.save(tmp_path / "frames.gif", save_all=True, append_images=[second])
    pixels = np.asarray(rgb_of(tmp_path / "frames.gif"))
    assert index_of(pixels[0, 0]) == 5


def test_a_decoded_image_does_not_need_its_file(kinds, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(kinds["rgb.png"].read_bytes())
    image = rgb_of(path)
    path.unlink()
    np.testing.assert_array_equal(np.asarray(image), PHOTOGRAPH)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "is no image that Pillow knows"),
        ("text", "is no image that Pillow knows"),
        ("zeros", "is no image that Pillow knows"),
        ("header_only", "is no image that Pillow knows"),
        ("half_a_jpeg", "image file is truncated"),
        ("half_a_png", "image file is truncated"),
        ("damaged_png", "broken data stream"),
        ("absent", "No such file or directory"),
        ("folder", "Is a directory"),
    ],
)
def test_undecodable_file_raises_with_a_reason_in_one_line(undecodable, kind, reason):
    path = str(undecodable[kind])
    with pytest.raises(UndecodableImageError) as caught:
        rgb_of(path)
    message = str(caught.value)
    assert reason in message
    assert path not in message
    assert "\n" not in message


def test_decompression_bomb_raises(kinds, monkeypatch):
    monkeypatch.setattr(decoding, "_MAX_PIXELS", 1_000)
    with pytest.raises(UndecodableImageError, match="decompression bomb"):
        rgb_of(kinds["rgb.png"])


def test_a_lack_of_memory_is_a_reason(kinds, monkeypatch):
    def convert(*args):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(UndecodableImageError, match="does not fit into memory"):
        rgb_of(kinds["palette.png"])


def pixels_of(path):
    return np.asarray(decoding.decode_pixels(ImageSource(str(path))))


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_fast_decoder_gives_pillows_pixels(
    tmp_path, monkeypatch, quality, subsampling, progressive
):
    simplejpeg = pytest.importorskip("simplejpeg")
    monkeypatch.setattr(decoding, "simplejpeg", simplejpeg)
    path = tmp_path / "a.JPEG"
    Image.fromarray(photograph(77, 51)).save(
        path, quality=quality, subsampling=subsampling, progressive=progressive
    )
    pixels = decoding.decode_pixels(ImageSource(str(path)))
    assert isinstance(pixels, np.ndarray)
    np.testing.assert_array_equal(pixels, np.asarray(rgb_of(path)))


@pytest.mark.parametrize("has_simplejpeg", [True, False])
def test_every_kind_is_the_same_with_and_without_the_fast_decoder(
    tmp_path, monkeypatch, has_simplejpeg
):
    if has_simplejpeg:
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(decoding, "simplejpeg", None)
    for path in make_image_kinds(tmp_path).values():
        np.testing.assert_array_equal(pixels_of(path), np.asarray(rgb_of(path)))
    for path in make_undecodable_kinds(tmp_path).values():
        with pytest.raises(UndecodableImageError):
            decoding.decode_pixels(ImageSource(str(path)))


def test_the_guard_against_bombs_stays_on_with_the_fast_decoder(tmp_path, monkeypatch):
    pytest.importorskip("simplejpeg")
    path = tmp_path / "a.JPEG"
    Image.new("RGB", (100, 90)).save(path)
    monkeypatch.setattr(decoding, "_MAX_PIXELS", 8_999)
    with pytest.raises(UndecodableImageError, match="decompression bomb"):
        decoding.decode_pixels(ImageSource(str(path)))


def reason_of(path, data):
    path.write_bytes(data)
    with pytest.raises(UndecodableImageError) as caught:
        decoding.decode_pixels(ImageSource(str(path)))
    return str(caught.value)


def test_no_program_is_started_for_an_image(tmp_path, monkeypatch):
    """Pillow gives PostScript to Ghostscript, which runs whatever it says."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    data = image_seeds.saved(Image.fromarray(PHOTOGRAPH), "EPS")
    assert reason_of(tmp_path / "a.JPEG", data) == "is no image that Pillow knows"
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("has_simplejpeg", [True, False])
def test_a_jpeg_file_with_thousands_of_scans_is_refused(
    tmp_path, monkeypatch, has_simplejpeg
):
    """Each scan takes as long as an image; half a MB would take minutes."""
    if not has_simplejpeg:
        monkeypatch.setattr(decoding, "simplejpeg", None)
    few, many = (image_seeds.many_scans(2_000, 2_000, n) for n in (20, 2_000))
    (tmp_path / "few.JPEG").write_bytes(few)
    assert pixels_of(tmp_path / "few.JPEG").shape == (2_000, 2_000, 3)
    reason = reason_of(tmp_path / "many.JPEG", many)
    assert (
        reason == "has 2,009 scans of 4,000,000 pixels: could be a decompression bomb"
    )


@pytest.mark.parametrize(
    ("width", "height"), [(9_500, 9_500), (1, 2_000_000), (2_000_000, 1)]
)
def test_an_image_that_unpacks_to_a_gigabyte_is_refused(tmp_path, width, height):
    reason = reason_of(tmp_path / "a.png", image_seeds.flat_png(width, height, 1, 0))
    assert reason == (
        f"has {width:,} x {height:,} pixels, more than 89,478,485 or 1,048,576 on a "
        "side: could be a decompression bomb"
    )
