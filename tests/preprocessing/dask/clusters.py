"""Starts dask schedulers and workers on loopback, to be killed. No test."""

import contextlib
import random
import socket
import subprocess
from collections.abc import Iterator

from tests.processes import python_process

_SCHEDULER = """if True:
    import asyncio, sys
    from distributed import Scheduler

    async def main():
        address = {"host": "127.0.0.1", "port": int(sys.argv[1])}
        async with Scheduler(**address, dashboard=False) as scheduler:
            print(scheduler.address)
            await scheduler.finished()

    asyncio.run(main())
"""

# Code that runs before a worker connects simulates another host's state.
_WORKER = """if True:
    import asyncio, sys
    from distributed import Worker

    async def main():
        threads = int(sys.argv[2])
        async with Worker(sys.argv[1], nthreads=threads, dashboard=False) as worker:
            print(worker.address)
            await worker.finished()

    exec(sys.argv[3])
    asyncio.run(main())
"""


def free_port() -> int:
    """A port that nobody listens on, below the ports of outgoing connections.

    A client that tries to reach a lost scheduler could otherwise get the port itself.
    """
    for port in random.sample(range(10_000, 30_000), 100):
        with contextlib.suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            return port
    raise AssertionError("no port is free")


def started(process: subprocess.Popen) -> str:
    """Waits for a scheduler's or worker's address."""
    address = process.stdout.readline().strip()
    assert address.startswith("tcp://"), "it has not started"
    return address


@contextlib.contextmanager
def scheduler_process(port: int = 0) -> Iterator[tuple[subprocess.Popen, str]]:
    """Runs a scheduler; yields it and its address."""
    with python_process(_SCHEDULER, port) as process:
        yield process, started(process)


def worker_process(address: str, *, threads: int = 1, before: str = "pass"):
    """Runs a worker with some threads, and code before it connects.

    Returns:
        A context manager of the process; see ``started``.
    """
    return python_process(_WORKER, address, threads, before)
