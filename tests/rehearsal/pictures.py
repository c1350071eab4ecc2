"""Images as many as ImageNet's, each a seventh as wide and as high. No test."""

import io
from pathlib import Path

from PIL import Image

from tests.images import photograph

# A photograph of 500 x 375 pixels, divided by 7. Every fourth picture is upright.
_SIZE = 71, 54
_UPRIGHT_EVERY = 4

# So many different pictures; each is in many files.
_NUM_PICTURES = 2_000


def _jpeg(seed: int) -> bytes:
    width, height = _SIZE if seed % _UPRIGHT_EVERY else _SIZE[::-1]
    file = io.BytesIO()
    Image.fromarray(photograph(width, height, seed)).save(file, "JPEG", quality=90)
    return file.getvalue()


def make_pictures(folder: Path, num_images: int, num_classes: int) -> None:
    """Writes each image as a file of its own, in class folders named like ImageNet's.

    Does nothing if the folder exists. The last rename makes it appear whole.
    """
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    jpegs = [_jpeg(seed) for seed in range(min(_NUM_PICTURES, num_images))]
    for label in range(num_classes):
        name = f"n{1440764 + 13339 * label:08d}"
        (unfinished / name).mkdir(parents=True, exist_ok=True)
        for index in range(label, num_images, num_classes):
            path = unfinished / name / f"{name}_{index}.JPEG"
            path.write_bytes(jpegs[index % len(jpegs)])
    unfinished.rename(folder)
