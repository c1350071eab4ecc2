"""The connection to a dask scheduler, which may be lost."""

import contextlib
import functools
import logging
import socket
import time
import urllib.parse
import warnings
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

_CONNECT_SECONDS = 5.0
# A scheduler that has not answered for this long is lost.
_ANSWER_SECONDS = 20.0
_CLOSE_SECONDS = 2.0
# A worker that the scheduler has not heard from for this long is taken for lost. A
# worker reports every 0.5 s, in a large cluster every few seconds.
_SILENT_SECONDS = 30.0


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


def why_unreachable(address: str) -> str:
    """Why this host cannot connect to a worker or a scheduler; "" if it can."""
    parts = urllib.parse.urlsplit(address)
    try:
        where = parts.hostname, parts.port
        socket.create_connection(where, _CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def missing_certificate(address: str) -> str:
    """Why this host cannot use a tls:// address; "" if it can."""
    from distributed.security import Security

    if not address.startswith("tls:"):
        return ""
    security: Any = Security()
    authority, certificate = security.tls_ca_file, security.tls_client_cert
    if not (authority and certificate):
        return (
            "this host has no certificate for tls:// (set ca-file and client of "
            "distributed.comm.tls in ~/.config/dask/distributed.yaml)"
        )
    # The file of the certificate may also have the key.
    for part in authority, certificate, security.tls_client_key or certificate:
        if "\n" not in part and not Path(part).is_file():  # Else it is the content.
            return f"distributed.comm.tls: {part} does not exist"
    return ""


@functools.cache
def _prompt_client() -> type:
    """A Client of distributed whose constructor ends if nobody answers.

    distributed's own waits forever for a scheduler that is stopped, or for another
    program on its port, and some of its errors leave a traceback at the program's end.
    """
    from distributed import Client

    class PromptClient(Client):
        def start(self, **options) -> None:
            """Starts, or closes itself and raises."""
            try:
                super().start(callback_timeout=2 * _CONNECT_SECONDS, **options)
            except BaseException:
                with contextlib.suppress(Exception):
                    self.close(timeout=_CLOSE_SECONDS)
                raise

    return PromptClient


class Heartbeats:
    """Notices workers that the scheduler does not hear from."""

    def __init__(self) -> None:
        # By worker: the scheduler's time of its last report, and since when it is that.
        self._reports: dict[str, tuple[float, float]] = {}

    def silent(self, last_seen: Mapping[str, float]) -> frozenset[str]:
        """Takes each worker's last report; returns the workers that are silent.

        The time is only compared with an earlier one: the scheduler's clock may differ.
        """
        now = time.monotonic()
        before = self._reports
        self._reports = {
            worker: before[worker]
            if worker in before and before[worker][0] == seen
            else (seen, now)
            for worker, seen in last_seen.items()
        }
        return frozenset(
            worker
            for worker, (_, since) in self._reports.items()
            if now - since >= _SILENT_SECONDS
        )


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
        self._heartbeats = Heartbeats()
        self.silent: frozenset[str] = frozenset()  # workers, at the last poll

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, as far as known."""
        return self._client is not None

    def open(self) -> None:
        """Connects to the scheduler."""
        self._client = _prompt_client()(
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

    def silent_worker(self) -> NoWorkerError:
        """An error that names the workers that are silent."""
        return NoWorkerError(
            f"{', '.join(sorted(self.silent))}: the scheduler has not heard from this "
            f"worker for {_SILENT_SECONDS:g} s (it gets no work until it reports)"
        )

    def num_threads(self) -> dict[str, int]:
        """Asks the scheduler for workers that report: number of threads by address."""
        if self._client.status != "running":
            raise ConnectionError("connection closed")
        identity = self._client.scheduler.identity
        cluster = self._client.sync(identity, callback_timeout=_ANSWER_SECONDS)
        found = cluster["workers"]
        self.silent = self._heartbeats.silent(
            {address: worker["last_seen"] for address, worker in found.items()}
        )
        return {
            address: worker["nthreads"]
            for address, worker in found.items()
            if address not in self.silent
        }

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
