"""TrivialAugment: one random operation, of random strength, on each crop.

Mueller and Hutter 2021, arXiv 2103.10158, with the space "Wide" of torchvision's
TrivialAugmentWide: 14 operations, 31 strengths, nearest-neighbour interpolation, black
outside the image. Each operation is torchvision's on Pillow images, but its blends are
in whole numbers: Pillow's float32 may differ by a level from processor to processor.

    operation     level 0 to 30, and for those with a sign also -30 to 0
    Identity
    ShearX/Y      0.033 * level, the shear's tangent
    TranslateX/Y  32 / 30 * level pixels, rounded towards 0
    Rotate        4.5 * level degrees
    Brightness    blend with black, 1 + 0.033 * level of the image
    Color         blend with grey, in the same shares
    Contrast      blend with the mean grey, in the same shares
    Sharpness     blend with the smoothed image, in the same shares
    Posterize     8 - level / 5 bits, rounded; no sign
    Solarize      levels from 255 - 8.5 * level on are inverted; no sign
    AutoContrast
    Equalize
"""

import functools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

SIGNED = (
    *("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
    *("Brightness", "Color", "Contrast", "Sharpness"),
)
UNSIGNED = ("Posterize", "Solarize")
OPERATIONS = ("Identity", *SIGNED, *UNSIGNED, "AutoContrast", "Equalize")
MAX_LEVEL = 30
# The pixels of each level; the float32 of torchvision has 15, not 16, at level 15.
_PIXELS = (*range(16), *range(17, 31), 32)
# The first level of brightness that is inverted. The same float32 decides whether a
# threshold that is a whole number belongs to it.
_THRESHOLDS = (
    *(255, 247, 239, 230, 222, 213, 205, 196, 188, 179, 170, 162, 153, 145, 136, 128),
    *(120, 111, 103, 94, 86, 77, 69, 60, 52, 43, 35, 26, 18, 9, 0),
)


class Operation(NamedTuple):
    """The random choice for one crop."""

    name: str
    level: int = 0  # -30 to 30

    def __str__(self):
        """The name, and the level if it has one."""
        has_level = self.name in SIGNED + UNSIGNED
        return f"{self.name} {self.level}" if has_level else self.name


def draw_operations(rng: np.random.Generator, number: int) -> list[Operation]:
    """Draws an operation for each of a number of images, always from three numbers."""
    operations = []
    for which, strength, sign in rng.random((number, 3)).tolist():
        name = OPERATIONS[int(which * len(OPERATIONS))]
        level = int(strength * (MAX_LEVEL + 1))
        if name in SIGNED and sign <= 0.5:
            level = -level
        has_level = name in SIGNED + UNSIGNED
        operations.append(Operation(name, level if has_level else 0))
    return operations


@functools.lru_cache(maxsize=2 * MAX_LEVEL + 1)
def _blends(level: int) -> np.ndarray:
    """All blends of two levels: uint8 [256 of the other, 256 of the crop].

    (1 - share) * other + share * crop, rounded down; share is 1 + 0.033 * level. A
    table, because 65,536 divisions take less time than those of a crop.
    """
    crop, other = np.arange(256), np.arange(256)[:, None]
    share = 1000 + 33 * level
    blends = other + (crop - other) * share // 1000
    return np.clip(blends, 0, 255).astype(np.uint8)


def _replace(crop: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replaces each level by its entry in a table, uint8 [256]."""
    replaced = crop.tobytes().translate(table.tobytes())
    return np.frombuffer(replaced, np.uint8).reshape(crop.shape)


def _blend(crop: np.ndarray, other: np.ndarray, level: int) -> np.ndarray:
    """Blends two arrays of levels; other may have one channel."""
    return _blends(level).take(other.astype(np.intp) << 8 | crop)


def _smooth(crop: np.ndarray) -> np.ndarray:
    """Pillow's filter SMOOTH: weights 1 and, in the middle, 5; the edge stays."""
    wide = crop.astype(np.uint16)
    sums = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    sums = sums[:-2] + sums[1:-1] + sums[2:] + 4 * wide[1:-1, 1:-1]
    wide[1:-1, 1:-1] = (2 * sums + 13) // 26
    return wide


def _grey(crop: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(crop).convert("L"))


def _transform(crop: np.ndarray, matrix: tuple[float, ...]) -> Image.Image:
    image = Image.fromarray(crop)
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def apply_operation(crop: np.ndarray, operation: Operation) -> None:
    """Changes a crop, uint8 [H, W, 3], in place."""
    name, level = operation
    if name == "Identity":
        return
    result: Image.Image | np.ndarray
    if name == "ShearX":
        result = _transform(crop, (1, 0.033 * level, 0, 0, 1, 0))
    elif name == "ShearY":
        result = _transform(crop, (1, 0, 0, 0.033 * level, 1, 0))
    elif name in ("TranslateX", "TranslateY"):
        pixels = _PIXELS[abs(level)] if level >= 0 else -_PIXELS[abs(level)]
        x, y = (-pixels, 0) if name == "TranslateX" else (0, -pixels)
        result = _transform(crop, (1, 0, x, 0, 1, y))
    elif name == "Rotate":
        result = Image.fromarray(crop).rotate(4.5 * level)
    elif name == "Brightness":
        result = _replace(crop, _blends(level)[0])
    elif name == "Contrast":
        grey = _grey(crop)
        mean = (2 * int(grey.sum(dtype=np.int64)) + grey.size) // (2 * grey.size)
        result = _replace(crop, _blends(level)[mean])
    elif name == "Color":
        result = _blend(crop, _grey(crop)[:, :, None], level)
    elif name == "Sharpness":
        result = _blend(crop, _smooth(crop), level)
    elif name == "Posterize":
        result = crop & (0xFF00 >> round(8 - level / 5) & 0xFF)
    elif name == "Solarize":
        levels = np.arange(256, dtype=np.uint8)
        inverted = levels >= _THRESHOLDS[level]
        result = _replace(crop, np.where(inverted, 255 - levels, levels))
    elif name == "AutoContrast":
        result = ImageOps.autocontrast(Image.fromarray(crop))
    else:
        result = ImageOps.equalize(Image.fromarray(crop))
    crop[:] = result
