"""Regions of JPEG files: the same pixels as those of the whole image, or none."""

import io
import itertools
import os
import random

import numpy as np
import pytest
from PIL import Image

from resnet50.dataset import decoding, jpeg_regions
from resnet50.dataset.decoding import UndecodableImageError, decode_part
from resnet50.dataset.jpeg_regions import decode_region, divisible_size
from resnet50.dataset.sources import ImageSource
from tests.images import make_image_kinds, make_undecodable_kinds, photograph
from tests.processes import in_own_process, resident_bytes

needs_regions = pytest.mark.skipif(
    jpeg_regions._decoder() is None, reason="nvImageCodec is not installed"
)
simplejpeg = pytest.importorskip("simplejpeg")

SUBSAMPLINGS = ("444", "422", "420", "440", "411", "Gray")
SIZES = ((64, 64), (77, 51), (33, 98), (160, 120))


def jpeg_of(width, height, subsampling="420", quality=90) -> bytes:
    pixels = photograph(width, height)
    if subsampling != "Gray":
        return simplejpeg.encode_jpeg(
            pixels, colorsubsampling=subsampling, quality=quality
        )
    grey = np.ascontiguousarray(pixels[:, :, :1])
    return simplejpeg.encode_jpeg(grey, quality, "GRAY", subsampling)


def saved(width=77, height=51, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photograph(width, height)).save(file, "JPEG", **options)
    return file.getvalue()


def with_orientation(width, height) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(width, height, exif=exif)


