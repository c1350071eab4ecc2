"""Compiles functions with numba, with little memory and time in each worker."""

import contextlib
import ctypes
import functools
from pathlib import Path

import numba

# madvise(2) on Linux: these pages are not needed for now.
_MADV_DONTNEED = 4


def _keep_scipy_out() -> None:
    """Loads numba's numpy support without scipy, which numba searches for a BLAS.

    No loop here needs a BLAS; scipy costs a worker 20 MB and 0.1 s.
    """

    def no_blas():
        raise ImportError

    try:
        from numba.np import linalg

        ensure_blas, linalg.ensure_blas = linalg.ensure_blas, no_blas
    except (ImportError, AttributeError):  # Another numba version has it elsewhere.
        return
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = ensure_blas


_keep_scipy_out()


def compiled(signature):
    """Decorator that compiles a function at its first call.

    A machine's first call takes about a second; later processes load the code from
    numba's cache. Tests for division by zero and wrappers for C are left out, because
    each takes time to compile. No fastmath: it would let the last bit depend on the
    processor.
    """

    def decorate(function):
        @functools.cache
        def machine_code():
            options = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
            try:
                return numba.njit(signature, cache=True, **options)(function)
            # Numba raises whatever reading a damaged cache raises, such as EOFError
            # after a power cut, and RuntimeError if it has no folder for a cache.
            except Exception:
                _forget_cache()
                return numba.njit(signature, **options)(function)
            finally:
                _release_llvm()

        return functools.wraps(function)(lambda *args: machine_code()(*args))

    return decorate


def _release_llvm() -> None:
    """Removes the compiler's code from memory: 80 MB of each worker.

    The kernel maps it again from the file if it is called again.
    """
    # Other systems have no such file.
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
    """Deletes the cache's indices, so that the next process fills the cache again."""
    folder = Path(numba.config.CACHE_DIR or Path(__file__).parent / "__pycache__")
    with contextlib.suppress(OSError):
        for index in folder.rglob("*.nbi"):
            if index.name.startswith(("kernels.", "pillow_numpy.")):
                index.unlink(missing_ok=True)
