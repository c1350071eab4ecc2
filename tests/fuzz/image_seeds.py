"""Small valid images of every format that Pillow reads and writes, and bombs."""

import functools
import io
import random
import struct
import zlib

from PIL import Image, PngImagePlugin

from resnet50.dataset import decoding
from tests.images import photograph

# A little below the limit of 89 million pixels.
_BOMB_SIDE = 9_450

_MODES = ("RGB", "L", "RGBA", "P", "LA", "1", "CMYK", "I;16", "F", "LAB", "YCbCr")


def saved(image: Image.Image, kind: str, **options) -> bytes:
    """The content of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@functools.cache
def _photograph(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(photograph(width, height))


def _jpegs() -> list[bytes]:
    image = _photograph()
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "words " * 30
    options = (
        *({"subsampling": s} for s in ("4:4:4", "4:2:2", "4:2:0")),
        {"progressive": True},
        {"restart_marker_blocks": 2},
        {"exif": exif, "optimize": True},
        {"icc_profile": bytes(3_000), "comment": b"a comment"},
    )
    seeds = [saved(image, "JPEG", **o) for o in options]
    seeds += [saved(image.convert(m), "JPEG") for m in ("L", "CMYK")]
    if decoding.simplejpeg is not None:
        pixels = photograph(64, 48)
        seeds += [
            decoding.simplejpeg.encode_jpeg(pixels, colorsubsampling=s)
            for s in ("411", "440")
        ]
    return seeds


def many_scans(width: int, height: int, repeats: int) -> bytes:
    """A progressive JPEG whose last scan comes many times."""
    data = saved(Image.new("RGB", (width, height)), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * repeats + data[-2:]


def _jpeg_bombs() -> list[bytes]:
    small = saved(_photograph(), "JPEG", progressive=True)
    frame = small.find(b"\xff\xc2")
    announced = small[: frame + 5] + struct.pack(">HH", 2_700, 65_500)
    side = _BOMB_SIDE
    return [
        announced + small[frame + 9 :],
        saved(Image.new("RGB", (side, side)), "JPEG", progressive=True),
        saved(Image.new("CMYK", (side, side)), "JPEG"),
        many_scans(2_000, 2_000, 5_000),
        many_scans(65_500, 1_300, 10),
    ]


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def flat_png(width: int, height: int, bits: int, colour_type: int) -> bytes:
    """A black PNG file of any size, made without its pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    row = bytes(1 + (width * channels * bits + 7) // 8)
    rows = max(1, 2**20 // len(row))
    packer = zlib.compressobj(9)
    packed = [packer.compress(row * rows) for _ in range(height // rows)]
    packed += [packer.compress(row * (height % rows)), packer.flush()]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    palette = _chunk(b"PLTE", bytes(12)) if colour_type == 3 else b""
    body = _chunk(b"IDAT", b"".join(packed))
    start = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    return start + palette + body + _chunk(b"IEND", b"")


def _png_bombs() -> list[bytes]:
    side = _BOMB_SIDE
    text = PngImagePlugin.PngInfo()
    for number in range(20):
        text.add_text(f"{number}", "x" * 900_000, zip=True)
    return [
        *(flat_png(side, side, bits, kind) for bits, kind in ((8, 6), (16, 0), (8, 3))),
        flat_png(85, 2**20, 16, 6),
        flat_png(2**20, 85, 8, 2),
        flat_png(1, 80_000_000, 1, 0),
        flat_png(60_000, 60_000, 1, 0),
        saved(_photograph(), "PNG", pnginfo=text),
    ]


def _bombs(kind: str) -> list[bytes]:
    if kind == "JPEG":
        return _jpeg_bombs()
    if kind == "PNG":
        return _png_bombs()
    options = {
        "GIF": {},
        "WEBP": {"lossless": True},
        "JPEG2000": {},
        "TIFF": {"compression": "tiff_lzw"},
        "TGA": {"compression": "tga_rle"},
    }
    if kind not in options:
        return []
    modes = ("RGB", "I;16", "F") if kind == "TIFF" else ("RGB",)
    size = (_BOMB_SIDE, _BOMB_SIDE)
    return [saved(Image.new(m, size), kind, **options[kind]) for m in modes]


def _seeds(kind: str) -> list[bytes]:
    if kind == "JPEG":
        return _jpegs()
    image, seeds = _photograph(), []
    for mode in _MODES:
        if mode == "I;16":
            converted = image.convert("L").convert("I").convert("I;16")
        elif mode == "LAB":
            continue
        else:
            converted = image.convert(mode)
        try:
            seeds.append(saved(converted, kind))
        # Each format has its own errors for a mode that it does not have.
        except Exception:
            continue
    if kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        more = [image.rotate(90 * n) for n in (1, 2)]
        seeds.append(saved(image, kind, save_all=True, append_images=more))
    if kind == "TIFF":
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
            seeds.append(saved(image, kind, compression=compression))
        seeds.append(saved(image.convert("1"), kind, compression="group4"))
    if kind == "PPM":
        seeds.append(b"P3 # words\n4 2 255\n" + b"1 2 3 4 5 6 7 8 9 10 11 12\n" * 2)
    if kind == "BMP":
        header = struct.pack("<2sIHHI", b"BM", 1_100, 0, 0, 1_078)
        sizes = struct.pack("<IiiHHIIiiII", 40, 16, 4, 1, 8, 1, 0, 0, 0, 256, 0)
        runs = b"\x10\x05\x00\x00" * 4 + b"\x00\x01"
        seeds.append(header + sizes + bytes(1_024) + runs)
    return seeds


def formats() -> list[str]:
    """The formats that are decoded, and one that must not be."""
    written = [kind for kind in decoding._formats() if kind in Image.SAVE]
    return [*(kind for kind in written if _seeds(kind)), "EPS"]


def image_seeds(kind: str, *, with_bombs: bool) -> list[bytes]:
    """Valid images of a format, and files that become as large as is allowed."""
    # Made in an order that does not depend on the process.
    random.seed(0)
    return _seeds(kind) + (_bombs(kind) if with_bombs else [])
