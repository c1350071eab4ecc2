"""The loops over pixels as machine code, compiled by numba.

The functions of ``pillow_numpy``, which documents them, with the same results, bit by
bit: sums are whole numbers, whose order does not matter, and the filter's weights are
computed in Pillow's float types and order. So no batch depends on numba.

``resample`` works in fixed point, as Pillow does: weights are multiples of 2**-22, and
a sum begins with one half, 2**21, so dropping its lower 22 bits rounds it. Along x it
sums two rows at once, in the halves of 64-bit numbers:

    bit 63             32 31              0
       | level of row 1  | level of row 0  |    the same byte of both rows
              times the tap's weight, added to
       | sum of row 1    | sum of row 0    |    each begins with 2**21

A sum is at most about 255 * 2**22 + 2**21, below 2**30, so nothing carries into the
upper half. Bits 22 to 29 are the level of row 0, bits 54 to 61 that of row 1; storing a
uint8 drops the bits above. tests/pixels/test_kernels.py has it in plain Python.
"""

import math

import numba
import numpy as np
from numba import (
    boolean,
    float32,
    float64,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
    void,
)
from numba.types import Array

from resnet50.pixels import pillow_numpy
from resnet50.pixels.compilation import compiled

NUMBA_VERSION = numba.__version__

# uint8 [H, 3 W], RGB. Pillow's pixels are read-only.
_PIXELS = Array(uint8, 2, "C", readonly=True)
_ROWS, _WEIGHTS = uint8[:, ::1], int32[:, ::1]
_FIRSTS, _SUMS, _COLUMNS = int64[::1], int32[::1], int32[:, ::1]

# An unsigned index saves a test for being negative, and lets LLVM use vectors.
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)

_BITS, _UPPER = 22, 32
_HALF = 1 << (_BITS - 1)

# The sum of so many squared levels is below 2**31: 255**2 * 32,768 = 2,130,739,200.
_BLOCK_ROWS = 32_768


