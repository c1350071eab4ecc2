"""Page-locked memory of the host, from which a GPU copies at the speed of its bus.

From other memory the driver first copies into its own, piece by piece, and the caller
waits for that.
"""

import contextlib
import ctypes
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from resnet50.handoff.npy_file import new_memory

# CU_MEMHOSTALLOC_PORTABLE: page-locked for all GPUs.
_PORTABLE = 1


class _DriverError(Exception):
    """A call of the driver has failed."""


class PageLockedMemory:
    """Allocates page-locked memory by the driver's API."""

    def __init__(self, gpu: int, driver: ctypes.CDLL):
        """Takes the index of a GPU, in the order of CUDA, and libcuda."""
        self._gpu, self._driver = gpu, driver

    def allocate(self, num_bytes: int) -> np.ndarray:
        """Returns uint8 [num_bytes], aligned to a page.

        Other memory if the driver refuses, as beyond a limit of the system.
        """
        try:
            return np.asarray(_Block(self, num_bytes))
        except _DriverError:
            return new_memory(num_bytes)

    def take(self, num_bytes: int) -> int:
        """Allocates memory; returns its address."""
        address = ctypes.c_void_p()
        with self._context():
            self._call(
                "cuMemHostAlloc",
                ctypes.byref(address),
                ctypes.c_size_t(num_bytes),
                _PORTABLE,
            )
        return address.value or 0

    def give_back(self, address: int) -> None:
        """Frees memory."""
        with self._context():
            self._call("cuMemFreeHost", ctypes.c_void_p(address))

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
        """Makes the GPU's primary context, which TensorFlow uses, this thread's."""
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), self._gpu)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        try:
            self._call("cuCtxPushCurrent_v2", context)
            try:
                yield
            finally:
                self._call("cuCtxPopCurrent_v2", ctypes.byref(context))
        finally:
            self._call("cuDevicePrimaryCtxRelease_v2", device)

    def _call(self, name: str, *arguments) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status:
            raise _DriverError(f"{name} has returned {status}")


class _Block:
    """A block of page-locked memory, freed with the last array that uses it."""

    def __init__(self, memory: PageLockedMemory, num_bytes: int):
        address = memory.take(num_bytes)
        # At the exit of the process the system frees it.
        weakref.finalize(self, memory.give_back, address).atexit = False
        self.__array_interface__ = {
            "data": (address, False),
            "shape": (num_bytes,),
            "typestr": "|u1",
            "version": 3,
        }


def find_allocator() -> Callable[[int], np.ndarray]:
    """What allocates the batches' memory: page-locked if TensorFlow uses a GPU."""
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return new_memory
    index = int(gpus[0].name.rpartition(":")[2])
    return PageLockedMemory(index, ctypes.CDLL("libcuda.so.1")).allocate
