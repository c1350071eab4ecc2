"""Reads an array from a .npy file that must have a given shape and dtype.

Stricter than numpy.load, which trusts the header, allocates what the header says, and
also opens archives and pickles.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from resnet50.errors import UserError

# The smallest bit patterns of infinities and NaNs, which have all exponent bits set: as
# signed integers (positive values) and as unsigned integers (negative values). Two
# maxima are many times faster than numpy.isfinite on float16.
_NOT_FINITE = {
    "float16": ((np.int16, 0x7C00), (np.uint16, 0xFC00)),
    "float32": ((np.int32, 0x7F800000), (np.uint32, 0xFF800000)),
}

# Read and checked together, while they are in the processor's cache.
_CHUNK_BYTES = 2**18

# TensorFlow uses an array's memory as it is if its address is a multiple of this.
_ALIGNMENT = 64


class BatchFileError(UserError):
    """A batch file does not match the settings."""


class RecycledMemory:
    """Memory of arrays, used again as soon as no array uses it.

    The kernel clears fresh memory, page by page, which takes a quarter of the time of
    reading a large file from the page cache.
    """

    def __init__(self):
        self._unused: list[np.ndarray] = []

    def empty(self, shape: tuple[int, ...], dtype: str | np.dtype) -> np.ndarray:
        """Like numpy.empty, aligned for TensorFlow."""
        num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        while self._unused:
            memory = self._unused.pop()
            if len(memory) == num_bytes:  # Else the batches of its size are over.
                break
        else:
            memory = np.empty(num_bytes + _ALIGNMENT, np.uint8)
            start = -memory.ctypes.data % _ALIGNMENT
            memory = memory[start : start + num_bytes]
        return np.asarray(_Lease(memory, self._unused)).view(dtype).reshape(shape)


class _Lease:
    """Gives memory back when the last array that uses it is gone.

    numpy keeps the object that an array was made from as long as the array or a view.
    """

    def __init__(self, memory: np.ndarray, unused: list[np.ndarray]):
        self.__array_interface__ = memory.__array_interface__
        self._memory = memory
        self._unused = unused

    def __del__(self):
        self._unused.append(self._memory)


def _is_finite(values: np.ndarray, dtype: str | np.dtype) -> bool:
    """Whether all values of a dtype, given as uint8 [bytes], are finite."""
    limits = _NOT_FINITE.get(dtype, ())
    return all(np.maximum.reduce(values.view(kind)) < least for kind, least in limits)


def _require_header(
    file: BinaryIO, path: Path, shape: tuple[int, ...], dtype: str | np.dtype
) -> None:
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"is .npy format {version}")
        found_shape, is_fortran, found_dtype = np.lib.format.read_array_header_1_0(file)
    except OSError:  # The disk has failed; the file may be sound.
        raise
    # For a damaged header numpy's parser raises nearly anything.
    except Exception as error:
        reason = " ".join(str(error).split())[:100]
        raise BatchFileError(f"{path}: is no batch file: {reason}") from None
    if found_shape != shape or found_dtype != dtype or is_fortran:
        raise BatchFileError(
            f"{path}: {found_dtype} {list(found_shape)}, expected {dtype} "
            f"{list(shape)} (are --batch_size and config.txt the same in both "
            "terminals?)"
        )


def load_array(
    path: Path,
    shape: tuple[int, ...],
    dtype: str | np.dtype,
    empty: Callable[..., np.ndarray] = np.empty,
) -> tuple[np.ndarray, bool]:
    """Reads an array; returns it, and whether its float16 or float32 values are finite.

    Args:
        path: The file.
        shape: The shape that the array must have.
        dtype: The dtype that it must have.
        empty: Creates the array, from shape and dtype.

    Raises:
        OSError: The file does not exist, or it cannot be read now.
        BatchFileError: The file is damaged, or has another shape or dtype.
    """
    with path.open("rb") as file:
        _require_header(file, path, shape, dtype)
        array, is_finite, num_bytes = empty(shape, dtype), True, 0
        values = array.reshape(-1).view(np.uint8)
        for start in range(0, len(values), _CHUNK_BYTES):
            chunk = values[start : start + _CHUNK_BYTES]
            num_bytes += file.readinto(chunk)
            is_finite = is_finite and _is_finite(chunk, dtype)
        if num_bytes < array.nbytes or file.read(1):
            raise BatchFileError(
                f"{path}: {os.fstat(file.fileno()).st_size} bytes, but its values "
                f"should take {array.nbytes} (torn?)"
            )
    return array, is_finite
