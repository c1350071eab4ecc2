"""Renders ten classes of pictures that a network can distinguish, as JPEG files.

Each picture is a pattern or a shape of random size, position and colours on a random
background with noise. As in ImageNet, sizes and aspect ratios vary, some files are
greyscale or CMYK, one is a PNG named .JPEG, and one cannot be read.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

# A pattern computes a mask, bool [H, W], from a Generator and the coordinates x and y,
# float64 [H, W], in units of the picture's shorter side, 0 at its centre.
Pattern = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def _stripes(coordinate: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (coordinate * rng.uniform(5, 8) + rng.random()) % 1 < 0.5


def _diagonal(x, y, rng):
    return _stripes((x + rng.choice([-1, 1]) * y) / 2**0.5, rng)


def _checkerboard(x, y, rng):
    size = rng.uniform(4, 6)
    return (np.floor(x * size + rng.random()) + np.floor(y * size)) % 2 < 1


def _dots(x, y, rng):
    size = rng.uniform(4, 6)
    return np.hypot((x * size + rng.random()) % 1 - 0.5, y * size % 1 - 0.5) < 0.3


def _ring(x, y, rng):
    outer = rng.uniform(0.25, 0.38)
    distance = np.hypot(x, y)
    return (distance < outer) & (distance > 0.6 * outer)


def _triangle(x, y, rng):
    size = rng.uniform(0.25, 0.38)
    return (y < 0.7 * size) & (y > 2 * np.abs(x) - size)


def _plus(x, y, rng):
    arm = rng.uniform(0.25, 0.38)
    wide, high = np.abs(x), np.abs(y)
    return (np.minimum(wide, high) < 0.28 * arm) & (np.maximum(wide, high) < arm)


PATTERNS: dict[str, Pattern] = {
    "checkerboard": _checkerboard,
    "diagonal-stripes": _diagonal,
    "disc": lambda x, y, rng: np.hypot(x, y) < rng.uniform(0.2, 0.35),
    "dots": _dots,
    "horizontal-stripes": lambda x, y, rng: _stripes(y, rng),
    "plus": _plus,
    "ring": _ring,
    "triangle": _triangle,
    "vertical-stripes": lambda x, y, rng: _stripes(x, rng),
    "waves": lambda x, y, rng: _stripes(y + 0.06 * np.sin(x * 20), rng),
}


def render_picture(pattern: Pattern, rng: np.random.Generator) -> Image.Image:
    """Renders one picture of a class, in RGB.

    Its shorter side has 80 to 160 pixels, its longer side up to 1.5 times as many.
    """
    shorter = int(rng.integers(80, 161))
    longer = int(shorter * rng.uniform(1, 1.5))
    width, height = (longer, shorter) if rng.random() < 0.5 else (shorter, longer)
    shift_x, shift_y = rng.uniform(-0.08, 0.08, 2)
    y, x = np.mgrid[:height, :width]
    mask = pattern(
        (x - width / 2) / shorter - shift_x, (y - height / 2) / shorter - shift_y, rng
    )
    # The two colours differ clearly in brightness.
    dark, bright = rng.uniform(0, 110, 3), rng.uniform(145, 255, 3)
    if rng.random() < 0.5:
        dark, bright = bright, dark
    pixels = np.where(mask[..., None], bright, dark)
    pixels += rng.normal(0, rng.uniform(2, 20), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def make_images(
    folder: Path, images_per_class: int, seed: int, *, with_odd_files: bool
) -> int:
    """Creates class folders with pictures; the same arguments give the same files.

    The odd files are a PNG named .JPEG and a truncated JPEG. Returns the number of
    files.
    """
    rng = np.random.default_rng(seed)
    for name, pattern in PATTERNS.items():
        (folder / name).mkdir(parents=True)
        for number in range(images_per_class):
            image = render_picture(pattern, rng)
            mode = str(rng.choice(["RGB", "L", "CMYK"], p=[0.85, 0.1, 0.05]))
            path = folder / name / f"{name}_{number:04d}.JPEG"
            image.convert(mode).save(path, "JPEG", quality=90)
    if with_odd_files:
        png, cut = (folder / name / f"{name}_0000.JPEG" for name in list(PATTERNS)[:2])
        with Image.open(png) as image:
            image.load()
        image.save(png, "PNG")
        cut.write_bytes(cut.read_bytes()[:500])
    return len(PATTERNS) * images_per_class
