"""Proves that only equal hosts meet, and that the others notice when one is lost.

The hosts are threads here, and addresses are ports of the loopback interface.
"""

import contextlib
import json
import select
import socket
import struct
import threading
import time

import pytest

from resnet50.handoff.cluster import Cluster, split_address
from resnet50.training.devices import meeting
from resnet50.training.devices.introduction import SHARED_FOLDER
from resnet50.training.devices.meeting import MeetingError, meet

SECONDS = 20


def free_addresses(count, host="127.0.0.1"):
    """Addresses with ports that are free now."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sockets = [
            stack.enter_context(socket.create_server((host, 0), family=family))
            for _ in range(count)
        ]
        name = f"[{host}]" if ":" in host else host
        return tuple(f"{name}:{s.getsockname()[1]}" for s in sockets)


def silent(line):
    """Takes a line for the user."""


def meet_all(clusters, descriptions=None, seconds=SECONDS):
    """Lets hosts meet in threads; returns each one's meeting or error line."""
    descriptions = descriptions or [{}] * len(clusters)
    results = [None] * len(clusters)

    def join(place):
        try:
            results[place] = meet(
                clusters[place],
                lambda: descriptions[place],
                seconds=seconds,
                notify=silent,
            )
        except MeetingError as error:
            results[place] = str(error)

    threads = [threading.Thread(target=join, args=(i,)) for i in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def hosts_at(addresses):
    return [Cluster(addresses, index) for index in range(len(addresses))]


def close_all(meetings):
    for each in meetings:
        each.say_bye()
        each.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(meeting, "_POLL_SECONDS", 0.02)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_equal_hosts_meet_and_meet_again(host):
    """At once again, and while other programs listen at the chief's port."""
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    addresses = free_addresses(3, host)
    for description in {"seed": 0, "sizes": (1, 2)}, {"seed": 1}:
        meetings = meet_all(hosts_at(addresses), [description] * 3)
        assert not any(isinstance(each, str) for each in meetings), meetings
        # As TensorFlow does, while the connections are open.
        _, port = split_address(addresses[0])
        with socket.create_server(("", port)):
            assert [each.first_lost(0.1) for each in meetings] == [None] * 3
        close_all(meetings)


def refused(clusters, descriptions=None, seconds=SECONDS):
    """The line that all hosts end with."""
    lines = meet_all(clusters, descriptions, seconds)
    assert all(isinstance(line, str) for line in lines), lines
    assert len(set(lines)) == 1, lines
    assert "\n" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (
            {"TensorFlow": "2.21.0"},
            {"TensorFlow": "2.20.0"},
            ": TensorFlow = 2.20.0, but 2.21.0 for {chief} (must be the same for all "
            "workers)",
        ),
        (
            {"dataset_fingerprint": "1f"},
            {"dataset_fingerprint": "2e"},
            ": dataset_fingerprint = 2e, but 1f for {chief} (must be the same for all "
            "workers)",
        ),
        (
            {SHARED_FOLDER: "7\nhost0"},
            {SHARED_FOLDER: ""},
            ", has another buffer_folder than {chief} (all must share one, or set "
            "[train] local_folders = true)",
        ),
        (
            {"[train] local_folders": True},
            {"[train] local_folders": False, SHARED_FOLDER: ""},
            ": [train] local_folders = False, but True for {chief} (must be the same "
            "for all workers)",
        ),
    ],
)
def test_hosts_that_differ_all_say_in_what(ours, theirs, expected):
    hosts = hosts_at(free_addresses(3))
    line = refused(hosts, [ours, ours, theirs])
    assert line == hosts[0].name(2) + expected.format(chief=hosts[0].name(0))


def test_long_values_are_compared_but_not_shown():
    names = [f"class {index}" for index in range(1000)]
    line = refused(
        hosts_at(free_addresses(2)),
        [{"class_names": names}, {"class_names": [*names[:-1], "other"]}],
    )
    assert 'class_names = ["class 0", "class 1", "class ... (sha256 ' in line
    assert len(line) < 300


def test_hosts_with_other_addresses_are_refused():
    """That is, too, how shares differ that do not add up to a batch."""
    addresses = free_addresses(3)
    line = refused([Cluster(addresses[:2], 0), Cluster(addresses, 1)])
    listed = ", ".join(addresses)
    assert line == (
        f"worker 1: TF_CONFIG names {listed}, but {', '.join(addresses[:2])} on worker "
        f"0, {addresses[0]} (must be the same for all workers)"
    )


def test_an_index_may_come_once():
    addresses = free_addresses(3)
    line = refused([Cluster(addresses, index) for index in (0, 1, 1)])
    assert line == (
        f"worker 1, {addresses[1]}, has come twice (give each host its own index in "
        "TF_CONFIG, and start train.py once on each)"
    )


def test_a_second_chief_cannot_listen():
    addresses = free_addresses(2)
    _, port = split_address(addresses[0])
    with socket.create_server(("", port)):
        line = refused([Cluster(addresses, 0)])
    assert line == (
        f"worker 0, {addresses[0]}: cannot listen at port {port}: Address already in "
        "use (stop the program that does, or choose another port in TF_CONFIG)"
    )


