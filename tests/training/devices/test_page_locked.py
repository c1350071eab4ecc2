"""Proves that batches are read into page-locked memory, and that it is freed.

No driver is needed: a double of it counts contexts and blocks.
"""

import ctypes
import gc
import subprocess
import sys

import numpy as np
import pytest

from resnet50.handoff.npy_file import RecycledMemory, new_memory
from resnet50.training.devices.page_locked import PageLockedMemory, find_allocator

INVALID = 1


class Driver:
    """The calls of libcuda that are used; each returns 0, or a status."""

    def __init__(self, num_gpus=2, refuses=False):
        self.num_gpus, self.refuses = num_gpus, refuses
        self.blocks = {}
        self.retained, self.current, self.gpus = 0, [], set()

    def cuDeviceGet(self, device, gpu):  # noqa: N802
        device._obj.value = 10 + gpu
        return 0 if gpu < self.num_gpus else INVALID

    def cuDevicePrimaryCtxRetain(self, context, device):  # noqa: N802
        context._obj.value = 100 + device.value
        self.retained += 1
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device):  # noqa: N802
        self.retained -= 1
        return 0

    def cuCtxPushCurrent_v2(self, context):  # noqa: N802
        self.current.append(context.value)
        return 0

    def cuCtxPopCurrent_v2(self, context):  # noqa: N802
        context._obj.value = self.current.pop()
        return 0

    def cuMemHostAlloc(self, address, num_bytes, flags):  # noqa: N802
        if self.refuses or not self.current or flags != 1:
            return INVALID
        self.gpus.add(self.current[-1])
        block = ctypes.create_string_buffer(num_bytes.value)
        address._obj.value = ctypes.addressof(block)
        self.blocks[ctypes.addressof(block)] = block
        return 0

    def cuMemFreeHost(self, address):  # noqa: N802
        if not self.current:
            return INVALID
        del self.blocks[address.value]
        return 0


def test_memory_is_the_drivers_until_its_last_array_is_gone():
    driver = Driver()
    array = PageLockedMemory(1, driver).allocate(1000)
    [address] = driver.blocks
    assert (array.dtype, array.shape) == (np.uint8, (1000,))
    assert array.ctypes.data == address and driver.gpus == {111}
    array[:] = 7
    part = array[10:20]
    del array
    gc.collect()
    assert len(driver.blocks) == 1 and part.tolist() == [7] * 10
    del part
    gc.collect()
    assert not driver.blocks
    assert (driver.retained, driver.current) == (0, [])


@pytest.mark.parametrize("driver", [Driver(refuses=True), Driver(num_gpus=1)])
def test_memory_that_the_driver_refuses_comes_from_elsewhere(driver):
    array = PageLockedMemory(1, driver).allocate(1000)
    array[:] = 7
    assert array.shape == (1000,) and not driver.blocks
    assert (driver.retained, driver.current) == (0, [])


def test_a_batch_is_read_into_it_again_and_again():
    driver = Driver()
    memory = RecycledMemory(PageLockedMemory(0, driver).allocate)
    for _ in range(3):
        images = memory.empty((2, 5, 5, 3), "float16")
        images[:] = 1
        del images
    assert len(driver.blocks) == 1


def test_at_the_exit_of_the_process_nothing_is_freed_by_hand():
    program = (
        "from tests.training.devices.test_page_locked import Driver, PageLockedMemory\n"
        "driver = Driver()\n"
        "driver.cuMemFreeHost = lambda address: print('freed')\n"
        "array = PageLockedMemory(0, driver).allocate(1000)\n"
    )
    words = [sys.executable, "-c", program]
    child = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (child.stdout, "Exception" in child.stderr) == ("", False)


def test_without_a_gpu_memory_is_as_usual():
    assert find_allocator() is new_memory
