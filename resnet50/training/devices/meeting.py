"""The hosts that train together meet: they compare settings, and notice a lost one.

The first host of TF_CONFIG, the chief, listens at its address, and the others connect
to it. Messages are lines of JSON. Each guest sends one when it has connected:

    meeting       the version of this protocol
    index         its place among the workers
    addresses     of all workers
    description   by name, what must be equal on all hosts

When all are there, or the time is over, the chief compares, and sends its verdict to
everyone: {"problem": null} or a line that says what is wrong. This happens before
TensorFlow connects the hosts, as TensorFlow would wait without a message. Then the
chief stops listening, because TensorFlow listens at the same address.

The connections remain until the end. A connection that breaks means that its host is
lost; a host that ends as it should says {"bye": true} first. The chief tells the others
who is lost, {"lost": 2}, as they are connected only to it.
"""

import contextlib
import hashlib
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from resnet50.errors import UserError, printable_line
from resnet50.handoff.cluster import VARIABLE, Cluster, split_address

# The name in a description for what identifies the shared buffer folder.
SHARED_FOLDER = "buffer_folder"

_VERSION = 1

# A line is some KB long. Other programs, such as port scanners, may send anything.
_MAX_LINE_BYTES = 2**16
_MAX_STRANGERS = 64
_MAX_STRANGER_SECONDS = 10.0

_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 5.0
_SEND_SECONDS = 5.0

# A host whose network is gone counts as lost after 5 + 2 * 5 seconds.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}
_UNACKNOWLEDGED_MS = 15_000

# Longer values, such as the names of a thousand classes, are compared by a checksum.
_MAX_VALUE = 200


class MeetingError(UserError):
    """The hosts cannot train together."""


class LostHostError(UserError):
    """Another host of this training has ended or cannot be reached."""


class _Line:
    """A connection to another host, which sends and receives lines of JSON."""

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


class Meeting:
    """The connections of a host to the others; see ``meet``."""

    def __init__(self, cluster: Cluster, lines: list[_Line]):
        self.cluster = cluster
        self._lines = lines
        self._lost: int | None = None
        self._is_over = threading.Event()
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def first_lost(self, seconds: float = 0.0) -> int | None:
        """The index of the first host that was lost, or None; waits for it so long."""
        self._changed.wait(seconds)
        return self._lost

    def say_bye(self) -> None:
        """Says that the end of this host, from now on, is no loss."""
        for line in self._lines:
            line.send(bye=True)

    def close(self) -> None:
        """Ends the connections; without a bye, this host is lost to the others."""
        self._is_over.set()
        self._thread.join()
        for line in self._lines:
            line.socket.close()

    def _watch(self) -> None:
        """Runs in the thread."""
        with selectors.DefaultSelector() as selector:
            for line in self._lines:
                selector.register(line, selectors.EVENT_READ)
            while not self._is_over.is_set():
                # Without connections it would not wait.
                for key, _ in selector.select(_POLL_SECONDS):
                    if not self._hear(key.fileobj):
                        selector.unregister(key.fileobj)
                if not selector.get_map():
                    self._is_over.wait()

    def _hear(self, line: Any) -> bool:
        """Takes what a host says; returns False after its end."""
        try:
            messages = line.receive()
        except EOFError:
            self._note_lost(line.index)
            return False
        for message in messages:
            if message.get("bye"):
                return False
            lost = message.get("lost")
            if type(lost) is int and 0 <= lost < len(self.cluster.addresses):
                self._note_lost(lost)
        return True

    def _note_lost(self, index: int) -> None:
        if self._lost is None and index != self.cluster.index:
            self._lost = index
            self._changed.set()
            for line in self._lines:  # The chief, too, if a guest knows it first.
                line.send(lost=index)


def meet(
    cluster: Cluster,
    describe: Callable[[], dict],
    *,
    seconds: float,
    notify: Callable[[str], None],
) -> Meeting:
    """Waits until all hosts are there, and compares what they are going to train.

    Args:
        cluster: The hosts.
        describe: Returns JSON values, by name, that must be equal on all hosts. It is
            called when this host is connected to the chief.
        seconds: How long to wait for the others.
        notify: Takes a line for the user.

    Raises:
        MeetingError: A host has not come, or differs.
    """
    notify(
        f"worker {cluster.index} of {len(cluster.addresses)}: waiting for the others "
        f"at {cluster.addresses[0]}"
    )
    deadline = time.monotonic() + seconds
    if cluster.is_chief:
        return Meeting(cluster, _Chief(cluster, describe, seconds).gather(deadline))
    return Meeting(cluster, [_join(cluster, describe, deadline, seconds)])


