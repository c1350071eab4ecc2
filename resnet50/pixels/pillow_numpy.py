"""The loops over pixels with Pillow and numpy, for machines without numba.

``kernels`` has the same functions.
"""

import math

import numpy as np
from PIL import Image

NUMBA_VERSION = "absent"

# A block has _ROWS rows of 4 pixels. A sum of 256 products of two levels is below
# 2**24, so float32 holds it exactly; rows of 12 values suit a matrix product.
_ROWS = 256
_BLOCK = 4 * _ROWS

# Relative size of values beside the diagonal; far below a float64's last bit.
_NEGLIGIBLE = 1e-18


def resample(image, x, y, is_flipped: bool, out: np.ndarray) -> None:
    """Resizes a box of an image to a square: steps 2, 3 and 5.

    Args:
        image: RGB Image, or uint8 [H, W, 3]. Not modified.
        x: ``resampling.Span`` of the box along x.
        y: The same along y.
        is_flipped: Whether to swap left and right.
        out: uint8 [size, size, 3], the square; overwritten.
    """
    if isinstance(image, np.ndarray):
        part = image[y.first : y.last, x.first : x.last]
        image = Image.fromarray(np.ascontiguousarray(part))
    else:
        image = image.crop((x.first, y.first, x.last, y.last))
    size, height = len(out), image.height
    bilinear = Image.Resampling.BILINEAR
    # One axis per call: the order decides the rounding between them, and Pillow (since
    # 13) chooses the order by the image's shape.
    image = image.resize((size, height), bilinear, box=(x.start, 0, x.end, height))
    image = image.resize((size, size), bilinear, box=(0, y.start, size, y.end))
    if is_flipped:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    out[:] = image


def sums_and_products(crop: np.ndarray) -> tuple[list[int], list[list[int]]]:
    """Sums over the pixels of each channel and of each product of two channels.

    Three sums, and three times three. They are exact, so the order of summation cannot
    change them. ``crop`` is uint8 [H, W, 3].
    """
    num_blocks = -(-crop.size // (3 * _BLOCK))
    padded = np.zeros(num_blocks * _BLOCK * 3, np.float32)
    padded[: crop.size] = crop.reshape(-1)
    rows = padded.reshape(num_blocks, _ROWS, 12)
    products = np.matmul(rows.transpose(0, 2, 1), rows)  # [num_blocks, 12, 12]
    products = products.sum(axis=0, dtype=np.float64).reshape(4, 3, 4, 3)
    sums = np.matmul(np.ones((1, _ROWS), np.float32), rows)  # [num_blocks, 1, 12]
    sums = sums.sum(axis=(0, 1), dtype=np.float64).reshape(4, 3).sum(axis=0)
    products = np.einsum("iaib->ab", products)
    return sums.astype(np.int64).tolist(), products.astype(np.int64).tolist()


def diagonalize(
    diagonal: list[float], others: list[float], axes: list[list[float]]
) -> None:
    """Turns a symmetric 3 x 3 matrix until it is diagonal.

    Jacobi's rotations (Golub and Van Loan, section 8.5), using only + - * / and square
    roots, which every processor rounds alike. ``kernels`` compiles this function, so
    it has no sum(), which newer Pythons round otherwise.

    Args:
        diagonal: The matrix' diagonal; overwritten with the eigenvalues.
        others: Its other values, each at the index of the axis that it does not
            involve; overwritten.
        axes: The unit matrix; overwritten with the eigenvectors.
    """
    x, y, z = diagonal[0], diagonal[1], diagonal[2]
    negligible = _NEGLIGIBLE**2 * (x * x + y * y + z * z)
    while True:
        x, y, z = others[0], others[1], others[2]
        if not x * x + y * y + z * z > negligible:
            return
        for p, q, rest in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
            value = others[rest]
            if not value:
                continue
            # Tangent, cosine and sine of the angle that turns this value into 0.
            theta = (diagonal[q] - diagonal[p]) / (2 * value)
            tangent = 1 / (abs(theta) + math.sqrt(theta * theta + 1))
            tangent = math.copysign(tangent, theta)
            cosine = 1 / math.sqrt(tangent * tangent + 1)
            sine = tangent * cosine
            diagonal[p] -= tangent * value
            diagonal[q] += tangent * value
            of_p, of_q = others[q], others[p]
            others[rest] = 0.0
            others[q] = cosine * of_p - sine * of_q
            others[p] = sine * of_p + cosine * of_q
            for i in range(3):
                a, b = axes[p][i], axes[q][i]
                axes[p][i] = cosine * a - sine * b
                axes[q][i] = sine * a + cosine * b


def look_up(table: np.ndarray, crop: np.ndarray, out: np.ndarray) -> None:
    """Replaces each level by its channel's value in the table: steps 4 and 6.

    Args:
        table: float16 or float32 [3, 256].
        crop: uint8 [H, W, 3].
        out: [H, W, 3] of the table's dtype, contiguous; overwritten.
    """
    for channel in range(3):
        out[:, :, channel] = table[channel].take(crop[:, :, channel])


def level_sums(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of each channel's levels and of their squares in uint8 [H, W, 3].

    Returns two int64 [3].
    """
    counts = np.array(Image.fromarray(pixels).histogram()).reshape(3, 256)
    levels = np.arange(256)
    return counts @ levels, counts @ levels**2
