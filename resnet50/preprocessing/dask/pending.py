"""The tasks that the cluster has not finished yet."""

import contextlib
import functools
import threading
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from typing import NamedTuple

from resnet50.preprocessing.dask.connection import Connection, NoWorkerError


def _fail(future: Future, error: Exception) -> None:
    with contextlib.suppress(InvalidStateError):  # It may have a result by now.
        future.set_exception(error)


class _Task(NamedTuple):
    inner: Future  # of dask's executor
    workers: frozenset[str]  # that may run it


class PendingTasks:
    """Passes the results of dask's futures on to futures that can fail earlier.

    Thread-safe, because dask calls back in a thread of its own.
    """

    def __init__(self, connection: Connection):
        self._connection = connection
        self._lock = threading.Lock()
        self._tasks: dict[Future, _Task] = {}

    def __len__(self) -> int:
        """How many tasks are not finished."""
        return len(self._tasks)

    def add(self, inner: Future, workers: frozenset[str]) -> Future:
        """Returns a future for the result of dask's, which some workers may run."""
        outer = Future()
        with self._lock:
            self._tasks[outer] = _Task(inner, workers)
        inner.add_done_callback(functools.partial(self._pass_on, outer))
        return outer

    def fail_stranded(self, workers: Iterable[str]) -> None:
        """Fails every task whose workers are all gone, given those that are left."""
        with self._lock:
            stranded = [
                (outer, task.inner)
                for outer, task in self._tasks.items()
                if task.workers.isdisjoint(workers)
            ]
        for outer, inner in stranded:
            _fail(outer, self._connection.no_worker())
            inner.cancel()

    def fail_all(self) -> None:
        """Fails every task, because the scheduler is lost."""
        with self._lock:
            tasks, self._tasks = self._tasks, {}
        for outer in tasks:
            _fail(outer, self._connection.lost())

    def _pass_on(self, outer: Future, inner: Future) -> None:
        from distributed.scheduler import KilledWorker

        with self._lock:
            self._tasks.pop(outer, None)
        error = self._connection.lost() if inner.cancelled() else inner.exception()
        if isinstance(error, KilledWorker):
            error = NoWorkerError("workers died, one after the other, over this batch")
        if error is not None:
            _fail(outer, error)
        else:
            with contextlib.suppress(InvalidStateError):
                outer.set_result(inner.result())
