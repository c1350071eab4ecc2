"""Arrays in .npy files that end with a checksum; numpy.load reads them, too.

The checksum is the sum of the values' bytes as little-endian 64-bit words, the last one
filled up with zeros, modulo 2^64, in 8 bytes. Every change of a single byte changes it.

``load_array`` is stricter than numpy.load, which trusts the header, allocates what the
header says, and also opens archives and pickles.
"""

import functools
import io
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np

from resnet50.errors import UserError

FOOTER_BYTES = 8

# Of these the checksum is not compared. It would cost 13 % of the time of reading; a
# wrong value is still a pixel.
_UNCHECKED = np.dtype("uint8")

# Read or written, and added up, while they are in the processor's cache.
_CHUNK_BYTES = 2**18

# A large file is read in parts of at least so many bytes, at once, each in a thread.
# More threads than this share the memory's bandwidth.
_PART_BYTES, MAX_PARTS = 2**24, 4

# TensorFlow uses an array's memory as it is if its address is a multiple of this.
_ALIGNMENT = 64


class BatchFileError(UserError):
    """A batch file does not match the settings."""


def new_memory(num_bytes: int) -> np.ndarray:
    """Returns uint8 [num_bytes] with any values."""
    return np.empty(num_bytes, np.uint8)


class RecycledMemory:
    """Memory of arrays, used again as soon as no array uses it.

    The kernel clears fresh memory, page by page, which takes a quarter of the time of
    reading a large file from the page cache.
    """

    def __init__(self, allocate: Callable[[int], np.ndarray] = new_memory):
        """Takes what allocates memory, as uint8 [num_bytes]."""
        self._allocate = allocate
        self._unused: list[np.ndarray] = []

    def empty(self, shape: tuple[int, ...], dtype: str | np.dtype) -> np.ndarray:
        """Like numpy.empty, aligned for TensorFlow."""
        num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        while self._unused:
            memory = self._unused.pop()
            if len(memory) == num_bytes:  # Else the batches of its size are over.
                break
        else:
            memory = self._allocate(num_bytes + _ALIGNMENT)
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

    def __del__(self) -> None:
        self._unused.append(self._memory)


def _word_sum(values: np.ndarray) -> int:
    """The sum of uint8 [bytes] as little-endian 64-bit words, filled up with zeros."""
    num_whole = len(values) // 8 * 8
    rest = int.from_bytes(values[num_whole:].tobytes(), "little")
    return int(np.add.reduce(values[:num_whole].view("<u8"), dtype=np.uint64)) + rest


def _footer(word_sum: int) -> bytes:
    return (word_sum % 2**64).to_bytes(FOOTER_BYTES, "little")


def save_array(file: BinaryIO, array: np.ndarray) -> None:
    """Writes an array as numpy.save does, and then the checksum of its values."""
    array = np.ascontiguousarray(array)
    file.write(_header(array.shape, array.dtype))
    values, word_sum = array.reshape(-1).view(np.uint8), 0
    for start in range(0, len(values), _CHUNK_BYTES):
        chunk = values[start : start + _CHUNK_BYTES]
        file.write(chunk.data)
        word_sum += _word_sum(chunk)
    file.write(_footer(word_sum))


@functools.lru_cache(maxsize=8)
def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """What numpy.save writes before the values."""
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def _require_header(
    file: BinaryIO, path: Path, shape: tuple[int, ...], dtype: str | np.dtype
) -> None:
    expected = _header(shape, np.dtype(dtype))
    if file.read(len(expected)) == expected:
        return
    file.seek(0)  # numpy's parser knows other forms of it, and says what is wrong.
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


class _ReadPart(NamedTuple):
    """What was read of a part of a file."""

    num_bytes: int
    word_sum: int  # 0 if the values are not checked


def _read_part(
    descriptor: int, values: np.ndarray, offset: int, *, is_checked: bool
) -> _ReadPart:
    """Fills uint8 [bytes] from a place of a file on, as far as the file goes."""
    num_bytes = word_sum = 0
    for start in range(0, len(values), _CHUNK_BYTES):
        chunk, num_read = values[start : start + _CHUNK_BYTES], 0
        while num_read < len(chunk):
            place = offset + start + num_read
            more = os.preadv(descriptor, [chunk[num_read:].data], place)
            if not more:
                return _ReadPart(num_bytes + num_read, word_sum)
            num_read += more
        num_bytes += num_read
        word_sum += _word_sum(chunk) if is_checked else 0
    return _ReadPart(num_bytes, word_sum)


_Result = TypeVar("_Result")


def _at_once(functions: Sequence[Callable[[], _Result]]) -> list[_Result]:
    """Calls functions at once, the last one in this thread; raises when all have ended.

    The process can end while a read hangs, unlike with a ThreadPoolExecutor.
    """
    futures: list[Future[_Result]] = [Future() for _ in functions]

    def call(index: int) -> None:
        try:
            futures[index].set_result(functions[index]())
        except Exception as error:
            futures[index].set_exception(error)

    *others, here = range(len(functions))
    for index in others:
        threading.Thread(target=call, args=(index,), daemon=True).start()
    call(here)
    wait(futures)
    return [future.result() for future in futures]


def load_array(
    path: Path,
    shape: tuple[int, ...],
    dtype: str | np.dtype,
    empty: Callable[..., np.ndarray] = np.empty,
) -> np.ndarray:
    """Reads an array, and compares its checksum unless it is uint8.

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
        array, offset = empty(shape, dtype), file.tell()
        is_checked = array.dtype != _UNCHECKED
        values = array.reshape(-1).view(np.uint8)
        num_parts = min(MAX_PARTS, max(1, len(values) // _PART_BYTES))
        # Whole chunks, so that the words of the parts are those of the file.
        length = math.ceil(len(values) / num_parts / _CHUNK_BYTES) * _CHUNK_BYTES
        parts = _at_once(
            [
                functools.partial(
                    _read_part,
                    file.fileno(),
                    values[start : start + length],
                    offset + start,
                    is_checked=is_checked,
                )
                for start in range(0, len(values), length)
            ]
        )
        num_bytes = sum(part.num_bytes for part in parts)
        file.seek(offset + num_bytes)
        footer = file.read(FOOTER_BYTES + 1)
        if num_bytes < array.nbytes or len(footer) != FOOTER_BYTES:
            raise BatchFileError(
                f"{path}: {os.fstat(file.fileno()).st_size} bytes, but its values and "
                f"checksum should take {array.nbytes + FOOTER_BYTES} (torn?)"
            )
    if is_checked and footer != _footer(sum(part.word_sum for part in parts)):
        raise BatchFileError(
            f"{path}: its values do not have the checksum at its end (a broken disk or "
            "memory?)"
        )
    return array