def _hello(cluster: Cluster, describe: Callable[[], dict]) -> dict:
    return {
        "meeting": _VERSION,
        "index": cluster.index,
        "addresses": cluster.addresses,
        "description": {name: _shortened(value) for name, value in describe().items()},
    }


def _shortened(value: Any) -> Any:
    text = json.dumps(value)
    if len(text) <= _MAX_VALUE:
        return value
    return f"{text[:30]}... (sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def _not_come(cluster: Cluster, index: int, seconds: float, why: str = "") -> str:
    return (
        f"{cluster.name(index)}, has not come within {seconds:g} s{why} (is it "
        "started, and can this host reach it? its own terminal may say why it ended)"
    )


def _join(
    cluster: Cluster, describe: Callable[[], dict], deadline: float, seconds: float
) -> _Line:
    """Connects to the chief; returns the connection when the chief agrees."""
    why = ""
    while time.monotonic() < deadline:
        try:
            address = split_address(cluster.addresses[0])
            connection = socket.create_connection(address, _CONNECT_SECONDS)
            # If nobody listens at a port of this machine, the system may choose the
            # port for the connection, which then leads to itself.
            is_own = connection.getsockname() == connection.getpeername()
        except (OSError, UnicodeError) as error:
            why = f": {getattr(error, 'strerror', None) or error}"
        else:
            if is_own:
                connection.close()
                continue
            line = _Line(connection)
            line.index = 0
            line.send(**_hello(cluster, describe))
            # The chief may have begun to wait just now. A guest that gave up before it
            # would be the one that the chief names.
            verdict = _hear_verdict(
                line, time.monotonic() + seconds + _SEND_SECONDS, seconds
            )
            if verdict is not None and verdict["problem"] is None:
                return line
            connection.close()
            if verdict is not None:
                raise MeetingError(printable_line(str(verdict["problem"])))
            why = ": the program at this address is no worker of this training"
        time.sleep(_POLL_SECONDS)
    raise MeetingError(_not_come(cluster, 0, seconds, why))


def _hear_verdict(line: _Line, deadline: float, seconds: float) -> dict | None:
    """Waits for the chief's verdict; None if the connection ends before."""
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if selector.select(_POLL_SECONDS):
                try:
                    messages = line.receive()
                except EOFError:
                    return None
                for message in messages:
                    if "problem" in message:
                        return message
    line.socket.close()
    raise MeetingError(
        f"the workers have not all come within {seconds:g} s (is each of them started?)"
    )


