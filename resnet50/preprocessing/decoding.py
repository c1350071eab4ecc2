"""Image files to RGB, by what they contain and not by how they are named."""

import os
import warnings

import numpy as np
from PIL import Image

# Wider than 8 bits a channel: Pillow's own conversion to RGB clips these at 255.
_SIXTEEN_BIT_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}


class UndecodableImageError(Exception):
    """A file cannot be opened, is no image, is damaged, or is dangerously large."""


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        high_bytes = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        image = Image.fromarray(high_bytes.astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        # Straight to RGB Pillow warns; alpha is dropped either way.
        image = image.convert("RGBA")
    return image.convert("RGB")


def decode_rgb(path: str | os.PathLike) -> Image.Image:
    """Decodes an image file of any format that Pillow opens.

    Greyscale is repeated, CMYK converted, palettes looked up, an alpha channel dropped,
    16 bits cut to the upper 8. The first frame of several. EXIF rotation is ignored, as
    is usual with ImageNet. Pillow's guard against decompression bombs stays on.

    Returns:
        A loaded image of mode "RGB".

    Raises:
        UndecodableImageError: With the reason, without the path.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            # Pillow warns of what it forgives (odd metadata, a large image).
            warnings.simplefilter("ignore")
            return _to_rgb(image)
    except MemoryError:
        raise UndecodableImageError("does not fit into memory") from None
    # Pillow's decoders raise nearly anything on damaged data: OSError, SyntaxError,
    # ValueError, struct.error, zlib.error, DecompressionBombError, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = reason.replace(repr(os.fspath(path)), "the file")
        raise UndecodableImageError(reason) from None
