"""The connection to a dask scheduler, which may be lost and opened again."""

import logging
import warnings
from collections.abc import Callable, Collection
from concurrent.futures import Future

_CONNECT_SECONDS = 5.0
# A scheduler that has not answered for so long is lost.
_ANSWER_SECONDS = 20.0
_CLOSE_SECONDS = 2.0


class SchedulerLostError(ConnectionError):
    """The scheduler does not answer (any more)."""


class NoWorkerError(ConnectionError):
    """There is no worker, or the workers of a task are gone."""


def one_line(error: Exception) -> str:
    """An error's text, shortened to one line."""
    return " ".join(str(error).split())[:150] or type(error).__name__


class Connection:
    """A connection to a scheduler; closed at first.

    Its methods let distributed's exceptions through, which have no common base class.
    """

    def __init__(self, address: str):
        self.address = address
        self._client = self._executor = None

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, as far as known."""
        return self._client is not None

    def open(self) -> None:
        """Connects to the scheduler."""
        from distributed import Client

        # Silenced, because the pool reports the same in one line.
        for name in "distributed", "distributed.client", "tornado.application":
            logging.getLogger(name).handlers[:] = [logging.NullHandler()]
        warnings.filterwarnings("ignore", module=r"distributed\.")
        self._client = Client(
            self.address, timeout=_CONNECT_SECONDS, set_as_default=False
        )
        self._executor = self._client.get_executor(pure=False)

    def close(self) -> None:
        """Disconnects; never fails."""
        client, self._client, self._executor = self._client, None, None
        if client is not None:
            try:
                client.close(timeout=_CLOSE_SECONDS)
            except Exception:
                logging.getLogger(__name__).debug("closing the client", exc_info=True)

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
        executor = self._executor  # Another thread may close the connection.
        if executor is None:
            raise self.lost()
        if not workers:
            raise self.no_worker()
        try:
            return executor.submit(function, *args, workers=sorted(workers))
        except Exception as error:
            raise SchedulerLostError(f"{self.address}: {one_line(error)}") from None