class _Chief:
    """Receives the guests, and compares what they bring."""

    def __init__(self, cluster: Cluster, describe: Callable[[], dict], seconds: float):
        self._cluster = cluster
        self._hello = json.loads(json.dumps(_hello(cluster, describe)))
        self._seconds = seconds
        self._strangers: list[_Line] = []  # have not said who they are
        self._guests: dict[int, tuple[_Line, Any]] = {}  # by index

    def gather(self, deadline: float) -> list[_Line]:
        """Waits for all guests; returns their connections."""
        problem: str | None = None
        with (
            _listening(self._cluster) as listener,
            selectors.DefaultSelector() as selector,
        ):
            selector.register(listener, selectors.EVENT_READ)
            while self._missing() and problem is None and time.monotonic() < deadline:
                for key, _ in selector.select(_POLL_SECONDS):
                    if key.fileobj is listener:
                        self._welcome(listener, selector)
                    else:
                        problem = problem or self._hear(key.fileobj, selector)
                self._dismiss_strangers(selector)
        # After the listener's end: a guest that has heard the verdict goes on.
        problem = problem or self._differing()
        if problem is None and self._missing():
            problem = _not_come(self._cluster, self._missing()[0], self._seconds)
        lines = [line for line, _ in self._guests.values()]
        for line in lines:
            line.send(problem=problem)
        for line in self._strangers if problem is None else self._strangers + lines:
            line.socket.close()
        if problem is not None:
            raise MeetingError(problem)
        return lines

    def _missing(self) -> list[int]:
        guests = range(1, len(self._cluster.addresses))
        return [index for index in guests if index not in self._guests]

    def _welcome(
        self, listener: socket.socket, selector: selectors.BaseSelector
    ) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            if len(self._strangers) >= _MAX_STRANGERS:
                connection.close()
                return
            line = _Line(connection)
            self._strangers.append(line)
            selector.register(line, selectors.EVENT_READ)

    def _hear(self, line: Any, selector: selectors.BaseSelector) -> str | None:
        """Takes what a connection brings; returns what keeps the hosts apart."""
        try:
            messages = line.receive()
        except EOFError:
            selector.unregister(line)
            line.socket.close()
            self._strangers = [other for other in self._strangers if other is not line]
            guest = self._guests.get(line.index)
            if guest is not None and guest[0] is line:
                del self._guests[line.index]  # It may come again.
            return None
        for hello in messages[:1] if line in self._strangers else []:
            if not isinstance(hello.get("meeting"), int):
                continue
            self._strangers.remove(line)
            problem = self._seat(line, hello)
            if problem is not None:
                line.send(problem=problem)
                return problem
        return None

    def _seat(self, line: _Line, hello: dict) -> str | None:
        """Notes a guest; returns what is wrong with its place."""
        cluster, index = self._cluster, hello.get("index")
        if hello["meeting"] != _VERSION:
            return (
                f"worker {index} has another version of this project than "
                f"{cluster.name(0)} (install the same everywhere)"
            )
        addresses = hello.get("addresses")
        if addresses != list(cluster.addresses):
            return (
                f"worker {index}: {VARIABLE} names {_listed(addresses)}, but "
                f"{_listed(cluster.addresses)} on {cluster.name(0)} (must be the same "
                "for all workers)"
            )
        if type(index) is not int or not 0 < index < len(addresses):
            return (
                f"{VARIABLE}: index {index!r} came to {cluster.name(0)} (each worker "
                f"must have its own, 0 to {len(addresses) - 1})"
            )
        if index in self._guests:
            return (
                f"{cluster.name(index)}, has come twice (give each host its own index "
                f"in {VARIABLE}, and start train.py once on each)"
            )
        line.index = index
        self._guests[index] = line, hello.get("description")
        return None

    def _differing(self) -> str | None:
        """In what the first guest differs from this host, or None."""
        cluster, ours = self._cluster, self._hello["description"]
        for index, (_, theirs) in sorted(self._guests.items()):
            if not isinstance(theirs, dict):
                return f"{cluster.name(index)}, has sent no description"
            is_shared = SHARED_FOLDER in ours and SHARED_FOLDER in theirs
            if is_shared and theirs[SHARED_FOLDER] != ours[SHARED_FOLDER]:
                return (
                    f"{cluster.name(index)}, has another buffer_folder than "
                    f"{cluster.name(0)} (all must share one, or set [train] "
                    "local_folders = true)"
                )
            for key in ours | theirs:
                if ours.get(key) != theirs.get(key):
                    return printable_line(
                        f"{cluster.name(index)}: {key} = {theirs.get(key)}, but "
                        f"{ours.get(key)} for {cluster.name(0)} (must be the same for "
                        "all workers)"
                    )
        return None

    def _dismiss_strangers(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        for line in list(self._strangers):
            if now > line.opened_at + _MAX_STRANGER_SECONDS:
                self._strangers.remove(line)
                selector.unregister(line)
                line.socket.close()


def _listed(addresses: Any) -> str:
    """Addresses for a message; they may be anything."""
    if isinstance(addresses, list | tuple):
        addresses = ", ".join(map(str, addresses)) or "nobody"
    return printable_line(str(addresses)[:_MAX_VALUE])


@contextlib.contextmanager
def _listening(cluster: Cluster) -> Iterator[socket.socket]:
    """Listens at this host's port, on all interfaces, as TensorFlow does."""
    _, port = split_address(cluster.addresses[cluster.index])
    # create_server sets SO_REUSEADDR, and the accepted connections inherit it. So
    # TensorFlow can listen at the port while they are open.
    options: dict[str, Any] = {}
    if socket.has_dualstack_ipv6():
        options = {"family": socket.AF_INET6, "dualstack_ipv6": True}
    try:
        listener = socket.create_server(("", port), backlog=_MAX_STRANGERS, **options)
    except OSError as error:
        raise MeetingError(
            f"{cluster.name(cluster.index)}: cannot listen at port {port}: "
            f"{os.strerror(error.errno or 0)} (stop the program that does, or choose "
            f"another port in {VARIABLE})"
        ) from None
    with listener:
        listener.settimeout(0)
        yield listener
