"""A short form of ``python -m tests.slow_network``: its link, without a cluster."""

import subprocess
import sys

import pytest

from tests import slow_network
from tests.settings import PROJECT

PROGRAM = """if True:
    import socket, subprocess, sys, time
    from tests.slow_network import link, received_mb, run

    SEND = (
        "import socket; link = socket.create_connection(('10.0.0.1', 5000)); "
        "link.sendall(bytes(2**21))"
    )
    run("ip", "link", "set", "lo", "up")
    with link() as there, socket.create_server(("10.0.0.1", 5000)) as server:
        sender = subprocess.Popen([*there, sys.executable, "-c", SEND])
        connection, _ = server.accept()
        before, started = received_mb(), time.monotonic()
        while connection.recv(2**20):
            pass
        print(received_mb() - before, time.monotonic() - started)
        sender.wait()
"""


def test_names_are_different():
    names = [row.name for row in slow_network.ROWS]
    assert len(set(names)) == len(names) > 5


@pytest.mark.skipif(bool(slow_network.why_not()), reason=slow_network.why_not())
def test_the_link_is_as_slow_as_the_rows_say():
    command = ["unshare", "--net", "--mount", sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    if "Operation not permitted" in ended.stderr:
        pytest.skip("may not make a network namespace")
    assert ended.returncode == 0, ended.stderr
    megabytes, seconds = map(float, ended.stdout.split())
    # The bucket lets the first 256 kB pass at once.
    assert 1.5 < megabytes < 2.5
    assert (megabytes - 0.5) / seconds < 1.1 * slow_network._LINK_MB
