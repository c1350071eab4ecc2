"""Proves that a stopped scheduler and a silent worker are noticed, and a wrong TLS."""

import socket
import subprocess
import sys

import pytest

from resnet50.preprocessing.dask import connection
from resnet50.preprocessing.dask.connection import (
    Connection,
    Heartbeats,
    missing_certificate,
)

pytest.importorskip("distributed")

import dask


def test_a_worker_is_silent_when_its_last_report_gets_old(monkeypatch):
    """The scheduler's clock may be hours off, and jump."""
    clock = {"now": 50.0}
    monkeypatch.setattr(connection.time, "monotonic", lambda: clock["now"])
    heartbeats = Heartbeats()

    def silent(at, **last_seen):
        clock["now"] = at
        return sorted(heartbeats.silent(last_seen))

    assert silent(50, a=7000, b=7000) == []
    assert silent(79, a=7000, b=7028) == []
    assert silent(80, a=7000, b=7029) == ["a"]
    assert silent(300, a=7000, b=3.5) == ["a"]
    assert silent(301, a=3.5, b=3.5) == []
    assert silent(340, c=1) == []
    assert silent(341, a=3.5, c=2) == []  # came back: counts from now on


def test_a_port_that_never_answers_is_an_error_without_a_traceback():
    """A stopped scheduler does not either. distributed alone would wait forever."""
    program = """if True:
        import sys
        from resnet50.preprocessing.dask import connection
        connection.quiet_distributed()
        connection._CONNECT_SECONDS = 0.3
        try:
            connection.Connection(sys.argv[1], is_direct=True).open()
        except Exception as error:
            print(connection.one_line(error))
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-c", program, address]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=120
        )
    assert "timed out" in ended.stdout.lower()
    assert ended.stderr == ""


def test_a_missing_certificate_is_one_line(tmp_path):
    """The key may be in the certificate's file, and contents may be in line."""
    assert missing_certificate("tcp://127.0.0.1:1") == ""
    here = tmp_path / "here.pem"
    here.touch()
    absent = tmp_path / "absent.pem"
    cases = [
        (None, here, here, "this host has no certificate for tls://"),
        (here, None, here, ""),
        (here, absent, here, f"distributed.comm.tls: {absent} does not exist"),
        (here, here, None, "this host has no certificate for tls://"),
        (here, here, absent, f"distributed.comm.tls: {absent} does not exist"),
        (here, here, here, ""),
        (here, here, "-----BEGIN\nCERTIFICATE-----", ""),
    ]
    for authority, key, certificate, expected in cases:
        tls = {"ca-file": authority, "client.key": key, "client.cert": certificate}
        values = {
            f"distributed.comm.tls.{name}": part and str(part)
            for name, part in tls.items()
        }
        with dask.config.set(values):
            found = missing_certificate("tls://127.0.0.1:1")
        assert found.startswith(expected)
        assert bool(found) == bool(expected)


def test_a_silent_worker_is_named():
    connected = Connection("tcp://127.0.0.1:1", is_direct=True)
    connected.silent = frozenset({"tcp://127.0.0.1:2"})
    assert str(connected.silent_worker()) == (
        "tcp://127.0.0.1:2: the scheduler has not heard from this worker for 30 s (it "
        "gets no work until it reports)"
    )
