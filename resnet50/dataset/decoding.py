"""Decodes image files to RGB, by their content and not by their names.

nvImageCodec decodes parts of JPEG files, and simplejpeg whole ones. Pillow decodes all
other files, and those that these refuse. The result is Pillow's, bit by bit: all three
contain libjpeg-turbo, but simplejpeg returns the pixels faster. Pillow also decodes
CMYK, which the others convert differently.
"""

import errno
import functools
import io
import math
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image

from resnet50.dataset import jpeg_regions
from resnet50.dataset.jpeg_regions import JPEG_START, Region
from resnet50.dataset.remote.store import StoreAwayError
from resnet50.dataset.sources import ImageSource
from resnet50.errors import printable_line

try:
    import simplejpeg
except ImportError:  # There is no wheel for this machine.
    simplejpeg = None

# Those in which photographs are kept. Pillow's decoders of the others start a program
# (EPS), unpack without a limit (FITS) or are slow Python (QOI, BLP, MSP and others).
# TGA is the last, because its files begin with nothing in particular.
_FORMATS = (
    *("JPEG", "PNG", "BMP", "DIB", "GIF", "PPM", "AVIF", "ICO", "JPEG2000", "PCX"),
    *("SGI", "TIFF", "WEBP", "TGA"),
)

# More would take more than 2 GB of memory, or many seconds.
_MAX_PIXELS = 89_478_485  # where Pillow's guard warns; it refuses twice as many
_MAX_SIDE = 2**20  # Pillow keeps a pointer for each row.

# libjpeg goes through all pixels for each scan; a photograph has about 10 scans.
_MAX_SCANNED_PIXELS = 20 * _MAX_PIXELS
_SCAN_START = 0xDAFF  # FF DA, as <u2
_BOMB = "could be a decompression bomb"

# Wider than 8 bits per channel: Pillow's own conversion to RGB clips these at 255.
_SIXTEEN_BIT_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}

# Trying again does not help against these. After any other failure of the disk or the
# network, reading is tried again after each of these pauses.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.ELOOP}
_UNUSABLE = {errno.ENODATA, errno.EFBIG, errno.EINVAL}  # See ImageSource.read.
_PERMANENT_ERRORS = _NOT_THERE | _NOT_ALLOWED | _UNUSABLE
_RETRY_SECONDS = (0.1, 1.0)


class UndecodableImageError(Exception):
    """An image cannot be read, is no image, is damaged, or is dangerously large."""


def read_image(source: ImageSource) -> bytes:
    """Reads an image's bytes, with retries for unreliable disks and networks.

    Raises:
        UndecodableImageError: They cannot be read; the text is the reason alone.
        StoreAwayError: Its server does not answer, so the image may well be there.
    """
    pauses = list(_RETRY_SECONDS)
    while True:
        try:
            return source.read()
        except StoreAwayError:
            raise  # Was tried again already.
        except OSError as error:
            if error.errno in _PERMANENT_ERRORS or not pauses:
                reason = error.strerror or type(error).__name__
                raise UndecodableImageError(reason) from None
            time.sleep(pauses.pop(0))


def decoder_versions() -> dict[str, str]:
    """Returns names and versions of the libraries that decide the pixels."""
    versions = {"pillow_version": PIL.__version__}
    if simplejpeg is not None:
        versions["simplejpeg_version"] = simplejpeg.__version__
    if version := jpeg_regions.nvimgcodec_version():
        versions["nvimgcodec_version"] = version
    return versions


def decode_rgb(source: ImageSource) -> Image.Image:
    """Decodes an image of any of Pillow's formats for photographs, as mode "RGB".

    Greyscale is repeated, CMYK converted, a palette applied, an alpha channel dropped,
    16 bits cut to the upper 8; of several frames, the first is taken. EXIF rotation is
    ignored, as is usual with ImageNet (but Pillow applies a TIFF's orientation).
    An image of more than 89 million pixels is refused.

    Raises:
        UndecodableImageError: It cannot be decoded; the text is the reason alone.
    """
    return _decode_with_pillow(read_image(source))


def decode_pixels(source: ImageSource) -> Image.Image | np.ndarray:
    """Decodes like ``decode_rgb``, with the fastest decoder that accepts the image.

    Returns the same pixels, perhaps as uint8 [H, W, 3].
    """
    return _decode_whole(read_image(source))


