"""Image files to RGB, by what they contain and not by how they are named.

JPEG files are decoded by simplejpeg, all others, and those that it refuses, by Pillow.
The result is Pillow's, bit by bit: both contain libjpeg-turbo, simplejpeg hands the
pixels over faster. CMYK, which it converts otherwise, is left to Pillow as well.
"""

import errno
import io
import time
import warnings

import numpy as np
import PIL
from PIL import Image

from resnet50.dataset.sources import ImageSource

try:
    import simplejpeg
except ImportError:  # Where there is no wheel of it.
    simplejpeg = None

# Wider than 8 bits a channel: Pillow's own conversion to RGB clips these at 255.
_SIXTEEN_BIT_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}

# What is not there, or not for us, stays so. Any other failure of the disk or the
# network is given this many seconds, one after the other, to pass.
_LASTING_ERRORS = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENODATA,  # See sources.py for these three.
    errno.EFBIG,
    errno.EINVAL,
}
_RETRY_SECONDS = (0.1, 1.0)


class UndecodableImageError(Exception):
    """An image cannot be read, is none, is damaged, or is dangerously large."""


def read_image(source: ImageSource) -> bytes:
    """Reads an image's bytes; patient with disks and networks that hiccup.

    Raises:
        UndecodableImageError: They cannot be read, with the reason, without the name.
    """
    for pause in (*_RETRY_SECONDS, None):
        try:
            return source.read()
        except OSError as error:
            if error.errno in _LASTING_ERRORS or pause is None:
                reason = error.strerror or type(error).__name__
                raise UndecodableImageError(reason) from None
            time.sleep(pause)
    raise AssertionError("the last pause is None")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        high_bytes = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        image = Image.fromarray(high_bytes.astype(np.uint8))
    elif image.format == "JPEG" and image.mode == "RGB":
        image.load()  # convert() would copy it.
        return image
    return image.convert("RGB")


def decoder_versions() -> dict[str, str]:
    """Names and versions of the libraries that decide the pixels."""
    versions = {"pillow_version": PIL.__version__}
    if simplejpeg is not None:
        versions["simplejpeg_version"] = simplejpeg.__version__
    return versions


def decode_rgb(source: ImageSource) -> Image.Image:
    """Decodes an image of any format that Pillow opens.

    Greyscale is repeated, CMYK converted, palettes looked up, an alpha channel dropped,
    16 bits cut to the upper 8. The first frame of several. EXIF rotation is ignored, as
    is usual with ImageNet (but not a TIFF's orientation, which Pillow applies).
    Pillow's guard against decompression bombs stays on.

    Returns:
        A loaded image of mode "RGB".

    Raises:
        UndecodableImageError: With the reason, without the name.
    """
    return _decode_with_pillow(read_image(source))


def decode_pixels(source: ImageSource) -> Image.Image | np.ndarray:
    """Decodes like ``decode_rgb``, by the fastest decoder that takes the image.

    Returns:
        The same pixels, as a loaded image of mode "RGB" or as uint8 [H, W, 3].

    Raises:
        UndecodableImageError: With the reason, without the name.
    """
    data = read_image(source)
    pixels = None if simplejpeg is None else _decode_with_simplejpeg(data)
    return _decode_with_pillow(data) if pixels is None else pixels


def _decode_with_simplejpeg(data: bytes) -> np.ndarray | None:
    """The pixels of a JPEG file; None if Pillow shall have it."""
    if data[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colourspace, _ = simplejpeg.decode_jpeg_header(data)
        # Twice that many pixels are where Pillow's guard raises.
        is_bomb = height * width > 2 * (Image.MAX_IMAGE_PIXELS or float("inf"))
        if colourspace in ("CMYK", "YCCK") or is_bomb:
            return None
        # Strict: otherwise it takes a file that is cut off.
        return simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except (ValueError, MemoryError):
        return None


def _decode_with_pillow(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it forgives (odd metadata, a large image).
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return _to_rgb(image)
    except MemoryError:
        raise UndecodableImageError("does not fit into memory") from None
    except Image.UnidentifiedImageError:
        raise UndecodableImageError("is no image that Pillow knows") from None
    # Pillow's decoders raise nearly anything on damaged data: OSError, SyntaxError,
    # ValueError, struct.error, zlib.error, DecompressionBombError, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UndecodableImageError(reason) from None
