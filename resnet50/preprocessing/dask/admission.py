"""Decides which workers of the cluster get work."""

import pickle
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from resnet50.dataset.sources import ImageSource
from resnet50.handoff.buffer import BatchBuffer
from resnet50.preprocessing.dask.connection import Connection, one_line, why_unreachable
from resnet50.preprocessing.dask.inspection import complaint_about, inspect
from resnet50.preprocessing.dask.transfer import NetworkBuffer

# A worker may be loading numba for the first time on its machine.
_INSPECTION_SECONDS = 120.0

_PORTS = 'with transfer = "network" this host connects to each worker\'s port'


class _RunWhenUnpickled:
    """A call that happens when this object is unpickled.

    A worker without this package ends when it cannot unpickle a task; if the task is
    ``pickle.loads`` of this object, the same failure is only the task's result.
    """

    def __init__(self, function: Callable, *args):
        self._call = function, args

    def __reduce__(self):
        return self._call


class Admission:
    """Inspects each worker once, and accepts or refuses it."""

    def __init__(
        self, connection: Connection, buffer: BatchBuffer, images: list[ImageSource]
    ):
        """Every worker must be able to read the images, except those unreadable here.

        It must also see a SharedBuffer, or answer this host for a NetworkBuffer.
        """
        self._connection = connection
        self._buffer = buffer
        self._images = images
        # The running inspections, and when each has taken too long.
        self._inspections: dict[str, tuple[Future, float]] = {}
        self.clear()

    @property
    def is_inspecting(self) -> bool:
        """Whether an inspection is running."""
        return bool(self._inspections)

    def clear(self) -> None:
        """Forgets all workers."""
        self.accepted: frozenset[str] = frozenset()  # addresses
        self.refused: dict[str, str] = {}  # complaints, by address
        self._inspections.clear()

    def update(self, num_threads: Mapping[str, int]) -> dict[str, str]:
        """Forgets lost workers, inspects new ones, and collects results.

        Takes the number of threads of each worker, by address. Returns complaints about
        the workers that are refused in this call.
        """
        for known in self.refused, self._inspections:
            for worker in known.keys() - num_threads:
                del known[worker]
        self.accepted &= num_threads.keys()
        refused = {}
        for worker in num_threads.keys() - self.accepted - self.refused.keys():
            complaint = self._complaint(worker, num_threads[worker])
            if complaint:
                refused[worker] = complaint
            elif complaint is not None:
                self.accepted |= {worker}
        self.refused |= refused
        return refused

    def _complaint(self, worker: str, num_threads: int) -> str | None:
        """Why a worker is refused; "" to accept it, None during its inspection."""
        if num_threads != 1:
            return f"has {num_threads} threads (start it: --nthreads 1)"
        if worker not in self._inspections:
            if isinstance(self._buffer, NetworkBuffer) and (
                fault := why_unreachable(worker)
            ):
                return f"cannot be reached from this host: {fault} ({_PORTS})"
            call = _RunWhenUnpickled(inspect, self._buffer, self._images)
            task = self._connection.submit([worker], pickle.loads, pickle.dumps(call))
            self._inspections[worker] = task, time.monotonic() + _INSPECTION_SECONDS
            return None
        task, deadline = self._inspections[worker]
        if not task.done() and time.monotonic() < deadline:
            return None
        del self._inspections[worker]
        if not task.done():
            return f"has not answered for {_INSPECTION_SECONDS:g} s"
        if task.cancelled():
            raise self._connection.lost()
        error = task.exception()
        if error is not None:
            return (
                f"cannot run this project's code: {one_line(error)} (install the "
                "project and the same versions on every host)"
            )
        return complaint_about(task.result(), self._buffer, self._images)
