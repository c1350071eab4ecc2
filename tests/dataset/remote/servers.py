"""An HTTP server of files that can misbehave, and short waits for it. No test."""

import contextlib
import functools
import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from resnet50.dataset.remote.store import Patience

# Long enough for a busy machine.
IMPATIENT = Patience(connecting=5, idle=10, request=20, pauses=(0.01, 0.02, 0.05))


class FileServer:
    """What the server has, what it does wrong, and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.url = ""
        self.requests: list[tuple[str, int, int]] = []  # path, first, last byte
        self.num_connections = 0
        self.num_sent = 0  # bytes of bodies
        self.latency = 0.0  # seconds before each answer
        self.bytes_per_second = 0  # of all connections together; 0: no limit
        # What the next answers are instead; the last one stays if it is in `always`.
        self.faults: list[str] = []
        self.always = ""
        self._lock = threading.Lock()
        self._free_at = 0.0

    def fault(self) -> str:
        with self._lock:
            return self.faults.pop(0) if self.faults else self.always

    def wait_for_bandwidth(self, num_bytes: int) -> None:
        if not self.bytes_per_second:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + num_bytes / self.bytes_per_second
            wait = self._free_at - now
        time.sleep(wait)


@functools.lru_cache(maxsize=1000)
def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:8]}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def setup(self) -> None:
        super().setup()
        self.server.state.num_connections += 1

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        state = self.server.state
        path = self.path.partition("?")[0].removeprefix("/")
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        start, stop = int(first), int(last) + 1
        state.requests.append((path, start, stop - 1))
        time.sleep(state.latency)
        fault = state.fault()
        if path.startswith("moved/"):
            self._answer(302, b"", Location=f"/{path.removeprefix('moved/')}")
        elif fault.isdigit():
            self._answer(int(fault), b"no", **{"Retry-After": "1"})
        elif fault == "silent":
            time.sleep(1)
        elif path not in state.files:
            self._answer(404, b"no")
        elif fault == "hang up":
            self.close_connection = True
        else:
            self._send_range(state.files[path], start, stop, fault)

    def _send_range(self, content: bytes, start: int, stop: int, fault: str) -> None:
        stop = min(stop, len(content))
        if start >= len(content):
            self._answer(416, b"")
            return
        body = content[start:stop]
        shown = f"bytes {start}-{stop - 1}/{len(content)}"
        headers = {"ETag": _tag(content)}
        if fault == "whole":
            self._answer(200, content, **headers)
            return
        if fault == "other range":
            shown = f"bytes 0-{stop - start - 1}/{len(content)}"
        if fault == "no range":
            shown = "items 0-1"
        if fault == "garbage":
            body = b"<html>" + bytes(len(body) - 6) if len(body) > 6 else body
        self._answer(206, body, fault, **headers, **{"Content-Range": shown})

    def _answer(self, status: int, body: bytes, fault: str = "", **headers) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "cut":
            body, self.close_connection = body[: len(body) // 2], True
        size = 1 if fault == "drip" else 2**16
        # The client closes the connection when it has had enough.
        with contextlib.suppress(OSError):
            for start in range(0, len(body), size):
                part = body[start : start + size]
                self.server.state.wait_for_bandwidth(len(part))
                self.wfile.write(part)
                self.server.state.num_sent += len(part)
                if fault == "drip":
                    time.sleep(0.05)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    state: FileServer

    def handle_error(self, *args) -> None:
        pass


@contextlib.contextmanager
def file_server() -> Iterator[FileServer]:
    """Yields a server on a free port of this machine."""
    state = FileServer()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.state = state
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
