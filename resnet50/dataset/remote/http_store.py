"""Objects behind HTTP, read by byte ranges (RFC 9110, section 14).

fsspec's own client for HTTP downloads the whole object if a server ignores the range,
and does not check which bytes came. This one stops before the first byte.
"""

import contextlib
import errno
import functools
import os
import re
import time
import urllib.parse
import urllib.request
from typing import Any

import urllib3

from resnet50.dataset.remote import store
from resnet50.dataset.remote.store import FailedTryError, ObjectInfo
from resnet50.errors import short_line

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_PARTIAL, _GONE, _NO_RANGE = 206, (404, 410), 416
_MAX_REDIRECTS = 5
_CHUNK = 2**18

# Connections to a host that are kept open for the next request.
_KEPT_CONNECTIONS = 64


@functools.lru_cache
def _pool(process_id: int, scheme: str, host: str) -> Any:
    """The connections of a process to a host; a fork must not share them."""
    proxy = urllib.request.getproxies().get(scheme)
    sizes: dict[str, Any] = {"maxsize": _KEPT_CONNECTIONS}
    if proxy and not urllib.request.proxy_bypass(host):
        return urllib3.ProxyManager(proxy, **sizes)
    return urllib3.PoolManager(**sizes)


def _reason(error: Exception) -> str:
    """Why a request failed, in a few words."""
    error = getattr(error, "reason", None) or error
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "the host's name is unknown"
    is_refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError) and not is_refused:
        return f"no connection within {store.PATIENCE.connecting:g} s"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return f"no byte within {store.PATIENCE.idle:g} s"
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        return (
            f"its certificate is not trusted: {short_line(why)} (SSL_CERT_FILE names "
            "the file of another authority)"
        )
    # "HTTPConnection(host='...', port=80): Failed to establish ...: [Errno 111] ..."
    return short_line(re.sub(r"^.*?\): |\[Errno \d+\] ", "", text) or repr(error))


def _split(url: str) -> urllib.parse.SplitResult:
    """The parts of a URL; no other try helps if it is malformed."""
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(url)
        if urllib3.util.parse_url(url).host:
            return parts
    raise OSError(
        errno.EINVAL,
        "is no URL (expected https://host/name.tar, a password with its / ? # and @ "
        "as %2F %3F %23 and %40)",
    )


class HttpStore:
    """The way to objects behind HTTP and HTTPS."""

    def _get(self, url: str, start: int, stop: int) -> tuple[bytes, Any]:
        """Requests a range; returns what came of it, and the answer's headers."""
        limit = time.monotonic() + store.PATIENCE.seconds_for(stop - start)
        parts = _split(url)
        headers = {
            "Range": f"bytes={start}-{stop - 1}",
            "Accept-Encoding": "identity",
        }
        if parts.username is not None:
            login = f"{parts.username}:{parts.password or ''}"
            login = urllib.parse.unquote(login)
            headers |= urllib3.make_headers(basic_auth=login)
            netloc = parts.netloc.rpartition("@")[2]
            url = urllib.parse.urlunsplit(parts._replace(netloc=netloc))
        pool = _pool(os.getpid(), parts.scheme, parts.hostname or "")
        answer = pool.request(
            "GET",
            url,
            headers=headers,
            preload_content=False,
            timeout=urllib3.Timeout(
                connect=store.PATIENCE.connecting, read=store.PATIENCE.idle
            ),
            retries=urllib3.Retry(
                connect=0,
                read=0,
                status=0,
                other=0,
                redirect=_MAX_REDIRECTS,
                respect_retry_after_header=False,  # ``with_retries`` waits.
            ),
        )
        is_whole = False
        try:
            self._check(answer, start, stop)
            data = bytearray()
            # An answer that is cut off ends early; the caller checks the length.
            with contextlib.suppress(urllib3.exceptions.ProtocolError):
                while len(data) < stop - start and (chunk := answer.read1(_CHUNK)):
                    data += chunk
                    if time.monotonic() > limit:
                        raise FailedTryError(f"{len(data):,} bytes came, too slowly")
            is_whole = len(data) == int(answer.headers.get("Content-Length", -1))
            return bytes(data[: stop - start]), answer.headers
        finally:
            if is_whole:
                answer.release_conn()
            else:  # More bytes would come.
                answer.close()

    def _check(self, answer: Any, start: int, stop: int) -> None:
        """Raises an error if an answer's body is not the start of a range."""
        if answer.status in _GONE:
            raise store.gone(f"is not there: {answer.status} {answer.reason}")
        if answer.status == _NO_RANGE:
            raise store.too_short()
        if answer.status == 200:
            raise FailedTryError(
                "the server ignores byte ranges and would send the whole archive "
                "(use one that answers 206)"
            )
        if answer.status != _PARTIAL:
            raise FailedTryError(f"{answer.status} {short_line(answer.reason or '')}")
        found = answer.headers.get("Content-Range", "")
        part = _CONTENT_RANGE.fullmatch(found)
        first, last, size = map(int, part.groups()) if part else (-1, -1, -1)
        if first == start and last + 1 == size < stop:
            raise store.too_short()
        if first != start or last != min(stop, size) - 1:
            raise FailedTryError(
                f"asked for bytes {start}-{stop - 1}, the server sends "
                f"{short_line(repr(found))}"
            )

    def read(self, url: str, start: int, stop: int) -> bytes:
        """Reads bytes ``start`` to ``stop`` of an object, or fewer."""
        try:
            return self._get(url, start, stop)[0]
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise FailedTryError(_reason(error)) from None

    def describe(self, url: str) -> ObjectInfo:
        """Asks for the size and the version of an object, and whether ranges work."""
        # No HEAD: a signed URL allows only GET.
        try:
            _, headers = self._get(url, 0, 1)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise FailedTryError(_reason(error)) from None
        size = int(headers["Content-Range"].rpartition("/")[2])
        version = headers.get("ETag") or headers.get("Last-Modified") or ""
        return ObjectInfo(size, version)
