"""Reads ranges of objects behind HTTP or on an object store, with retries.

A server that is away, overloaded or unwilling is tried again, and is a
``StoreAwayError`` in the end: nobody may take its images for missing ones. An object
that is gone or too short is an ``OSError`` at once, like a missing file.
"""

import errno
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from resnet50.errors import UserError
from resnet50.installation import install_command
from resnet50.urls import shown_url, without_secrets

Result = TypeVar("Result")


class Patience(NamedTuple):
    """How long to wait for a server, seconds."""

    connecting: float = 10
    idle: float = 15  # without a byte
    request: float = 30  # in all, and a second more for each 100,000 bytes
    pauses: tuple[float, ...] = (0.5, 1.5, 5, 13)  # before another try

    def seconds_for(self, num_bytes: int) -> float:
        """The time limit of a request."""
        return self.request + num_bytes / 100_000


PATIENCE = Patience()


class StoreAwayError(UserError, OSError):
    """A server does not answer, or not with what it was asked for."""


class FailedTryError(Exception):
    """A request failed such that another try may help; the text is the reason."""


class ObjectInfo(NamedTuple):
    """What a server says about an object."""

    size: int  # bytes
    version: str  # changes with the content; "" if the server gives none


class Store(Protocol):
    """A way to objects. All but FailedTryError and OSError is a failed try, too."""

    def read(self, url: str, start: int, stop: int) -> bytes:
        """Reads bytes ``start`` to ``stop`` of an object, or fewer."""

    def describe(self, url: str) -> ObjectInfo:
        """Asks for the size and the version of an object."""


class _OfThread(threading.local):
    abandoned: threading.Event | None = None


_of_thread = _OfThread()


def abandon_when(event: threading.Event | None) -> None:
    """Lets this thread's requests end early once nobody waits for them any more."""
    _of_thread.abandoned = event


def _pause(seconds: float) -> bool:
    """Waits; returns whether the request is still wanted."""
    if _of_thread.abandoned is None:
        time.sleep(seconds)
        return True
    return not _of_thread.abandoned.wait(seconds)


def with_retries(url: str, request: Callable[[], Result]) -> Result:
    """Returns what a request returns, once it succeeds.

    Raises:
        StoreAwayError: No try has succeeded.
        OSError: The object is gone, or too short.
    """
    started = time.monotonic()
    reason = ""
    for pause in (*PATIENCE.pauses, None):
        try:
            return request()
        except FailedTryError as error:
            reason = str(error)
        if pause is None or not _pause(pause):
            break
    seconds = time.monotonic() - started
    raise StoreAwayError(
        f"{shown_url(url)}: {without_secrets(reason)}; tried for {seconds:.0f} s "
        "(is the server there, and are the credentials valid?)"
    )


def open_store(url: str) -> Store:
    """Returns the way to an object.

    Raises:
        UserError: It needs a package that is missing.
    """
    # Imported here, because local images need neither package.
    if url.startswith(("http://", "https://")):
        try:
            from resnet50.dataset.remote.http_store import HttpStore
        except ImportError:
            raise UserError(
                f"{shown_url(url)}: needs urllib3 ({install_command('objectstore')})"
            ) from None
        return HttpStore()
    from resnet50.dataset.remote.fsspec_store import FsspecStore

    return FsspecStore()


def gone(reason: str = "is not there") -> OSError:
    """The error for an object that is not there."""
    return OSError(errno.ENOENT, reason)


def too_short() -> OSError:
    """The error for an object that ends before a range does."""
    return OSError(errno.ENODATA, "the archive ends before the image does")


def read_range(url: str, start: int, stop: int) -> bytes:
    """Reads bytes ``start`` to ``stop`` of an object, all of them.

    Raises:
        StoreAwayError: The server did not send them.
        OSError: The object is gone, or ends before ``stop``.
    """
    store = open_store(url)

    def request() -> bytes:
        data = store.read(url, start, stop)
        if len(data) != stop - start:
            # Either the answer is cut off, or the object is.
            if store.describe(url).size < stop:
                raise too_short()
            raise FailedTryError(
                f"the answer has {len(data):,} of {stop - start:,} bytes"
            )
        return data

    return with_retries(url, request)


def describe_object(url: str) -> ObjectInfo:
    """Asks for the size and the version of an object.

    Raises:
        StoreAwayError: The server did not answer.
        OSError: The object is gone.
    """
    store = open_store(url)
    return with_retries(url, lambda: store.describe(url))
