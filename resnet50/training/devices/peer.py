"""A connection to another host: lines of JSON over TCP.

``training.devices.meeting`` has the messages.
"""

import contextlib
import json
import socket
import time
from typing import Any

# A line is some KB long. Other programs, such as port scanners, may send anything.
_MAX_LINE_BYTES = 2**16

_SEND_SECONDS = 5.0

# A host whose network is gone counts as lost after 5 + 2 * 5 seconds.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}
_UNACKNOWLEDGED_MS = 15_000


class Peer:
    """Another host of the training, as its connection."""

    def __init__(self, connection: socket.socket):
        self.socket = connection
        self.index = -1  # the other host's, once it is known
        self.opened_at = time.monotonic()
        self._received = b""
        connection.settimeout(_SEND_SECONDS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            option = socket.TCP_USER_TIMEOUT
            connection.setsockopt(socket.IPPROTO_TCP, option, _UNACKNOWLEDGED_MS)

    def fileno(self) -> int:
        """For a selector."""
        return self.socket.fileno()

    def send(self, **message: Any) -> None:
        """Sends a line; if that fails, the next ``receive`` finds the end."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict]:
        """The lines that have come, after a selector has found some.

        Raises:
            EOFError: The connection has ended, or brings something else.
        """
        try:
            received = self.socket.recv(2**16)
        except OSError:
            received = b""
        *lines, self._received = (self._received + received).split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            raise EOFError from None
        if len(self._received) > _MAX_LINE_BYTES:
            raise EOFError
        if not all(isinstance(message, dict) for message in messages):
            raise EOFError
        if not received:
            raise EOFError
        return messages
