"""Images for benchmarks: a folder's, or generated ones that take as long to decode.

A JPEG decoder's time depends on pixels and on bits per pixel. In a sample of 200
ImageNet photographs an image has 0.199 megapixels and 4.4 bits per pixel, a quarter has
subsampled chroma, and 500 x 375 is the most frequent size. The generated images have
the same figures.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

# Width, height, and number of photographs of this size among 20.
_SIZES = (
    (500, 375, 10),
    (500, 333, 4),
    (375, 500, 3),
    (333, 500, 1),
    (640, 480, 1),
    (256, 256, 1),
)

_QUALITY = 92  # Gives 4.4 bits per pixel with these amplitudes, unsubsampled.

# How fast a photograph's amplitudes fall with spatial frequency. Field 1987 finds 1 for
# natural scenes; a reduced, sharpened and recompressed JPEG has fewer details.
_EXPONENT = 1.4


def find_images(folder: Path) -> list[Path]:
    """All files below a folder except hidden ones, as a fixed permutation.

    The permutation mixes the class folders.
    """
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )
    order = np.random.default_rng(0).permutation(len(paths))
    return [paths[index] for index in order]


def _texture(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with a photograph's spectrum: float64 [H, W], mean 0, deviation 1."""
    down = np.fft.fftfreq(height)[:, None]
    right = np.fft.rfftfreq(width)[None, :]
    frequency = np.maximum(np.hypot(down, right), 1 / max(width, height))
    phases = np.exp(2j * np.pi * rng.random(frequency.shape))
    texture = np.fft.irfft2(phases / frequency**_EXPONENT, (height, width))
    return (texture - texture.mean()) / texture.std()


def photograph(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """A picture with a photograph's spectrum, correlated colours, edges and grain.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    light = 55 * _texture(width, height, rng)
    colours = [12 * _texture(width, height, rng) for _ in range(3)]
    image = 128 + light[..., None] + np.stack(colours, axis=-1)
    y, x = np.mgrid[:height, :width]
    for _ in range(12):
        angle = np.pi * rng.random()
        across = (x - width * rng.random()) * np.cos(angle)
        across += (y - height * rng.random()) * np.sin(angle)
        distance = np.hypot(x - width * rng.random(), y - height * rng.random())
        stripe = np.abs(across) < width / 8 * rng.random()
        image[stripe & (distance < width / 3)] += rng.normal(0, 40, 3)
    image += rng.normal(0, 4, (height, width, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


def make_photographs(folder: Path, num_images: int) -> None:
    """Writes JPEG files, the same ones each time, into a folder that it creates."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [(w, h) for w, h, count in _SIZES for _ in range(count)]
    for index in range(num_images):
        rng = np.random.default_rng([index])
        width, height = sizes[int(rng.integers(len(sizes)))]
        Image.fromarray(photograph(width, height, rng)).save(
            folder / f"{index:06d}.jpg",
            quality=_QUALITY,
            subsampling="4:2:0" if index % 4 == 0 else "4:4:4",
        )


@contextlib.contextmanager
def scratch_with_images(
    images: Path | None, num_generated: int
) -> Iterator[tuple[Path, list[Path]]]:
    """A temporary folder, and a folder's images or, if there is none, photographs.

    The folder is in memory if that has room for so many images, resized copies of them,
    and two batches.
    """
    memory, num_bytes = Path("/dev/shm"), num_generated * 400_000 + 100_000_000
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > num_bytes
    with tempfile.TemporaryDirectory(dir=memory if has_room else None) as name:
        scratch = Path(name)
        if images is None:
            images = scratch / "photographs"
            make_photographs(images, num_generated)
        yield scratch, find_images(images)
