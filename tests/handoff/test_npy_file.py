"""Proves that memory is used again only when no array uses it, and reads in parts.

tests/handoff/test_buffer.py proves that arrays are read and checked.
"""

import errno
import gc
import os
import threading

import numpy as np
import pytest

from resnet50.handoff import npy_file
from resnet50.handoff.npy_file import (
    BatchFileError,
    RecycledMemory,
    load_array,
    save_array,
)

# So large that numpy itself does not keep the memory.
SHAPE = (3, 1000, 1001)


@pytest.fixture
def memory():
    gc.disable()  # Memory must come back at once, not at the next collection.
    yield RecycledMemory()
    gc.enable()


def address(array):
    return array.ctypes.data


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_arrays_are_aligned_and_have_shape_and_dtype(memory, dtype):
    array = memory.empty(SHAPE, dtype)
    assert (array.shape, array.dtype) == (SHAPE, dtype)
    assert array.flags.c_contiguous and array.flags.writeable
    assert address(array) % 64 == 0


def test_memory_of_an_array_that_is_gone_is_used_again(memory):
    array = memory.empty(SHAPE, "float16")
    first = address(array)
    del array
    # Takes the place of memory that was given back to the system.
    other = np.empty(np.prod(SHAPE) + 32, "float16")
    again = memory.empty(SHAPE, "float16")
    assert address(again) == first
    assert not np.shares_memory(again, other)


def test_memory_of_a_view_is_not(memory):
    array = memory.empty(SHAPE, "float16")
    first = address(array)
    view = array[1:].reshape(-1).view(np.uint16)[5:]
    del array
    others = [memory.empty(SHAPE, "float16") for _ in range(3)]
    assert first not in map(address, others)
    assert not any(np.shares_memory(view, other) for other in others)
    del view
    assert address(memory.empty(SHAPE, "float16")) == first


def test_memory_of_another_size_is_given_back(memory):
    array = memory.empty((2, 1000, 1000), "uint8")
    del array
    other = memory.empty((2, 1000, 999), "uint8")
    assert other.nbytes == 2 * 1000 * 999
    del other
    assert len(memory._unused) == 1


# Four parts of 600, 600, 600 and 100 bytes.
CHUNK, LENGTH = 200, 9 * 200 + 100


@pytest.fixture
def in_parts(tmp_path, monkeypatch):
    """A file that is read in four parts by as many threads; its path and array."""
    monkeypatch.setattr(npy_file, "_CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(npy_file, "_PART_BYTES", 2 * CHUNK)
    monkeypatch.setattr(npy_file, "MAX_PARTS", 4)
    array = np.random.default_rng(0).normal(size=LENGTH // 2).astype("float16")
    path = tmp_path / "array.npy"
    with path.open("wb") as file:
        save_array(file, array)
    return path, array


def load(path):
    return load_array(path, (LENGTH // 2,), "float16")


def test_parts_are_read_by_threads_at_once(in_parts, monkeypatch):
    path, array = in_parts
    # Each thread waits at its first chunk for all others.
    barrier, waited, preadv = threading.Barrier(4), set(), os.preadv

    def read(*arguments):
        if threading.current_thread() not in waited:
            waited.add(threading.current_thread())
            barrier.wait(timeout=60)
        return preadv(*arguments)

    monkeypatch.setattr(os, "preadv", read)
    assert (load(path).view(np.uint16) == array.view(np.uint16)).all()
    assert len(waited) == 4


def test_a_read_may_bring_less_than_was_asked(in_parts, monkeypatch):
    path, array = in_parts
    preadv = os.preadv

    def read_little(file, buffers, place):
        return preadv(file, [buffers[0][:7]], place)

    monkeypatch.setattr(os, "preadv", read_little)
    assert (load(path).view(np.uint16) == array.view(np.uint16)).all()


@pytest.mark.parametrize("place", range(0, LENGTH, CHUNK // 2))
def test_damage_of_any_part_is_noticed(in_parts, place):
    path, _ = in_parts
    content = bytearray(path.read_bytes())
    content[128 + place] ^= 1
    path.write_bytes(content)
    with pytest.raises(BatchFileError, match="do not have the checksum"):
        load(path)
    path.write_bytes(content[: 128 + place])
    with pytest.raises(BatchFileError, match=rf"{128 + place} bytes, .* \(torn\?\)"):
        load(path)


@pytest.mark.parametrize("failing", range(0, LENGTH, CHUNK))
def test_a_disk_that_fails_in_any_part_is_no_damage(in_parts, monkeypatch, failing):
    path, _ = in_parts
    preadv = os.preadv

    def fail(file, buffers, place):
        if place == 128 + failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(file, buffers, place)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OSError, match="Input/output error"):
        load(path)
