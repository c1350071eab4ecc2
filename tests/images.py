"""Makes small image files of all kinds, and class folders, for other tests.

The pixels depend only on the arguments.
"""

from pathlib import Path

import numpy as np
from PIL import Image

# Flat colours have 11 levels per channel, far enough apart to survive JPEG.
_GRID, _SPACING, _OFFSET = 11, 24, 6


def colour_of(index: int) -> tuple[int, int, int]:
    """The flat colour that encodes an index below 1331."""
    digits = index % _GRID, index // _GRID % _GRID, index // _GRID**2
    return tuple(_OFFSET + _SPACING * digit for digit in digits)


def index_of(colour) -> int:
    """The index whose colour is nearest to three levels, 0 to 255."""
    red, green, blue = np.rint((np.asarray(colour) - _OFFSET) / _SPACING).astype(int)
    return int(red + _GRID * green + _GRID**2 * blue)


def indices_in_batch(images, statistics) -> list[int]:
    """The index of each flat image in a batch.

    Args:
        images: float16 or float32 [N, H, W, 3], normalized.
        statistics: The statistics they were normalized with.
    """
    corners = images[:, 0, 0].astype(np.float64)
    levels = (corners * statistics.std + statistics.mean) * 255
    return [index_of(colour) for colour in levels]


def name_of(index: int, images_per_class: int, extension: str) -> str:
    """Relative path of an image made by make_class_folders."""
    label = index // images_per_class
    return f"class_{label:03d}/image_{index:04d}.{extension}"


def make_class_folders(
    folder: Path,
    num_classes: int,
    images_per_class: int,
    *,
    size: tuple[int, int] = (40, 36),
    extension: str = "png",
) -> list[Path]:
    """Makes a dataset: image i has colour_of(i) and label i // images_per_class."""
    paths = []
    for index in range(num_classes * images_per_class):
        path = folder / name_of(index, images_per_class, extension)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour_of(index)).save(path)
        paths.append(path)
    return paths


def photograph(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A picture with smooth areas, an edge, noise and correlated colours.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.sin(x[..., None] / 9 + rng.random(3)) * np.cos(y[..., None] / 7)
    edge = 60.0 * (x + y > (width + height) // 2)[..., None]
    noise = rng.normal(0, 12, (height, width, 3)) + rng.normal(
        0, 12, (height, width, 1)
    )
    values = (90, 110, 130) + 50 * waves + edge + noise
    return np.clip(values, 0, 255).astype(np.uint8)


def make_image_kinds(folder: Path) -> dict[str, Path]:
    """Writes one decodable image of every mode and format that a dataset may contain.

    Returns:
        A path for each kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels = photograph(50, 41)
    rgb = Image.fromarray(pixels)
    grey = rgb.convert("L")
    alpha = Image.fromarray(
        np.arange(50 * 41, dtype=np.uint16).astype(np.uint8).reshape(41, 50)
    )
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    grey_alpha = grey.copy()
    grey_alpha.putalpha(alpha)
    sixteen_bit = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256 + 77)
    rotated = Image.Exif()
    rotated[0x0112] = 6  # Orientation: rotated by 90 degrees.
    kinds = {
        "rgb.JPEG": (rgb, {}),
        "grey.JPEG": (grey, {}),
        "cmyk.JPEG": (rgb.convert("CMYK"), {}),
        "rotated_by_exif.JPEG": (rgb, {"exif": rotated}),
        "rgb.png": (rgb, {}),
        "rotated_by_exif.png": (rgb, {"exif": rotated}),
        "palette.png": (rgb.quantize(40), {}),
        "palette_with_transparency.png": (rgb.quantize(40), {"transparency": 3}),
        "palette_with_alphas.png": (
            rgb.quantize(40),
            {"transparency": bytes(range(0, 240, 6))},
        ),
        "grey_with_transparency.png": (grey, {"transparency": 90}),
        "rgb_with_transparency.png": (rgb, {"transparency": (90, 110, 130)}),
        "rgba.png": (rgba, {}),
        "grey_alpha.png": (grey_alpha, {}),
        "one_bit.png": (grey.convert("1"), {}),
        "sixteen_bit.png": (sixteen_bit, {}),
        "sixteen_bit.tiff": (sixteen_bit, {}),
        "rgb.tiff": (rgb, {}),
        "cmyk.tiff": (rgb.convert("CMYK"), {}),
        "palette.gif": (rgb.quantize(40), {}),
        "rgb.bmp": (rgb, {}),
        "rgb.webp": (rgb, {"lossless": True}),
        "png_named.JPEG": (rgb, {"format": "PNG"}),
        "no_extension": (rgb, {"format": "PNG"}),
        "one_pixel.png": (rgb.crop((0, 0, 1, 1)), {}),
        "column.png": (Image.fromarray(photograph(1, 5000)), {}),
        "row.png": (Image.fromarray(photograph(5000, 1)), {}),
    }
    paths = {}
    for name, (image, options) in kinds.items():
        paths[name] = folder / name
        image.save(paths[name], **options)
    return paths


def make_undecodable_kinds(folder: Path) -> dict[str, Path]:
    """Writes files named .JPEG that are no images.

    Returns:
        A path for each kind; at "absent" and "folder" there is no file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole.JPEG"
    Image.fromarray(photograph(50, 41)).save(whole)
    whole_png = folder / "whole.png"
    Image.fromarray(photograph(50, 41)).save(whole_png)
    jpeg, png = whole.read_bytes(), whole_png.read_bytes()
    contents = {
        "empty": b"",
        "text": b"not an image\n",
        "zeros": bytes(1000),
        "header_only": jpeg[:20],
        "half_a_jpeg": jpeg[: len(jpeg) // 2],
        "half_a_png": png[: len(png) // 2],
        "damaged_png": png[:60] + b"damaged" + png[67:],
    }
    paths = {name: folder / f"{name}.JPEG" for name in (*contents, "absent", "folder")}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    paths["folder"].mkdir()
    return paths
