"""The connection to a dask scheduler, which may be lost."""

import contextlib
import logging
import socket
import urllib.parse
import warnings
from collections.abc import Callable, Collection
from concurrent.futures import Future
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
    """Silences distributed's loggers; the pool reports the same in one line.

    Raises:
        ImportError: distributed is not installed.
    """
    import distributed  # noqa: F401  # It sets up its loggers, and would do so later.

    for name in "distributed", "distributed.client", "tornado.application":
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
    warnings.filterwarnings("ignore", module=r"distributed\.")


def one_line(error: BaseException) -> str:
    """An error's text, shortened to one line."""
    return " ".join(str(error).split())[:150] or type(error).__name__


def why_unreachable(worker: str) -> str:
    """Why this host cannot connect to a worker's address; "" if it can."""
    address = urllib.parse.urlsplit(worker)
    try:
        where = address.hostname, address.port
        socket.create_connection(where, _CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


class Connection:
    """A connection to a scheduler; closed at first.

    Its methods let distributed's exceptions through, which have no common base class.
    """

    def __init__(self, address: str, *, is_direct: bool):
        """Prepares; with ``is_direct``, results do not pass through the scheduler."""
        self.address = address
        self._is_direct = is_direct
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
            self.address,
            timeout=_CONNECT_SECONDS,
            set_as_default=False,
            direct_to_workers=self._is_direct,
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
        return self._submit(self._executor, workers, function, *args)

    def submit_and_keep(
        self, workers: Collection[str], function: Callable, *args
    ) -> Any:
        """Like ``submit``, but the result stays with the worker.

        Returns:
            A future of dask. Its ``result()`` gets the result from the worker.
        """
        return self._submit(self._client, workers, function, *args, pure=False)

    def _submit(self, submitter: Any, workers: Collection[str], *args, **options):
        if submitter is None:
            raise self.lost()
        if not workers:
            raise self.no_worker()
        try:
            return submitter.submit(*args, workers=sorted(workers), **options)
        except Exception as error:
            raise SchedulerLostError(f"{self.address}: {one_line(error)}") from None
