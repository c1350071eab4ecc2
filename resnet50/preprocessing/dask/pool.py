"""The workers of a dask.distributed cluster, in the place of this machine's.

The refill submits to them as to a pool of processes, and looks what is missing. So a
lost worker, a lost scheduler and a task that runs twice cost time and nothing else:
what cannot be finished fails with an OSError, and the refill tells it and tries again.

A worker gets work only after it was inspected: the same versions and code as here, one
thread, the same buffer folder, and images that it can read. Whatever joins later is
inspected then. Tasks are bound to inspected workers; dask moves them among these.
"""

import contextlib
import functools
import logging
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import NamedTuple

from resnet50.dataset.sources import ImageSource
from resnet50.errors import UserError
from resnet50.handoff.manifest import remove_batch_temporaries
from resnet50.handoff.shared_folder import SharedBuffer
from resnet50.observer import Observer
from resnet50.preprocessing.dask.inspection import complaint_about, inspect
from resnet50.preprocessing.process_pool import WorkerPool

# How often the cluster is asked for its workers, and a lost scheduler looked for.
_LOOK_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
# A scheduler that has not answered for so long is lost.
_ANSWER_SECONDS = 20.0
# A worker may be loading numba for the first time on its machine.
_INSPECTION_SECONDS = 120.0
_SHUTDOWN_SECONDS = 2.0


class DaskError(UserError):
    """The cluster cannot be used as it is."""


class SchedulerLostError(ConnectionError):
    """The scheduler does not answer (any more)."""


class NoWorkerError(ConnectionError):
    """No worker is there to do the work, or those that did have gone."""


def _quiet_distributed() -> None:
    """What its loggers have to say, this module says in one line."""
    for name in "distributed", "distributed.client", "tornado.application":
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
    warnings.filterwarnings("ignore", module=r"distributed\.")


def _fail(future: Future, error: Exception) -> None:
    with contextlib.suppress(InvalidStateError):  # It has its result by now.
        future.set_exception(error)


class _RunWhenUnpickled:
    """Pickles to what pickle.loads turns into the result of a call.

    A worker that cannot unpickle a task, for want of this package, ends; of the task
    pickle.loads(...) such a failure is the result.
    """

    def __init__(self, function: Callable, *args):
        self._call = function, args

    def __reduce__(self):
        return self._call


class _Order(NamedTuple):
    inner: Future  # of dask's executor
    workers: frozenset[str]  # which may do it


