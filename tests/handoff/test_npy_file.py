"""Proves that memory is used again only when no array uses it.

tests/handoff/test_buffer.py proves that arrays are read and checked.
"""

import gc

import numpy as np
import pytest

from resnet50.handoff.npy_file import RecycledMemory

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
