"""Unfinished tasks of a dask cluster, and the threads that receive their results."""

import contextlib
import functools
import threading
import traceback
from collections.abc import Callable, Collection
from concurrent.futures import Future, InvalidStateError
from queue import SimpleQueue
from typing import Any

from resnet50.preprocessing.dask.connection import Connection, NoWorkerError

# While one thread writes a batch, the other receives the next one. More would not be
# faster, and each may have a whole batch in memory.
_NUM_RECEIVERS = 2


def _fail(future: Future, error: BaseException) -> None:
    with contextlib.suppress(InvalidStateError):  # It may have a result by now.
        future.set_exception(error)


class _Receivers:
    """Threads that call functions in order.

    They do not delay the end of the program, as those of a ThreadPoolExecutor would: a
    batch may take minutes on a slow network.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        for _ in range(_NUM_RECEIVERS):
            threading.Thread(target=self._run, daemon=True).start()

    def call(self, function: Callable[[], None]) -> None:
        """Calls a function later."""
        self._calls.put(function)

    def end(self) -> None:
        """Ends the threads after the calls so far."""
        for _ in range(_NUM_RECEIVERS):
            self._calls.put(None)

    def _run(self) -> None:
        while function := self._calls.get():
            function()


class PendingTasks:
    """Passes the results of dask's futures on to futures that can fail earlier.

    Thread-safe, because dask calls back in a thread of its own. A result stays with its
    worker until one of few threads receives it. So this host never has more than
    ``_NUM_RECEIVERS`` results, and a worker, which gets no other task before, only its
    own.
    """

    def __init__(self, connection: Connection, accept: Callable[[Any], Any]):
        """Takes what turns a received result into the result for the caller."""
        self._connection = connection
        self._accept = accept
        self._lock = threading.Lock()
        self._receivers: _Receivers | None = None
        # By the future that the caller has: dask's, and the workers that may run it.
        self._tasks: dict[Future, tuple[Any, frozenset[str]]] = {}

    def __len__(self) -> int:
        """How many tasks are not finished."""
        return len(self._tasks)

    def num_made(self) -> int:
        """How many tasks have only to be received and accepted."""
        with self._lock:
            return sum(inner.status == "finished" for inner, _ in self._tasks.values())

    def add(self, inner: Any, workers: frozenset[str]) -> Future:
        """Returns a future for the result of dask's, which some workers may run."""
        outer: Future = Future()
        with self._lock:
            self._tasks[outer] = inner, workers
            self._receivers = receivers = self._receivers or _Receivers()
        receive = functools.partial(self._receive, outer, inner)
        inner.add_done_callback(lambda _: receivers.call(receive))
        return outer

    def fail_stranded(self, workers: Collection[str]) -> None:
        """Fails every task whose workers are all gone, given those that are left."""
        with self._lock:
            tasks = list(self._tasks.items())
        for outer, (inner, its_workers) in tasks:
            if its_workers.isdisjoint(workers):
                _fail(outer, self._connection.no_worker())
                inner.cancel()

    def may_be_with(self, workers: Collection[str]) -> bool:
        """Whether one of some workers may run a task, or have a result."""
        with self._lock:
            return any(
                not its_workers.isdisjoint(workers)
                for _, its_workers in self._tasks.values()
            )

    def fail_all(self, error: ConnectionError) -> None:
        """Fails every task, because the scheduler is lost, or a worker is silent.

        A thread that receives from that worker may never return. So the next tasks get
        new receivers.
        """
        with self._lock:
            tasks, self._tasks = self._tasks, {}
            receivers, self._receivers = self._receivers, None
        for outer, (inner, _) in tasks.items():
            _fail(outer, error)
            inner.release()
        if receivers:
            receivers.end()

    def _receive(self, outer: Future, inner: Any) -> None:
        """Runs in a thread when a task is done."""
        try:
            if not outer.done():
                outer.set_result(self._accept(self._result(inner)))
        except Exception as error:
            # Otherwise they keep the batch until the garbage collector runs, which may
            # be after a hundred batches.
            traceback.clear_frames(error.__traceback__)
            _fail(outer, error)
        finally:
            with self._lock:
                self._tasks.pop(outer, None)
            inner.release()

    def _result(self, inner: Any) -> Any:
        """Gets a result from its worker; waits if a lost worker's task runs again.

        Raises:
            NoWorkerError: Workers died over this task.
            SchedulerLostError: The connection was closed.
            Exception: What the task has raised.
        """
        from distributed.scheduler import KilledWorker

        try:
            return inner.result()
        except KilledWorker:
            text = "workers died, one after the other, over this batch"
            raise NoWorkerError(text) from None
        except BaseException:
            if inner.status == "error":
                raise
            raise self._connection.lost() from None
