"""The loops over pixels as machine code, compiled by numba.

Each function is the twin of code in ``resampling``, ``augmentation`` or
``channel_stats`` that works with Pillow or numpy, and gives the same result, bit by
bit: pixels are summed in whole numbers, whose order does not matter, and the filter's
weights are computed in the float types and the order of Pillow. So no batch depends on
numba.

A loop is compiled when it is first called: in a second on a machine's first time, later
by loading what numba has kept in its cache. ``compiled.kernels`` is the door to it.
"""

import contextlib
import ctypes
import functools
import math
from pathlib import Path

import numba
import numpy as np
from numba import types


def _leave_blas_out() -> None:
    """Loads numba's support of numpy without scipy, in which it looks for a BLAS.

    No loop here needs one; scipy takes a worker 20 MB and 0.1 s.
    """
    try:
        from numba.np import linalg

        ensure_blas = linalg.ensure_blas
    except (ImportError, AttributeError):  # A numba that has it elsewhere.
        return

    def no_blas():
        raise ImportError

    linalg.ensure_blas = no_blas
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = ensure_blas


_leave_blas_out()

# uint8 [H, 3 W], RGB; of what Pillow decodes, not to be written to.
_PIXELS = types.Array(types.uint8, 2, "C", readonly=True)
_ROWS = types.Array(types.uint8, 2, "C")
_FIRSTS = types.Array(types.int64, 1, "C")
_WEIGHTS = types.Array(types.int32, 2, "C")
_SUMS = types.Array(types.int32, 1, "C")

# Pillow's fixed point: weights are whole multiples of 2**-22, sums begin with one half.
_BITS = 22
_HALF = 1 << (_BITS - 1)

# Two sums in one 64-bit number: 255 * 2**22 + 2**21, the largest, is below 2**31.
_UPPER = 32


def _compiled(signature):
    """Compiles a function when it is first called: none that a batch does not need.

    Without a division's test for zero and without a wrapper for C, of no use here: each
    takes time to compile. Never with fastmath, which would let the last bit depend on
    the processor.
    """

    def decorate(function):
        @functools.cache
        def compiled():
            options = {
                "nogil": True,
                "error_model": "numpy",
                "no_cfunc_wrapper": True,
            }
            try:
                return numba.njit(signature, cache=True, **options)(function)
            # Numba raises whatever comes of reading a damaged cache, such as EOFError
            # after a power cut, and RuntimeError where there is no folder for one.
            except Exception:
                _forget_cache()
                return numba.njit(signature, **options)(function)
            finally:
                _let_go_of_llvm()

        return functools.wraps(function)(lambda *args: compiled()(*args))

    return decorate


# Of madvise, on Linux: these pages are not needed for now.
_MADV_DONTNEED = 4


def _let_go_of_llvm() -> None:
    """Takes the compiler's code out of the process's memory: 80 MB of each worker.

    What is run of it again is mapped again, from the file.
    """
    # Only where there is such a file.
    with contextlib.suppress(OSError), Path("/proc/self/maps").open() as maps:
        for line in maps:
            addresses, permissions, *_, path = line.split()
            # Code is never written to; other parts of the library may have been.
            if permissions == "r-xp" and path.endswith("libllvmlite.so"):
                start, end = (int(address, 16) for address in addresses.split("-"))
                ctypes.CDLL(None).madvise(
                    ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED
                )


def _forget_cache() -> None:
    """Deletes the indices of the cache, so that the next process fills it anew."""
    folder = Path(numba.config.CACHE_DIR or Path(__file__).parent / "__pycache__")
    with contextlib.suppress(OSError):
        for index in folder.rglob("kernels.*.nbi"):
            index.unlink(missing_ok=True)