class DaskPool(WorkerPool):
    """An executor on inspected workers, which connects again when it must.

    A thread of its own keeps in touch with the scheduler. Use it in a ``with`` block;
    at its end work that has not started is dropped, and running tasks end by
    themselves: they cannot be cancelled, and what they write is right.
    """

    def __init__(
        self,
        address: str,
        buffer: SharedBuffer,
        images: list[ImageSource],
        observer: Observer,
    ):
        """Prepares; the ``with`` statement connects.

        Args:
            address: Of the scheduler, such as "tcp://10.0.0.1:8786".
            buffer: Where the workers shall write. Its manifest is in place.
            images: Of these every worker must be able to read one.
            observer: Is notified of workers and schedulers that come and go.
        """
        self._address = address
        self._buffer = buffer
        self._images = images
        self._notify = observer.notify
        self._lock = threading.Lock()
        self._client = self._executor = None
        self._accepted: frozenset[str] = frozenset()
        self._refused: dict[str, str] = {}
        self._inspecting: dict[str, tuple[Future, float]] = {}
        self._orders: dict[Future, _Order] = {}
        self._has_leftovers = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_in_touch, daemon=True)

    @property
    def num_workers(self) -> int:
        """Inspected workers. At least 1, so that somebody asks and is told of none."""
        return max(1, len(self._accepted))

    def __enter__(self) -> "DaskPool":
        """Connects, and inspects the workers that are there.

        Raises:
            ClusterError: The scheduler cannot be reached, or a worker is not equal.
        """
        try:
            import distributed  # noqa: F401
        except ImportError:
            raise DaskError(
                '[runtime_preprocessing] executor = "dask": the package distributed is '
                "missing (pip install '.[cluster]')"
            ) from None
        _quiet_distributed()
        try:
            self._connect()
            self._look()
            while self._inspecting:
                time.sleep(0.05)
                self._look()
        except Exception as error:  # Of distributed, which has no base class of them.
            self.shutdown()
            raise DaskError(
                f"{self._address}: no dask scheduler answers: {_one_line(error)} "
                "(start `dask scheduler`; see [runtime_preprocessing] scheduler)"
            ) from None
        for worker, complaint in list(self._refused.items()):
            self.shutdown()
            raise DaskError(f"{worker}: {complaint}")
        self._notify(f"{self._address}: {len(self._accepted)} workers")
        self._thread.start()
        return self

    def submit(self, function, /, *args) -> Future:
        """Submits function(*args); the future fails if the cluster loses it.

        Its exception is then SchedulerLostError or NoWorkerError.
        """
        outer = Future()
        with self._lock:
            executor, workers = self._executor, self._accepted
        if executor is None:
            _fail(outer, self._scheduler_lost())
            return outer
        if not workers:
            _fail(outer, self._no_worker())
            return outer
        try:
            inner = executor.submit(function, *args, workers=sorted(workers))
        except Exception as error:  # distributed's own, of a client that is closing.
            _fail(outer, SchedulerLostError(f"{self._address}: {_one_line(error)}"))
            return outer
        with self._lock:
            self._orders[outer] = _Order(inner, workers)
        inner.add_done_callback(functools.partial(self._pass_on, outer))
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Drops what has not started and disconnects, within seconds."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_SHUTDOWN_SECONDS)
        self._disconnect()

    def _scheduler_lost(self) -> SchedulerLostError:
        return SchedulerLostError(f"{self._address}: the scheduler does not answer")

    def _no_worker(self) -> NoWorkerError:
        return NoWorkerError(
            f"{self._address}: has no worker (on each host: dask worker --nthreads 1 "
            f"--nworkers N {self._address})"
        )

    def _pass_on(self, outer: Future, inner: Future) -> None:
        """Hands dask's outcome on; its own errors become ours."""
        from distributed.scheduler import KilledWorker

        with self._lock:
            self._orders.pop(outer, None)
        if inner.cancelled():
            _fail(outer, self._scheduler_lost())
        elif isinstance(inner.exception(), KilledWorker):
            _fail(
                outer,
                NoWorkerError("workers died, one after the other, over this batch"),
            )
        elif inner.exception() is not None:
            _fail(outer, inner.exception())
        else:
            with contextlib.suppress(InvalidStateError):
                outer.set_result(inner.result())

    def _connect(self) -> None:
        from distributed import Client

        client = Client(self._address, timeout=_CONNECT_SECONDS, set_as_default=False)
        with self._lock:
            self._client, self._executor = client, client.get_executor(pure=False)

    def _disconnect(self) -> None:
        """Forgets the scheduler; what it was to do fails."""
        with self._lock:
            client, self._client, self._executor = self._client, None, None
            orders, self._orders = self._orders, {}
            # Their tasks may be cut off with them.
            self._has_leftovers |= bool(self._accepted)
            self._accepted = frozenset()
        self._inspecting.clear()
        self._refused.clear()
        if client is not None:
            try:
                client.close(timeout=_SHUTDOWN_SECONDS)
            except Exception:  # It is of no use any more, whatever ails it.
                logging.getLogger(__name__).debug("closing the client", exc_info=True)
        for outer in orders:
            _fail(outer, self._scheduler_lost())

    def _keep_in_touch(self) -> None:
        """Runs in the thread."""
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                if self._client is None:
                    self._connect()
                    self._notify(f"{self._address}: the scheduler is back")
                self._look()
            except Exception as error:  # As above; and this thread must not end.
                if self._client is not None and not self._stop.is_set():
                    self._disconnect()
                    self._notify(
                        f"{self._address}: the scheduler is lost "
                        f"({type(error).__name__}); trying to reach it again"
                    )

    def _look(self) -> None:
        """Asks for the workers; inspects the new, gives up what the lost were to do."""
        if self._client.status != "running":
            raise ConnectionError("connection closed")
        threads = self._client.nthreads(callback_timeout=_ANSWER_SECONDS)
        for worker in self._refused.keys() - threads:
            del self._refused[worker]
        for worker in threads.keys() - self._accepted - self._refused.keys():
            self._inspect(worker, threads[worker])
        for worker in self._inspecting.keys() - threads:
            del self._inspecting[worker]
        with self._lock:
            self._has_leftovers |= not self._accepted <= threads.keys()
            self._accepted &= threads.keys()
            stranded = [
                (outer, order.inner)
                for outer, order in self._orders.items()
                if order.workers.isdisjoint(threads)
            ]
            is_idle = not self._orders and not self._inspecting
        for outer, inner in stranded:
            _fail(outer, self._no_worker())
            inner.cancel()
        if self._has_leftovers and is_idle:
            # Nobody is writing: what has a temporary name is a lost worker's.
            remove_batch_temporaries(self._buffer)
            self._has_leftovers = False

    def _inspect(self, worker: str, num_threads: int) -> None:
        """Starts a worker's inspection, or ends it with a verdict."""
        if num_threads != 1:
            self._refuse(worker, f"has {num_threads} threads (start it: --nthreads 1)")
            return
        if worker not in self._inspecting:
            call = _RunWhenUnpickled(inspect, self._buffer, self._images)
            task = self._executor.submit(
                pickle.loads, pickle.dumps(call), workers=[worker]
            )
            self._inspecting[worker] = task, time.monotonic() + _INSPECTION_SECONDS
            return
        task, deadline = self._inspecting[worker]
        if not task.done() and time.monotonic() < deadline:
            return
        del self._inspecting[worker]
        complaint = self._complaint(task)
        if complaint:
            self._refuse(worker, complaint)
            return
        with self._lock:
            self._accepted |= {worker}

    def _complaint(self, task: Future) -> str:
        """Why a worker is of no use; "" if it is."""
        if not task.done():
            return f"has not answered for {_INSPECTION_SECONDS:g} s"
        if task.cancelled():
            raise self._scheduler_lost()
        error = task.exception()
        if error is not None:
            return (
                f"cannot run this project's code: {_one_line(error)} (install the "
                "project and the same versions on every host)"
            )
        return complaint_about(task.result(), self._buffer, self._images)

    def _refuse(self, worker: str, complaint: str) -> None:
        self._refused[worker] = complaint
        if self._thread.is_alive():
            self._notify(f"{worker}: {complaint}; it gets no work")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__
