"""A pool of the workers of a dask.distributed cluster.

The refill submits to it as to a pool of processes, and polls what is missing. So a lost
worker, a lost scheduler and a task that runs twice only cost time: a task that cannot
be finished fails with an OSError, and the refill reports it and tries again.
"""

import threading
import time
from concurrent.futures import Future
from typing import Any

from resnet50.dataset.sources import ImageSource
from resnet50.errors import UserError
from resnet50.handoff.manifest import remove_batch_temporaries
from resnet50.handoff.shared_folder import SharedBuffer
from resnet50.installation import install_command
from resnet50.observer import Observer
from resnet50.preprocessing.dask.admission import Admission
from resnet50.preprocessing.dask.connection import (
    Connection,
    missing_certificate,
    one_line,
    quiet_distributed,
    why_unreachable,
)
from resnet50.preprocessing.dask.pending_tasks import PendingTasks
from resnet50.preprocessing.dask.transfer import (
    ArrivalWatch,
    NetworkBuffer,
    Returned,
    run_and_return,
)
from resnet50.preprocessing.process_pool import WorkerPool

# How often the scheduler is polled for its workers, or a lost one is tried again.
_POLL_SECONDS = 1.0
_SHUTDOWN_SECONDS = 2.0


class DaskError(UserError):
    """The cluster cannot be used in its present state."""


class DaskPool(WorkerPool):
    """An executor on accepted workers, which reconnects to a lost scheduler.

    Use it in a ``with`` block. A thread polls the scheduler. Tasks that run at the end
    of the block end by themselves; the batches that they write are valid.
    """

    def __init__(
        self,
        address: str,
        buffer: SharedBuffer | NetworkBuffer,
        images: list[ImageSource],
        observer: Observer,
    ):
        """Prepares; the ``with`` statement connects.

        The address is like "tcp://10.0.0.1:8786". The buffer has its manifest already.
        It decides whether the workers write batches into the folder, or this process.
        Every worker must be able to read the images, except those unreadable here.
        """
        is_direct = isinstance(buffer, NetworkBuffer)
        self._address = address
        self._buffer = buffer
        self._observer = observer
        self._connection = Connection(address, is_direct=is_direct)
        self._admission = Admission(self._connection, buffer, images)
        self._pending = PendingTasks(self._connection, self._write)
        self._writing = threading.Lock()
        self._arrival = ArrivalWatch()
        self._has_leftovers = False  # unfinished files of lost workers, possibly
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll_repeatedly, daemon=True)

    @property
    def num_workers(self) -> int:  # type: ignore[override]  # is only read
        """Accepted workers; at least 1, so that a task is submitted and fails."""
        return max(1, len(self._admission.accepted))

    def __enter__(self) -> "DaskPool":
        """Connects, and inspects the workers.

        Raises:
            DaskError: The scheduler cannot be reached, or a worker is refused.
        """
        try:
            quiet_distributed()
        except ImportError:
            raise DaskError(
                '[runtime_preprocessing] executor = "dask": the package distributed is '
                f"missing ({install_command('cluster')})"
            ) from None
        if fault := missing_certificate(self._address):
            raise DaskError(f"{self._address}: {fault}")
        try:
            self._connection.open()
            self._poll()
            while self._admission.is_inspecting:
                time.sleep(0.05)
                self._poll()
        except Exception as error:  # distributed has no base class for its errors.
            self.shutdown()
            if reason := why_unreachable(self._address):
                remedy = "start `dask scheduler`; see [runtime_preprocessing] scheduler"
            else:
                reason = one_line(error)
                remedy = "is it one, running, and with the same tcp:// or tls://?"
            raise DaskError(
                f"{self._address}: no dask scheduler answers: {reason} ({remedy})"
            ) from None
        for worker, complaint in self._admission.refused.items():
            self.shutdown()
            raise DaskError(f"{worker}: {complaint}")
        num_workers = len(self._admission.accepted)
        self._observer.notify(f"{self._address}: {num_workers} workers")
        self._thread.start()
        return self

    def submit(self, function, /, *args) -> Future:  # type: ignore[override]  # no keywords
        """Submits function(*args).

        The future fails with SchedulerLostError or NoWorkerError if the cluster cannot
        finish the task.
        """
        workers = self._admission.accepted
        try:
            task = run_and_return, function, *args
            inner = self._connection.submit_and_keep(workers, *task)
        except ConnectionError as error:
            failed: Future = Future()
            failed.set_exception(error)
            return failed
        return self._pending.add(inner, workers)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Drops tasks that have not started and disconnects, within seconds."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_SHUTDOWN_SECONDS)
        self._disconnect()
        # Is not released: afterwards, another process may own the folder.
        self._writing.acquire(timeout=_SHUTDOWN_SECONDS)

    def _disconnect(self) -> None:
        self._has_leftovers |= bool(self._admission.accepted)
        self._admission.clear()
        self._pending.fail_all(self._connection.lost())
        self._connection.close()

    def _write(self, returned: Returned) -> Any:
        """Writes what a task has returned; returns the result of its function."""
        if returned.batches:
            with self._writing:
                for batch in returned.batches:
                    self._buffer.write(*batch)
                self._arrival.num_bytes += returned.num_bytes
        return returned.result

    def _report_slow_arrival(self) -> None:
        if isinstance(self._buffer, NetworkBuffer):
            num_made = self._pending.num_made()
            if line := self._arrival.poll(len(self._pending), num_made):
                self._observer.notify(f"{self._address}: {line}")

    def _poll_repeatedly(self) -> None:
        """Runs in the thread."""
        while not self._stop.wait(_POLL_SECONDS):
            try:
                if not self._connection.is_open:
                    self._connection.open()
                    self._observer.notify(f"{self._address}: the scheduler is back")
                for worker, complaint in self._poll().items():
                    self._observer.notify(f"{worker}: {complaint}; it gets no work")
                self._report_slow_arrival()
            except Exception as error:  # As above. The thread must not end.
                if self._connection.is_open and not self._stop.is_set():
                    self._disconnect()
                    self._observer.notify(
                        f"{self._address}: the scheduler is lost "
                        f"({type(error).__name__}); trying to reach it again"
                    )

    def _poll(self) -> dict[str, str]:
        """Polls the workers; returns complaints about workers that are refused now."""
        num_threads = self._connection.num_threads()
        self._has_leftovers |= not self._admission.accepted <= num_threads.keys()
        refused = self._admission.update(num_threads)
        if self._pending.may_be_with(self._connection.silent):
            # The scheduler would wait for it for minutes, and so would the receivers.
            self._pending.fail_all(self._connection.silent_worker())
        self._pending.fail_stranded(num_threads)
        is_idle = not (self._pending or self._admission.is_inspecting)
        if self._has_leftovers and is_idle and isinstance(self._buffer, SharedBuffer):
            # Nobody is writing, so every unfinished file is a lost worker's.
            remove_batch_temporaries(self._buffer)
            self._has_leftovers = False
        return refused
