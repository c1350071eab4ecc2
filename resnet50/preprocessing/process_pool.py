"""A pool of worker processes, which end with the pool or with its owner.

It is a concurrent.futures.Executor, so that a cluster's executor can replace it.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.connection import wait

from resnet50.errors import UserError
from resnet50.signals import STOP_SIGNALS

# Each worker uses one core; these variables keep BLAS libraries from starting threads.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}


class WorkersDiedError(UserError):
    """Worker processes were killed before they finished their tasks."""


def _die_with(parent_sentinel: int) -> None:
    wait([parent_sentinel])
    os._exit(1)


def _start_worker() -> None:
    """Runs first in each worker."""
    # Ctrl-C and a hangup go to every process of the terminal, but only the owner of the
    # pool should react. Workers start with the signals blocked (see _ProcessPool).
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    # Otherwise a worker whose owner was killed would wait for a task forever.
    owner = multiprocessing.parent_process()
    assert owner is not None
    threading.Thread(target=_die_with, args=(owner.sentinel,), daemon=True).start()


class WorkerPool(Executor):
    """An executor with a known number of workers."""

    num_workers: int  # tasks that run at a time, at least 1; may change


class _ProcessPool(ProcessPoolExecutor, WorkerPool):
    """A process pool that starts its workers with stop signals blocked."""

    def submit(self, *args, **kwargs):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            return super().submit(*args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def worker_pool(num_workers: int) -> Iterator[WorkerPool]:
    """Yields a pool of worker processes, which start with the first tasks.

    At the end of the block, tasks that have not started are dropped and running ones
    finish.
    """
    before = {name: os.environ[name] for name in _ONE_THREAD if name in os.environ}
    os.environ.update(_ONE_THREAD)  # Workers inherit it.
    # Spawned, because a forked worker would copy locks that other threads hold.
    context = multiprocessing.get_context("spawn")
    pool = _ProcessPool(num_workers, context, initializer=_start_worker)
    pool.num_workers = num_workers
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name in _ONE_THREAD:
            os.environ.pop(name, None)
        os.environ.update(before)