class ImagePart(NamedTuple):
    """Pixels of an image: of a region, or all."""

    pixels: Image.Image | np.ndarray  # RGB, or uint8 [H, W, 3]
    corner: tuple[int, int]  # left, top: where they begin in the image
    image_size: tuple[int, int]  # width, height of the image

    @property
    def num_pixels(self) -> int:
        """How many they are."""
        return math.prod(_size(self.pixels))


def decode_part(
    source: ImageSource, region_of: Callable[[tuple[int, int]], Region]
) -> ImagePart:
    """Decodes what is needed of an image; all, if its decoder can do nothing else.

    The pixels are those of ``decode_rgb``. ``region_of`` says which are needed, from
    the image's width and height.

    Raises:
        UndecodableImageError: The image cannot be decoded, not even outside the region.
    """
    data = read_image(source)
    size = jpeg_regions.divisible_size(data)
    if size and not _excess_size(*size):
        region = region_of(size)
        pixels = jpeg_regions.decode_region(data, region)
        if pixels is not None:
            return ImagePart(pixels, region[:2], size)
    whole = _decode_whole(data)
    return ImagePart(whole, (0, 0), _size(whole))


def _size(pixels: Image.Image | np.ndarray) -> tuple[int, int]:
    """Width and height."""
    return pixels.shape[1::-1] if isinstance(pixels, np.ndarray) else pixels.size


def _decode_whole(data: bytes) -> Image.Image | np.ndarray:
    pixels = None if simplejpeg is None else _decode_with_simplejpeg(data)
    return _decode_with_pillow(data) if pixels is None else pixels


def _count_scans(data: bytes) -> int:
    """How many scans a JPEG has at most; other bytes may look like a scan's start."""
    pairs = (
        np.frombuffer(data, "<u2", (len(data) - offset) // 2, offset)
        for offset in (0, 1)
    )
    return sum(int(np.count_nonzero(p == _SCAN_START)) for p in pairs)


def _excess_size(width: int, height: int) -> str:
    """Says that an image is dangerously large; "" if it is not."""
    if width * height <= _MAX_PIXELS and max(width, height) <= _MAX_SIDE:
        return ""
    return (
        f"has {width:,} x {height:,} pixels, more than {_MAX_PIXELS:,} or "
        f"{_MAX_SIDE:,} on a side: {_BOMB}"
    )


def _excess(data: bytes, width: int, height: int) -> str:
    """Says what is dangerously large about an image; "" if nothing is."""
    excess, pixels = _excess_size(width, height), width * height
    if not excess and data[:2] == JPEG_START:
        num_scans = _count_scans(data)
        if num_scans * pixels > _MAX_SCANNED_PIXELS:
            excess = f"has {num_scans:,} scans of {pixels:,} pixels: {_BOMB}"
    return excess


def _decode_with_simplejpeg(data: bytes) -> np.ndarray | None:
    """Decodes a JPEG file; returns None if Pillow must decode the data."""
    if data[:2] != JPEG_START:
        return None
    try:
        height, width, colourspace, _ = simplejpeg.decode_jpeg_header(data)
        # Pillow refuses what is too large.
        if colourspace in ("CMYK", "YCCK") or _excess(data, width, height):
            return None
        # Strict, because otherwise it accepts a file that is cut off.
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", strict=True)
        return pixels
    except (ValueError, MemoryError):
        return None


@functools.cache
def _formats() -> list[str]:
    """Those of _FORMATS that this version of Pillow has."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        high_bytes = np.clip(np.asarray(image) >> 8, 0, 255)
        image = Image.fromarray(high_bytes.astype(np.uint8))
    elif image.format == "JPEG" and image.mode == "RGB":
        image.load()  # convert() would copy it.
        return image
    return image.convert("RGB")


def _decode_with_pillow(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns about what it tolerates (odd metadata, a large image).
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                if excess := _excess(data, *image.size):
                    raise UndecodableImageError(excess)
                return _to_rgb(image)
    except UndecodableImageError:
        raise
    except MemoryError:
        raise UndecodableImageError("does not fit into memory") from None
    except PIL.UnidentifiedImageError:
        raise UndecodableImageError("is no image that Pillow knows") from None
    # Pillow's decoders raise nearly anything about damaged data: OSError, SyntaxError,
    # ValueError, struct.error, zlib.error, DecompressionBombError, ...
    except Exception as error:
        reason = printable_line(" ".join(str(error).split())) or type(error).__name__
        raise UndecodableImageError(reason) from None
