"""The hosts that train together meet: they compare settings, and notice a lost one.

The first host of TF_CONFIG, the chief, listens at its address, and the others connect
to it. Messages are lines of JSON. Each guest first sends its introduction
(``training.devices.introduction``). When all are there, or the time is over, the chief
compares, and sends its verdict to everyone: {"problem": null} or a line that says why
they cannot train. This happens before TensorFlow connects the hosts, as TensorFlow
would wait without a message. Then the chief stops listening, because TensorFlow listens
at the same address.

The connections remain until the end. A connection that breaks means that its host is
lost; a host that ends as it should says {"bye": true} first. The chief tells the others
who is lost, {"lost": 2}, as they are connected only to it.
"""

import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from resnet50.errors import UserError, printable_line
from resnet50.handoff.cluster import VARIABLE, Cluster, split_address
from resnet50.training.devices.introduction import (
    find_difference,
    find_wrong_place,
    introduce,
    is_introduction,
)
from resnet50.training.devices.peer import Peer

_MAX_STRANGERS = 64
_MAX_STRANGER_SECONDS = 10.0

_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 5.0
_VERDICT_SECONDS = 5.0  # for the chief, after its time is over


class MeetingError(UserError):
    """The hosts cannot train together."""


class LostHostError(UserError):
    """Another host of this training has ended or cannot be reached."""


class Meeting:
    """The connections of a host to the others; see ``meet``."""

    def __init__(self, cluster: Cluster, peers: list[Peer]):
        self.cluster = cluster
        self._peers = peers
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
        for peer in self._peers:
            peer.send(bye=True)

    def close(self) -> None:
        """Ends the connections; without a bye, this host is lost to the others."""
        self._is_over.set()
        self._thread.join()
        for peer in self._peers:
            peer.socket.close()

    def _watch(self) -> None:
        """Runs in the thread."""
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                selector.register(peer, selectors.EVENT_READ)
            while not self._is_over.is_set():
                # Without connections it would not wait.
                for key, _ in selector.select(_POLL_SECONDS):
                    if not self._hear(key.fileobj):
                        selector.unregister(key.fileobj)
                if not selector.get_map():
                    self._is_over.wait()

    def _hear(self, peer: Any) -> bool:
        """Takes what a host says; returns False after its end."""
        try:
            messages = peer.receive()
        except EOFError:
            self._note_lost(peer.index)
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
            for peer in self._peers:  # The chief, too, if a guest knows it first.
                peer.send(lost=index)


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


def _not_come(cluster: Cluster, index: int, seconds: float, why: str = "") -> str:
    return (
        f"{cluster.name(index)}, has not come within {seconds:g} s{why} (is it "
        "started, and can this host reach it? its own terminal may say why it ended)"
    )


def _join(
    cluster: Cluster, describe: Callable[[], dict], deadline: float, seconds: float
) -> Peer:
    """Connects to the chief; returns the connection when the chief agrees."""
    why = ""
    while time.monotonic() < deadline:
        try:
            peer = _connect(cluster)
        except (OSError, UnicodeError) as error:
            why = f": {getattr(error, 'strerror', None) or error}"
        else:
            peer.send(**introduce(cluster, describe()))
            verdict = _hear_verdict(peer, seconds)
            if verdict is not None and verdict["problem"] is None:
                return peer
            peer.socket.close()
            if verdict is not None:
                raise MeetingError(printable_line(str(verdict["problem"])))
            why = ": the program at this address is no worker of this training"
        time.sleep(_POLL_SECONDS)
    raise MeetingError(_not_come(cluster, 0, seconds, why))


def _connect(cluster: Cluster) -> Peer:
    """Connects to the chief; raises OSError or UnicodeError if that fails."""
    address = split_address(cluster.addresses[0])
    connection = socket.create_connection(address, _CONNECT_SECONDS)
    try:
        if connection.getsockname() == connection.getpeername():
            # Nobody listens at this port of the same machine, and the system chose it
            # for the connection.
            raise ConnectionRefusedError(os.strerror(errno.ECONNREFUSED))
        peer = Peer(connection)
    except OSError:  # Such as a connection that was reset at once.
        connection.close()
        raise
    peer.index = 0
    return peer


def _hear_verdict(peer: Peer, seconds: float) -> dict | None:
    """Waits for the chief's verdict; None if the connection ends before.

    The chief already waits, and not longer than ``seconds``. A guest that left before
    its verdict would be the one that is missing.
    """
    deadline = time.monotonic() + seconds + _VERDICT_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(peer, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if selector.select(_POLL_SECONDS):
                try:
                    messages = peer.receive()
                except EOFError:
                    return None
                for message in messages:
                    if "problem" in message:
                        return message
    peer.socket.close()
    raise MeetingError(
        f"the workers have not all come within {seconds:g} s (is each of them started?)"
    )


class _Chief:
    """Receives the guests, and compares what they bring."""

    def __init__(self, cluster: Cluster, describe: Callable[[], dict], seconds: float):
        self._cluster = cluster
        self._description = introduce(cluster, describe())["description"]
        self._seconds = seconds
        self._strangers: list[Peer] = []  # have not said who they are
        self._guests: dict[int, tuple[Peer, Any]] = {}  # by index

    def gather(self, deadline: float) -> list[Peer]:
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
        problem = problem or self._find_difference()
        if problem is None and self._missing():
            problem = _not_come(self._cluster, self._missing()[0], self._seconds)
        peers = [peer for peer, _ in self._guests.values()]
        for peer in peers:
            peer.send(problem=problem)
        for peer in self._strangers if problem is None else self._strangers + peers:
            peer.socket.close()
        if problem is not None:
            raise MeetingError(problem)
        return peers

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
            peer = Peer(connection)
            self._strangers.append(peer)
            selector.register(peer, selectors.EVENT_READ)

    def _hear(self, peer: Any, selector: selectors.BaseSelector) -> str | None:
        """Takes what a connection brings; returns what keeps the hosts apart."""
        try:
            messages = peer.receive()
        except EOFError:
            selector.unregister(peer)
            peer.socket.close()
            self._strangers = [other for other in self._strangers if other is not peer]
            guest = self._guests.get(peer.index)
            if guest is not None and guest[0] is peer:
                del self._guests[peer.index]  # It may come again.
            return None
        for message in messages[:1] if peer in self._strangers else []:
            if is_introduction(message):
                self._strangers.remove(peer)
                return self._seat(peer, message)
        return None

    def _seat(self, peer: Peer, introduction: dict) -> str | None:
        """Notes a guest; returns what is wrong with its place."""
        cluster = self._cluster
        problem = find_wrong_place(cluster, introduction)
        if problem is None and (index := introduction["index"]) in self._guests:
            problem = (
                f"{cluster.name(index)}, has come twice (give each host its own index "
                f"in {VARIABLE}, and start train.py once on each)"
            )
        if problem is None:
            peer.index = index
            self._guests[index] = peer, introduction.get("description")
        else:
            peer.send(problem=problem)
        return problem

    def _find_difference(self) -> str | None:
        """In what the first guest differs from this host, or None."""
        for index, (_, theirs) in sorted(self._guests.items()):
            problem = find_difference(self._cluster, self._description, index, theirs)
            if problem is not None:
                return problem
        return None

    def _dismiss_strangers(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        for peer in list(self._strangers):
            if now > peer.opened_at + _MAX_STRANGER_SECONDS:
                self._strangers.remove(peer)
                selector.unregister(peer)
                peer.socket.close()


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