@compiled(int64(int64, float32, float32, _FIRSTS, _WEIGHTS, float64[::1]))
def _triangle_weights(source_size, start, end, firsts, weights, triangle):
    """Computes which source pixels make up each output pixel along one axis.

    The bilinear filter is a triangle as wide as two source pixels or, if the image
    shrinks, two output pixels. The float types are those of Pillow's Resample.c; they
    decide the last bit of each weight.

    The output begins at ``start`` and ends at ``end``, positions in the source. This
    overwrites firsts, int64 [num_outputs], with each output pixel's first source pixel;
    weights, int32 [num_outputs, max_taps], with the weights, times 2**22, of that pixel
    and the following ones; and triangle, float64 [max_taps]. It returns num_taps, the
    most source pixels that an output pixel depends on; that many are inside the source.
    """
    scale = np.float64(end - start) / len(firsts)
    support = max(scale, 1.0)
    num_taps = 0
    for pixel in range(len(firsts)):
        centre = np.float64(start) + (pixel + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        stop = min(int(centre + support + 0.5), source_size)
        total = 0.0
        for tap in range(stop - first):
            distance = abs((first + tap - centre + 0.5) * (1.0 / support))
            triangle[tap] = max(1.0 - distance, 0.0)
            total += triangle[tap]
        for tap in range(stop - first):
            weights[pixel, tap] = int(0.5 + triangle[tap] / total * (1 << _BITS))
        for tap in range(stop - first, weights.shape[1]):
            weights[pixel, tap] = 0
        firsts[pixel] = first
        num_taps = max(num_taps, stop - first)
    for pixel in range(len(firsts)):
        excess = firsts[pixel] + num_taps - source_size
        if excess > 0:
            for tap in range(num_taps - 1, -1, -1):
                moved = weights[pixel, tap - excess] if tap >= excess else 0
                weights[pixel, tap] = moved
            firsts[pixel] -= excess
    return num_taps


@compiled(
    void(_PIXELS, int64, uint64[::1], _WEIGHTS, int64, boolean, int64[::1], _ROWS)
)
def _resample_along_x(
    pixels, first_byte, starts, weights, num_taps, is_flipped, pair, out
):
    """Resamples two rows at a time; see the module's diagram.

    The source begins at first_byte of each row of pixels, uint8 [num_rows, 3 W], and
    has the length of pair, int64 [bytes], which this overwrites. Starts are the bytes
    of the ``firsts`` of ``_triangle_weights``, which also computes weights and
    num_taps. Overwrites out, uint8 [num_rows, 3 num_outputs].
    """
    half = np.int64(_HALF | _HALF << _UPPER)
    last_target = len(out[0]) - 3
    for row in range(0, len(out), 2):
        # The last of an odd number of rows is paired with itself.
        other = min(row + 1, len(out) - 1)
        lower = pixels[row][first_byte : first_byte + len(pair)]
        upper = pixels[other][first_byte : first_byte + len(pair)]
        for i in range(len(pair)):
            pair[i] = np.int64(upper[i]) << _UPPER | np.int64(lower[i])
        out_lower, out_upper = out[row], out[other]
        target = np.uint64(last_target if is_flipped else 0)
        for pixel in range(len(starts)):
            red = green = blue = half
            at = starts[pixel]
            for tap in range(num_taps):
                weight = np.int64(weights[pixel, np.uint64(tap)])
                red += weight * pair[at]
                green += weight * pair[at + _ONE]
                blue += weight * pair[at + _TWO]
                at += _THREE
            out_lower[target] = red >> _BITS
            out_lower[target + _ONE] = green >> _BITS
            out_lower[target + _TWO] = blue >> _BITS
            out_upper[target] = red >> (_BITS + _UPPER)
            out_upper[target + _ONE] = green >> (_BITS + _UPPER)
            out_upper[target + _TWO] = blue >> (_BITS + _UPPER)
            if is_flipped:
                target -= _THREE
            else:
                target += _THREE


@compiled(void(_ROWS, _FIRSTS, _WEIGHTS, int64, _SUMS, _ROWS))
def _resample_along_y(rows, firsts, weights, num_taps, sums, out):
    """Makes each output row a weighted sum of rows; overwrites sums, int32 [3 W].

    Reads three rows from each of firsts on, though a weight beyond num_taps is 0.
    """
    for pixel in range(len(firsts)):
        first, out_row = np.uint64(firsts[pixel]), out[pixel]
        row_0, row_1, row_2 = rows[first], rows[first + _ONE], rows[first + _TWO]
        weight_0, weight_1, weight_2 = weights[pixel, :3]
        for i in range(len(sums)):
            total = weight_0 * row_0[i] + weight_1 * row_1[i] + weight_2 * row_2[i]
            sums[i] = total + _HALF
        for tap in range(3, num_taps):
            weight, row = weights[pixel, tap], rows[first + np.uint64(tap)]
            for i in range(len(sums)):
                sums[i] += weight * row[i]
        for i in range(len(sums)):
            out_row[i] = sums[i] >> _BITS


def resample(image, x, y, is_flipped, out):
    """See ``pillow_numpy.resample``. Mirroring costs no time."""
    pixels = np.asarray(image)
    pixels = pixels.reshape(len(pixels), -1)[y.first : y.last]
    size, num_columns = len(out), x.last - x.first
    # A triangle is two output pixels wide and may begin and end between pixels.
    shrinkage = max((x.end - x.start) / size, (y.end - y.start) / size, 1)
    firsts = np.empty(size, np.int64)
    weights = np.empty((size, 2 * math.ceil(shrinkage) + 1), np.int32)
    triangle = np.empty(weights.shape[1])
    num_taps = _triangle_weights(num_columns, x.start, x.end, firsts, weights, triangle)
    starts, pair = (3 * firsts).astype(np.uint64), np.empty(3 * num_columns, np.int64)
    # Two more rows, which are read but count nothing; see _resample_along_y.
    rows = np.empty((len(pixels) + 2, 3 * size), np.uint8)
    written = rows[: len(pixels)]
    _resample_along_x(
        pixels, 3 * x.first, starts, weights, num_taps, is_flipped, pair, written
    )
    num_taps = _triangle_weights(len(pixels), y.start, y.end, firsts, weights, triangle)
    sums = np.empty(3 * size, np.int32)
    _resample_along_y(rows, firsts, weights, num_taps, sums, out.reshape(size, -1))


@compiled(void(_PIXELS, _COLUMNS, int64[:, ::1]))
def _add_products(rows, sums, totals):
    """Adds up levels, squares, and products with the next byte and the one after it.

    First for each column of bytes, in sums, int32 [4, 3 W] of zeros, which stay below
    2**31 for 33,000 rows; then for each channel, in totals, int64 [4, 3] of zeros.
    """
    length = rows.shape[1]
    levels, squares, with_next, with_second = sums[0], sums[1], sums[2], sums[3]
    for y in range(len(rows)):
        row = rows[y]
        for i in range(length - 2):
            value = np.int32(row[i])
            levels[i] += value
            squares[i] += value * value
            with_next[i] += value * np.int32(row[i + 1])
            with_second[i] += value * np.int32(row[i + 2])
        green, blue = np.int32(row[length - 2]), np.int32(row[length - 1])
        levels[length - 2] += green
        levels[length - 1] += blue
        squares[length - 2] += green * green
        squares[length - 1] += blue * blue
        with_next[length - 2] += green * blue
    for i in range(length):
        for quantity in range(4):
            totals[quantity, i % 3] += sums[quantity, i]


def sums_and_products(crop):
    """See ``pillow_numpy.sums_and_products``."""
    rows, totals = crop.reshape(len(crop), -1), np.zeros((4, 3), np.int64)
    _add_products(rows, np.zeros((4, rows.shape[1]), np.int32), totals)
    sums, squares, (red_green, green_blue, _), (red_blue, _, _) = totals.tolist()
    products = [
        [squares[0], red_green, red_blue],
        [red_green, squares[1], green_blue],
        [red_blue, green_blue, squares[2]],
    ]
    return sums, products


_diagonalize = compiled(void(float64[::1], float64[::1], float64[:, ::1]))(
    pillow_numpy.diagonalize
)


def diagonalize(diagonal, others, axes):
    """See ``pillow_numpy.diagonalize``."""
    arrays = [np.array(values) for values in (diagonal, others, axes)]
    _diagonalize(*arrays)
    diagonal[:], others[:], axes[:] = (array.tolist() for array in arrays)


def _replace_levels(tables, rows, out):
    reds, greens, blues = tables[0], tables[1], tables[2]
    for y in range(len(rows)):
        row, out_row = rows[y], out[y]
        for x in range(rows.shape[1] // 3):
            at = np.uint64(3 * x)
            out_row[at] = reds[row[at]]
            out_row[at + 1] = greens[row[at + 1]]
            out_row[at + 2] = blues[row[at + 2]]


# Numba knows no float16, so values are moved as whole numbers of the same size.
_REPLACE_LEVELS = {
    size: compiled(void(whole[:, ::1], _PIXELS, whole[:, ::1]))(_replace_levels)
    for size, whole in ((2, uint16), (4, uint32))
}


def look_up(table, crop, out):
    """See ``pillow_numpy.look_up``."""
    whole = f"u{out.itemsize}"
    rows, out_rows = crop.reshape(len(crop), -1), out.reshape(len(out), -1)
    _REPLACE_LEVELS[out.itemsize](table.view(whole), rows, out_rows.view(whole))


@compiled(void(_PIXELS, _COLUMNS))
def _add_levels(rows, sums):
    """Adds to sums, int32 [2, 3 W], of each column's levels and of their squares."""
    levels, squares = sums[0], sums[1]
    for y in range(len(rows)):
        row = rows[y]
        for i in range(len(levels)):
            level = np.int32(row[i])
            levels[i] += level
            squares[i] += level * level


def level_sums(pixels):
    """See ``pillow_numpy.level_sums``."""
    rows = pixels.reshape(len(pixels), -1)
    total = np.zeros((2, 3), np.int64)
    for start in range(0, len(rows), _BLOCK_ROWS):
        by_column = np.zeros((2, rows.shape[1]), np.int32)
        _add_levels(rows[start : start + _BLOCK_ROWS], by_column)
        total += by_column.reshape(2, -1, 3).sum(axis=1, dtype=np.int64)
    return total[0], total[1]
