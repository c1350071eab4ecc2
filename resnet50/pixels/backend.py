"""Whether the compiled loops over pixels are at hand."""

import functools
from types import ModuleType


@functools.cache
def kernels() -> ModuleType | None:
    """The module ``kernels``; None without numba, or with one that is of no use here.

    With NUMBA_DISABLE_JIT numba would run the loops as they stand, value by value.
    Loaded by the first call, so that only a process that makes crops pays for it.
    """
    try:
        import numba

        from resnet50.pixels import kernels
    except ImportError:  # numba raises it also for a numpy that is too new for it.
        return None
    return None if numba.config.DISABLE_JIT else kernels
