"""The connection to a dask scheduler, which may be lost, and its unfinished tasks."""

import contextlib
import functools
import logging
import threading
import warnings
from collections.abc import Callable, Collection
from concurrent.futures import Future, InvalidStateError
from typing import Any

_CONNECT_SECONDS = 5.0
# A scheduler that has not answered for this long is lost.
_ANSWER_SECONDS = 20.0
_CLOSE_SECONDS = 2.0


class SchedulerLostError(ConnectionError):
    """The scheduler does not answer (any more)."""


class NoWorkerError(ConnectionError):
    """There is no worker, or the workers of a task are gone."""


def quiet_distributed() -> None:
    """Silences distributed's loggers; the pool reports the same in one line."""
    for name in "distributed", "distributed.client", "tornado.application":
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
    warnings.filterwarnings("ignore", module=r"distributed\.")


def one_line(error: BaseException) -> str:
    """An error's text, shortened to one line."""
    return " ".join(str(error).split())[:150] or type(error).__name__


class Connection:
    """A connection to a scheduler; closed at first.

    Its methods let distributed's exceptions through, which have no common base class.
    """

    def __init__(self, address: str):
        self.address = address
        self._client: Any = None
        self._executor: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, as far as known."""
        return self._client is not None

    def open(self) -> None:
        """Connects to the scheduler."""
        from distributed import Client

        self._client = Client(
            self.address, timeout=_CONNECT_SECONDS, set_as_default=False
        )
        self._executor = self._client.get_executor(pure=False)

    def close(self) -> None:
        """Disconnects; never fails."""
        client, self._client, self._executor = self._client, None, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close(timeout=_CLOSE_SECONDS)

    def lost(self) -> SchedulerLostError:
        """An error that says that the scheduler is lost."""
        return SchedulerLostError(f"{self.address}: the scheduler does not answer")

    def no_worker(self) -> NoWorkerError:
        """An error that says that the scheduler has no worker."""
        return NoWorkerError(
            f"{self.address}: has no worker (on each host: dask worker --nthreads 1 "
            f"--nworkers N {self.address})"
        )

    def num_threads(self) -> dict[str, int]:
        """Asks the scheduler for its workers: number of threads by address."""
        if self._client.status != "running":
            raise ConnectionError("connection closed")
        return self._client.nthreads(callback_timeout=_ANSWER_SECONDS)

    def submit(self, workers: Collection[str], function: Callable, *args) -> Future:
        """Submits function(*args); raises SchedulerLostError or NoWorkerError."""
        executor = self._executor
        if executor is None:
            raise self.lost()
        if not workers:
            raise self.no_worker()
        try:
            return executor.submit(function, *args, workers=sorted(workers))
        except Exception as error:
            raise SchedulerLostError(f"{self.address}: {one_line(error)}") from None


def _fail(future: Future, error: BaseException) -> None:
    with contextlib.suppress(InvalidStateError):  # It may have a result by now.
        future.set_exception(error)


class PendingTasks:
    """Passes the results of dask's futures on to futures that can fail earlier.

    Thread-safe, because dask calls back in a thread of its own.
    """

    def __init__(self, connection: Connection):
        self._connection = connection
        self._lock = threading.Lock()
        # By the future that the caller has: dask's, and the workers that may run it.
        self._tasks: dict[Future, tuple[Future, frozenset[str]]] = {}

    def __len__(self) -> int:
        """How many tasks are not finished."""
        return len(self._tasks)

    def add(self, inner: Future, workers: frozenset[str]) -> Future:
        """Returns a future for the result of dask's, which some workers may run."""
        outer: Future = Future()
        with self._lock:
            self._tasks[outer] = inner, workers
        inner.add_done_callback(functools.partial(self._pass_on, outer))
        return outer

    def fail_stranded(self, workers: Collection[str]) -> None:
        """Fails every task whose workers are all gone, given those that are left."""
        with self._lock:
            tasks = list(self._tasks.items())
        for outer, (inner, its_workers) in tasks:
            if its_workers.isdisjoint(workers):
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
        if inner.cancelled():
            _fail(outer, self._connection.lost())
        elif isinstance(inner.exception(), KilledWorker):
            text = "workers died, one after the other, over this batch"
            _fail(outer, NoWorkerError(text))
        elif error := inner.exception():
            _fail(outer, error)
        else:
            with contextlib.suppress(InvalidStateError):
                outer.set_result(inner.result())