@_compiled(
    types.int64(
        types.int64,
        types.float32,
        types.float32,
        _FIRSTS,
        _WEIGHTS,
        types.float64[::1],
    )
)
def _triangle_weights(source_size, start, end, firsts, weights, triangle):
    """Fills in which source pixels make up each output pixel along one axis.

    The bilinear filter is a triangle as wide as two source pixels or, if the image
    shrinks, two output pixels. The float types are those of Pillow's Resample.c, which
    decide the last bit of each weight.

    Args:
        source_size: Pixels along the axis.
        start: Where the output begins in the source, pixels.
        end: Where it ends.
        firsts: int64 [output pixels], filled with the first source pixel of each.
        weights: int32 [output pixels, enough], filled with the weights, times 2**22, of
            that pixel and those behind it.
        triangle: float64 [as many]; overwritten.

    Returns:
        How many pixels at most have a weight. As many from each first pixel on are
        inside the source.
    """
    scale = np.float64(end - start) / len(firsts)
    support = max(scale, 1.0)
    num_taps = 0
    for place in range(len(firsts)):
        centre = np.float64(start) + (place + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        stop = min(int(centre + support + 0.5), source_size)
        for tap in range(stop - first):
            distance = abs((first + tap - centre + 0.5) * (1.0 / support))
            triangle[tap] = max(1.0 - distance, 0.0)
        total = 0.0
        for tap in range(stop - first):
            total += triangle[tap]
        for tap in range(stop - first):
            weights[place, tap] = int(0.5 + triangle[tap] / total * (1 << _BITS))
        for tap in range(stop - first, weights.shape[1]):
            weights[place, tap] = 0
        firsts[place] = first
        num_taps = max(num_taps, stop - first)
    for place in range(len(firsts)):
        excess = firsts[place] + num_taps - source_size
        if excess > 0:
            for tap in range(num_taps - 1, -1, -1):
                moved = weights[place, tap - excess] if tap >= excess else 0
                weights[place, tap] = moved
            firsts[place] -= excess
    return num_taps


@_compiled(
    types.void(
        _PIXELS,
        types.int64,
        types.int64,
        _FIRSTS,
        _WEIGHTS,
        types.int64,
        types.boolean,
        types.int64[::1],
        _ROWS,
    )
)
def _resample_along_x(
    pixels, first_row, first_byte, firsts, weights, num_taps, is_flipped, pair, out
):
    """Two rows at a time, in the upper and the lower half of 64-bit numbers.

    Args:
        pixels: See ``resample``.
        first_row: Where the rectangle begins.
        first_byte: Likewise, in each row.
        firsts: See ``_triangle_weights``.
        weights: Likewise.
        num_taps: What that returned.
        is_flipped: Whether the output is mirrored.
        pair: int64 [3 W], for two rows of the rectangle; overwritten.
        out: uint8 [rows, 3 output pixels]; overwritten.
    """
    half = np.int64(_HALF | _HALF << _UPPER)
    for row in range(0, len(out), 2):
        # Without a partner, an odd number's last row is its own.
        other = min(row + 1, len(out) - 1)
        lower, upper = pixels[first_row + row], pixels[first_row + other]
        for i in range(len(pair)):
            low, high = lower[first_byte + i], upper[first_byte + i]
            pair[i] = np.int64(high) << _UPPER | np.int64(low)
        out_lower, out_upper = out[row], out[other]
        for place in range(len(firsts)):
            # Unsigned, or each index would be tested for being negative.
            source = np.uint64(3 * firsts[place])
            target = np.uint64(
                3 * (len(firsts) - 1 - place) if is_flipped else 3 * place
            )
            red = green = blue = half
            for tap in range(num_taps):
                weight = np.int64(weights[place, tap])
                at = source + np.uint64(3 * tap)
                red += weight * pair[at]
                green += weight * pair[at + 1]
                blue += weight * pair[at + 2]
            out_lower[target] = red >> _BITS
            out_lower[target + 1] = green >> _BITS
            out_lower[target + 2] = blue >> _BITS
            out_upper[target] = red >> (_BITS + _UPPER)
            out_upper[target + 1] = green >> (_BITS + _UPPER)
            out_upper[target + 2] = blue >> (_BITS + _UPPER)


@_compiled(types.void(_ROWS, _FIRSTS, _WEIGHTS, types.int64, _SUMS, _ROWS))
def _resample_along_y(rows, firsts, weights, num_taps, sums, out):
    """Row by row; sums is int32 [bytes of a row], overwritten."""
    for place in range(len(firsts)):
        for i in range(len(sums)):
            sums[i] = _HALF
        for tap in range(num_taps):
            weight = weights[place, tap]
            row = rows[firsts[place] + tap]
            for i in range(len(sums)):
                sums[i] += weight * np.int32(row[i])
        out_row = out[place]
        for i in range(len(sums)):
            out_row[i] = sums[i] >> _BITS


def resample(pixels, x, y, is_flipped, out):
    """Resizes a box of an image to a square, first along x and then along y.

    The twin of two calls of Image.resize with BILINEAR and a box, on a rectangle of
    whole pixels around the box. Mirroring it costs nothing.

    Args:
        pixels: uint8 [H, 3 W], RGB.
        x: Left and right end of the box, in pixels from where the rectangle begins; the
            rectangle's first column, and the one after its last.
        y: Likewise, of rows.
        is_flipped: Whether left and right of the square are swapped.
        out: uint8 [size, 3 size], the square; overwritten.
    """
    left, right, first_column, last_column = x
    top, bottom, first_row, last_row = y
    num_columns, num_rows = last_column - first_column, last_row - first_row
    size = len(out)
    firsts = np.empty(size, np.int64)
    # A triangle is two output pixels wide, and begins and ends between pixels.
    shrinkage = max((right - left) / size, (bottom - top) / size, 1)
    weights = np.empty((size, 2 * math.ceil(shrinkage) + 1), np.int32)
    triangle = np.empty(weights.shape[1])
    rows = np.empty((num_rows, 3 * size), np.uint8)
    num_taps = _triangle_weights(num_columns, left, right, firsts, weights, triangle)
    _resample_along_x(
        pixels,
        first_row,
        3 * first_column,
        firsts,
        weights,
        num_taps,
        is_flipped,
        np.empty(3 * num_columns, np.int64),
        rows,
    )
    num_taps = _triangle_weights(num_rows, top, bottom, firsts, weights, triangle)
    sums = np.empty(3 * size, np.int32)
    _resample_along_y(rows, firsts, weights, num_taps, sums, out)


@_compiled(types.void(_PIXELS, types.int32[:, ::1]))
def _add_columns(rows, sums):
    """Adds to sums, int32 [4, 3 W]; see ``column_sums``."""
    length = rows.shape[1]
    of_bytes, squares, with_next, with_second = sums[0], sums[1], sums[2], sums[3]
    for y in range(len(rows)):
        row = rows[y]
        for i in range(length - 2):
            value = np.int32(row[i])
            of_bytes[i] += value
            squares[i] += value * value
            with_next[i] += value * np.int32(row[i + 1])
            with_second[i] += value * np.int32(row[i + 2])
        green, blue = np.int32(row[length - 2]), np.int32(row[length - 1])
        of_bytes[length - 2] += green
        of_bytes[length - 1] += blue
        squares[length - 2] += green * green
        squares[length - 1] += blue * blue
        with_next[length - 2] += green * blue


def column_sums(rows):
    """Sums over a crop's rows: of each byte, and of its products with its neighbours.

    Column by column, because the next column is another channel. Each sum stays below
    2**31 for up to 33,000 rows.

    Args:
        rows: uint8 [H, 3 W], RGB.

    Returns:
        int32 [4, 3 W]: sums of the bytes; of their squares; of their products with the
        next byte and with the one after that, 0 where there is none.
    """
    sums = np.zeros((4, rows.shape[1]), np.int32)
    _add_columns(rows, sums)
    return sums


def _replace_levels(tables, rows, out):
    """See ``look_up``."""
    reds, greens, blues = tables[0], tables[1], tables[2]
    for y in range(len(rows)):
        row, out_row = rows[y], out[y]
        for x in range(rows.shape[1] // 3):
            at = np.uint64(3 * x)
            out_row[at] = reds[row[at]]
            out_row[at + 1] = greens[row[at + 1]]
            out_row[at + 2] = blues[row[at + 2]]


_REPLACE_LEVELS = {
    number.bitwidth // 8: _compiled(
        types.void(number[:, ::1], _PIXELS, number[:, ::1])
    )(_replace_levels)
    for number in (types.uint16, types.uint32)
}


def look_up(tables, rows, out):
    """Replaces each level of a crop by its channel's table value.

    Args:
        tables: uint16 or uint32 [3, 256]: floats, taken as whole numbers.
        rows: uint8 [H, 3 W], RGB.
        out: Of the tables' type, [H, 3 W]; overwritten.
    """
    _REPLACE_LEVELS[out.itemsize](tables, rows, out)


# The sum of as many squared levels is below 2**31: 255**2 * 32,768 = 2,130,739,200.
_BLOCK_ROWS = 32_768


@_compiled(
    types.void(
        _PIXELS,
        types.int64[::1],
        types.int64[::1],
        _SUMS,
        _SUMS,
    )
)
def _add_levels(rows, sums, squares, column_sums, column_squares):
    """Adds to sums and squares, int64 [3]; the others, int32 [3 W], are overwritten."""
    for start in range(0, len(rows), _BLOCK_ROWS):
        for i in range(len(column_sums)):
            column_sums[i] = column_squares[i] = 0
        for y in range(start, min(start + _BLOCK_ROWS, len(rows))):
            row = rows[y]
            for i in range(len(column_sums)):
                level = np.int32(row[i])
                column_sums[i] += level
                column_squares[i] += level * level
        for i in range(len(column_sums)):
            sums[i % 3] += column_sums[i]
            squares[i % 3] += column_squares[i]


def level_sums(rows):
    """Sums of each channel's levels and squared levels; the twin of Image.histogram.

    Args:
        rows: uint8 [H, 3 W], RGB.

    Returns:
        Two int64 [3].
    """
    sums, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    of_columns = np.empty((2, rows.shape[1]), np.int32)
    _add_levels(rows, sums, squares, *of_columns)
    return sums, squares
