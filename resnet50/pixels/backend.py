"""Chooses the implementation of the loops over pixels."""

import functools
from types import ModuleType


@functools.cache
def get() -> ModuleType:
    """Returns ``kernels``, compiled by numba, or ``pillow_numpy`` if numba is unusable.

    Both modules have the same functions and give the same results, bit by bit. The
    first call loads them, so only a process that makes crops pays for it.
    """
    from resnet50.pixels import pillow_numpy

    try:
        import numba

        from resnet50.pixels import kernels
    except ImportError:  # Numba also raises it if numpy is too new for it.
        return pillow_numpy
    # With NUMBA_DISABLE_JIT the loops would run in Python, value by value.
    return pillow_numpy if numba.config.DISABLE_JIT else kernels