def whole(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def regions(width, height, number, rng):
    """Regions of at least 16 pixels a side, some of them at the image's edges."""
    for _ in range(number):
        ends = []
        for side in (width, height):
            start = rng.choice((0, rng.randrange(side - 15)))
            ends.append(
                (start, rng.choice((side, rng.randrange(start + 16, side + 1))))
            )
        (left, right), (top, bottom) = ends
        yield left, top, right, bottom


def assert_regions_are_exact(data: bytes, number=40) -> None:
    pixels = whole(data)
    height, width = pixels.shape[:2]
    assert divisible_size(data) == (width, height)
    for region in regions(width, height, number, random.Random(0)):
        left, top, right, bottom = region
        np.testing.assert_array_equal(
            decode_region(data, region), pixels[top:bottom, left:right], str(region)
        )


@needs_regions
def test_decoding_does_not_leak():
    """32 bytes for an image would be 3.7 GB in 90 epochs of ImageNet."""
    data = jpeg_of(77, 51)
    growth = in_own_process(_growth_of_decoding, data)
    assert growth < 200_000  # A leak would be 640,000 bytes.


def _growth_of_decoding(data: bytes) -> int:
    sizes = []
    for _ in range(2):
        for index in range(20_000):
            decode_region(data, (0, 0, 32 + index % 40, 32))
        sizes.append(resident_bytes(os.getpid()))
    return sizes[1] - sizes[0]


@needs_regions
def test_each_result_has_memory_of_its_own():
    data = jpeg_of(77, 51)
    first = decode_region(data, (0, 0, 40, 40))
    before = first.copy()
    decode_region(data, (20, 10, 60, 50))
    assert np.array_equal(first, before)


@needs_regions
@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_regions_are_parts_of_pillows_pixels(subsampling, quality):
    for size in SIZES:
        assert_regions_are_exact(jpeg_of(*size, subsampling, quality))


@needs_regions
@pytest.mark.parametrize(
    "options",
    [
        {"restart_marker_blocks": 2, "subsampling": "4:2:0"},
        {"restart_marker_rows": 1, "subsampling": "4:2:2"},
        {"optimize": True},
        {"keep_rgb": True, "subsampling": "4:4:4"},
        {"icc_profile": bytes(100_000), "comment": b"\xff\xd9 \xff\xda"},
    ],
    ids=str,
)
def test_regions_of_uncommon_files_are_exact(options):
    for size in SIZES:
        assert_regions_are_exact(saved(*size, **options))


@needs_regions
def test_the_orientation_in_exif_is_ignored():
    assert_regions_are_exact(with_orientation(77, 51))


@needs_regions
@pytest.mark.parametrize(
    "data",
    [
        saved(progressive=True),
        saved()[:-2],
        saved() + b"\0",
        saved()[:1500] + b"\xff\xd9",
        saved()[:1500] + b"\xff\xc4" + saved()[1500:],
        saved()[:1500] + b"\xff\xd0" + saved()[1500:],
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
    ],
    ids=[
        *("progressive", "no end", "a byte after the end", "cut off, with an end"),
        *("a marker", "a restart marker", "empty", "start", "a byte more"),
    ],
)
def test_only_a_whole_decode_can_judge_others(data):
    is_cut_off = data.endswith(b"\xff\xd9") and len(data) == 1502
    assert (divisible_size(data) is not None) == is_cut_off
    # Pillow fills the rest of it with grey.
    if is_cut_off:
        assert_regions_are_exact(data)


@needs_regions
def test_cmyk_is_left_to_pillow():
    file = io.BytesIO()
    Image.fromarray(photograph(77, 51)).convert("CMYK").save(file, "JPEG")
    assert divisible_size(file.getvalue()) is None


@needs_regions
def test_narrow_regions_are_left_to_a_whole_decode():
    """The chrominance of a region of one column would be interpolated otherwise."""
    data = jpeg_of(77, 51)
    assert decode_region(data, (0, 0, 15, 51)) is None
    assert decode_region(data, (0, 0, 77, 15)) is None
    assert decode_region(data, (0, 0, 16, 16)) is not None


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flips, drops or inserts some bytes after the start and before the end."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(2, len(changed) - 2)
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice((0, 0xC4, 0xD0, 0xFF))
        elif kind == 2:
            del changed[at : at + rng.choice((1, 10, 100))]
        else:
            changed[at:at] = rng.randbytes(rng.choice((1, 20)))
    return bytes(changed)


@needs_regions
def test_regions_of_damaged_files_are_exact_or_none():
    """Pillow accepts most of them; its pixels decide, also outside of the region."""
    rng = random.Random(0)
    originals = [jpeg_of(64, 80, subsampling) for subsampling in SUBSAMPLINGS]
    originals += [saved(64, 80, restart_marker_blocks=3)]
    num_compared = 0
    for data in itertools.islice(itertools.cycle(originals), 2_000):
        data = damaged(data, rng)
        size = divisible_size(data)
        if size is None or min(size) < 16 or max(size) > 2_000:
            continue
        (region,) = regions(*size, 1, rng)
        pixels = decode_region(data, region)
        if pixels is not None:
            left, top, right, bottom = region
            np.testing.assert_array_equal(pixels, whole(data)[top:bottom, left:right])
            num_compared += 1
    assert num_compared > 500


@needs_regions
def test_nothing_is_printed_about_a_damaged_file(capfd):
    data = bytearray(jpeg_of(160, 120))
    data[2_000:3_000] = bytes(1_000)
    decode_region(bytes(data), (0, 0, 160, 120))
    data[600:800] = bytes(200)
    decode_region(bytes(data), (0, 0, 160, 120))
    assert capfd.readouterr() == ("", "")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_every_kind_has_the_same_pixels_in_parts(tmp_path):
    def region_of(size):
        return 0, size[1] // 3, *size

    for path in make_image_kinds(tmp_path).values():
        source = ImageSource(str(path))
        part = decode_part(source, region_of)
        expected = np.asarray(decoding.decode_rgb(source))
        left, top, right, bottom = region_of(part.image_size)
        x, y = part.corner
        np.testing.assert_array_equal(
            np.asarray(part.pixels)[top - y : bottom - y, left - x : right - x],
            expected[top:bottom, left:right],
        )
        assert part.image_size == expected.shape[1::-1]
    for path in make_undecodable_kinds(tmp_path).values():
        with pytest.raises(UndecodableImageError):
            decode_part(ImageSource(str(path)), region_of)


def test_without_nvimagecodec_the_whole_image_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(jpeg_regions, "_decoder", lambda: None)
    path = tmp_path / "a.JPEG"
    path.write_bytes(jpeg_of(77, 51))
    part = decode_part(ImageSource(str(path)), lambda size: (10, 10, 40, 40))
    assert part.corner == (0, 0)
    assert part.image_size == (77, 51)
    np.testing.assert_array_equal(part.pixels, whole(path.read_bytes()))


@needs_regions
def test_a_large_image_is_refused_as_if_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "_MAX_PIXELS", 77 * 51 - 1)
    path = tmp_path / "a.JPEG"
    path.write_bytes(jpeg_of(77, 51))
    with pytest.raises(UndecodableImageError, match="decompression bomb"):
        decode_part(ImageSource(str(path)), lambda size: (10, 10, 40, 40))