@pytest.mark.parametrize(("index", "missing"), [(0, 1), (1, 0)])
def test_a_host_that_does_not_come_is_named(index, missing):
    cluster = Cluster(free_addresses(2), index)
    line = refused([cluster], seconds=0.3)
    assert line.startswith(f"{cluster.name(missing)}, has not come within 0.3 s")
    assert "(is it started, and can this host reach it? " in line
    assert ("Connection refused" in line) == (index == 1)


def test_a_chief_whose_name_is_unknown_is_named():
    cluster = Cluster(("no.such.host.invalid:4711", "b:1"), 1)
    line = refused([cluster], seconds=0.3)
    assert "worker 0, no.such.host.invalid:4711, has not come within 0.3 s: " in line


def test_who_is_missing_when_others_have_come():
    hosts = hosts_at(free_addresses(3))
    line = refused(hosts[:2], seconds=2)
    assert line.startswith(f"{hosts[0].name(2)}, has not come within 2 s")


def test_another_program_at_the_chiefs_address_is_no_chief():
    addresses = free_addresses(2)
    with socket.create_server(("127.0.0.1", int(addresses[0].split(":")[1]))) as server:
        server.settimeout(SECONDS)

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        line = refused([Cluster(addresses, 1)], seconds=2)
    assert "2 s: the program at this address is no worker of this training" in line


def test_a_connection_that_is_reset_at_once_is_one_line(monkeypatch):
    """Then the system knows no address of the other end any more."""
    addresses = free_addresses(2)
    with socket.create_server(("127.0.0.1", int(addresses[0].split(":")[1]))) as server:
        server.settimeout(SECONDS)
        connect = socket.create_connection

        def connect_and_be_reset(*arguments):
            connection = connect(*arguments)
            accepted, _ = server.accept()
            linger = struct.pack("ii", 1, 0)  # close() sends a reset
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            accepted.close()
            select.select([connection], [], [], SECONDS)
            return connection

        monkeypatch.setattr(meeting.socket, "create_connection", connect_and_be_reset)
        line = refused([Cluster(addresses, 1)], seconds=0.5)
    assert f"{addresses[0]}, has not come within 0.5 s" in line


@pytest.mark.parametrize(
    "garbage",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 1000 + b"\n",
        b"{}\n[1]\n",
        b"x" * 2**18,
        b"[" * 50_000 + b"\n",
        b'{"meeting": "yes"}\n',
        b"",
    ],
)
def test_a_chief_ignores_other_programs(garbage):
    """Neither what they send nor their silence keeps the hosts from meeting."""
    hosts = hosts_at(free_addresses(2))
    with contextlib.ExitStack() as stack:

        def disturb():
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                with contextlib.suppress(ConnectionRefusedError):
                    address = split_address(hosts[0].addresses[0])
                    stranger = stack.enter_context(socket.create_connection(address))
                    with contextlib.suppress(OSError):
                        stranger.sendall(garbage)
                    break
                time.sleep(0.01)
            meetings.extend(meet_all(hosts[1:]))

        meetings = []
        thread = threading.Thread(target=disturb)
        thread.start()
        meetings.extend(meet_all(hosts[:1]))
        thread.join()
    assert not any(isinstance(each, str) for each in meetings), meetings
    close_all(meetings)


@pytest.mark.parametrize(
    "hello",
    [
        {"meeting": 2, "index": 1},
        {"meeting": 1, "index": 1, "addresses": "\x1b[31m" + "x" * 1000},
        {"meeting": 1, "index": "1", "addresses": None},
        {"meeting": 1, "index": 0},
        {"meeting": 1, "index": True},
        {"meeting": 1, "index": 1, "description": [1]},
    ],
)
def test_a_hello_of_another_kind_is_one_line(hello):
    addresses = free_addresses(2)
    lines = []
    chief = threading.Thread(
        target=lambda: lines.extend(meet_all([Cluster(addresses, 0)]))
    )
    chief.start()
    hello = {"addresses": addresses} | hello
    while chief.is_alive():
        with contextlib.suppress(OSError):
            with socket.create_connection(split_address(addresses[0])) as guest:
                guest.sendall(json.dumps(hello).encode() + b"\n")
                guest.settimeout(SECONDS)
                answer = json.loads(guest.makefile("rb").readline())
            break
    chief.join()
    [line] = lines
    assert line.isprintable() and len(line) < 500
    assert answer == {"problem": line}


@pytest.fixture
def three():
    meetings = meet_all(hosts_at(free_addresses(3)))
    yield meetings
    for each in meetings:
        each.close()


@pytest.mark.parametrize("lost", range(3))
def test_a_host_that_ends_without_a_bye_is_lost_to_all(three, lost):
    """A killed process ends so, too; a guest hears it from the chief."""
    three[lost].close()
    others = [each for each in three if each is not three[lost]]
    assert [each.first_lost(SECONDS) for each in others] == [lost] * 2


@pytest.mark.parametrize("first", range(3))
def test_a_host_that_says_bye_is_not_lost(three, first):
    for each in (three[first], *three):
        each.say_bye()
        each.close()
        assert [each.first_lost(0.05) for each in three] == [None] * 3


def test_a_host_that_ends_because_of_another_blames_that_one(three):
    three[2].close()
    assert three[0].first_lost(SECONDS) == 2
    three[0].close()
    assert three[1].first_lost(SECONDS) == 2
