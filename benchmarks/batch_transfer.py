"""Measures how batches get from a worker to the preprocessor's host, on loopback.

    python3 -m benchmarks.batch_transfer [--batches 40] [--rounds 3]

A worker process sends batches of 256 images in float16 (77 MB of random bytes, which it
has already made) to this process, which receives one at a time. Compared are

    folder         the worker writes the batch's files into a folder in /dev/shm
    dask           what transfer = "network" does, without the write
    dask, written  the same with the write, into /dev/shm
    by scheduler   dask's default, in which results pass through the scheduler
    zmq            pyzmq, PUSH to PULL, without copies
    socket         one TCP connection, sendall to recv_into

Loopback has no network card, so this is the cost of the engines alone. The table has
medians of the rounds: MB/s, the same relative to "folder" in the same round, and CPU
seconds per GB of all processes and of the receiver alone.
"""

import argparse
import contextlib
import functools
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import Position
from resnet50.preprocessing.dask.connection import (
    Connection,
    quiet_distributed,
    why_unreachable,
)
from resnet50.preprocessing.dask.pending_tasks import PendingTasks
from resnet50.preprocessing.dask.transfer import Returned

_SHAPE = 256, 224, 224, 3


class Rate(NamedTuple):
    """The cost of sending some batches."""

    megabytes: float  # per second
    cpu_seconds: float  # of all processes, per GB
    here: float  # of this process, per GB


@functools.cache
def _images() -> np.ndarray:
    """Random images, made once in each process."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**15, _SHAPE, np.uint16).view(np.float16)


def _batch(index: int) -> tuple:
    """The arguments of BatchBuffer.write for a batch."""
    return Position(0, index), _images(), np.zeros(len(_images()), np.int32)


def return_batch(index: int) -> Returned:
    """Returns a batch, on a worker."""
    return Returned(index, [_batch(index)])


def write_batch(folder: Path, index: int) -> Returned:
    """Writes a batch over one of the last four, so that memory does not fill up."""
    BatchBuffer(folder).write(*_batch(index % 4))
    return Returned(index, [])


def _cpu_seconds(processes: list[psutil.Process]) -> np.ndarray:
    """The processor time of each process so far."""
    times = [process.cpu_times() for process in processes]
    return np.array([t.user + t.system for t in times])


def measure(
    processes: list[int], transfer: Callable[[int], None], num_batches: int
) -> Rate:
    """Measures transfer(num_batches) after a short one."""
    watched = [psutil.Process(pid) for pid in (os.getpid(), *processes)]
    transfer(4)
    cpu, started = _cpu_seconds(watched), time.monotonic()
    transfer(num_batches)
    seconds, cpu = time.monotonic() - started, _cpu_seconds(watched) - cpu
    size = num_batches * _images().nbytes
    cpu /= size / 1e9
    return Rate(size / 1e6 / seconds, cpu.sum(), cpu[0])


@contextlib.contextmanager
def _cluster() -> Iterator[tuple[str, list[int]]]:
    """Runs a scheduler and a worker; yields the address and their process ids."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"],
    ]
    with contextlib.ExitStack() as stack:
        processes = []
        for name, *arguments in commands:
            command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *arguments]
            process = stack.enter_context(
                subprocess.Popen(command, stderr=subprocess.DEVNULL)
            )
            stack.callback(process.kill)
            processes.append(process.pid)
        while why_unreachable(address):
            time.sleep(0.1)
        yield address, processes


@contextlib.contextmanager
def dask_transfer(
    address: str, task: Callable, buffer: BatchBuffer | None, direct: bool
) -> Iterator[Callable[[int], None]]:
    """Yields a function that lets a cluster's worker make some batches, as the refill.

    Two tasks are submitted at a time.
    """

    def accept(returned: Returned):
        for position, *batch in returned.batches if buffer else []:
            buffer.write(Position(0, position[1] % 4), *batch)
        return returned.result

    connection = Connection(address, is_direct=direct)
    connection.open()
    pending = PendingTasks(connection, accept)
    while not (workers := frozenset(connection.num_threads())):
        time.sleep(0.1)

    def transfer(num_batches: int) -> None:
        running = set()
        for index in range(num_batches):
            inner = connection.submit_and_keep(workers, task, index)
            running.add(pending.add(inner, workers))
            if len(running) == 2:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                done.pop().result()
        for future in running:
            future.result()

    try:
        yield transfer
    finally:
        pending.fail_all()
        connection.close()


def _send_by_socket(port: int, requests) -> None:
    """Runs in a process: sends as many batches as each request says."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        while num_batches := requests.recv():
            for _ in range(num_batches):
                link.sendall(_images())


def _send_by_zmq(port: int, requests) -> None:
    """Runs in a process: sends as many batches as each request says."""
    import zmq

    with zmq.Context() as context, context.socket(zmq.PUSH) as link:
        link.sndhwm = 1
        link.connect(f"tcp://127.0.0.1:{port}")
        while num_batches := requests.recv():
            for _ in range(num_batches):
                link.send(_images(), copy=False)


@contextlib.contextmanager
def _sender(function: Callable, port: int) -> Iterator[tuple[int, Callable]]:
    """Runs a sender; yields its process id, and a function that requests batches."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=function, args=(port, there)
    )
    process.start()
    try:
        yield process.pid, here.send
    finally:
        here.send(0)
        process.join()


def socket_rate(num_batches: int) -> Rate:
    """One TCP connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        _sender(_send_by_socket, server.getsockname()[1]) as (pid, request),
    ):
        link, _ = server.accept()

        def transfer(number: int) -> None:
            request(number)
            for _ in range(number):
                view = memoryview(np.empty(_images().nbytes, np.uint8))
                while view:
                    view = view[link.recv_into(view) :]

        with link:
            return measure([pid], transfer, num_batches)


def zmq_rate(num_batches: int) -> Rate:
    """PUSH to PULL."""
    import zmq

    with zmq.Context() as context, context.socket(zmq.PULL) as link:
        link.rcvhwm = 1
        port = link.bind_to_random_port("tcp://127.0.0.1")
        with _sender(_send_by_zmq, port) as (pid, request):

            def transfer(number: int) -> None:
                request(number)
                for _ in range(number):
                    assert len(link.recv(copy=False)) == _images().nbytes

            return measure([pid], transfer, num_batches)


def main() -> None:
    """Measures all in turn, and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    # Not this module as __main__, which a worker does not have.
    from benchmarks.batch_transfer import return_batch, write_batch

    quiet_distributed()
    found: dict[str, list[Rate]] = {}
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        _cluster() as (address, processes),
    ):
        buffer = BatchBuffer(Path(folder))
        write = functools.partial(write_batch, buffer.folder)
        by_dask = {
            "folder": (write, None, True),
            "dask": (return_batch, None, True),
            "dask, written": (return_batch, buffer, True),
            "by scheduler": (return_batch, None, False),
        }
        for _ in range(args.rounds):
            for name, (task, target, direct) in by_dask.items():
                with dask_transfer(address, task, target, direct) as transfer:
                    rate = measure(processes, transfer, args.batches)
                found.setdefault(name, []).append(rate)
            with contextlib.suppress(ImportError):
                found.setdefault("zmq", []).append(zmq_rate(args.batches))
            found.setdefault("socket", []).append(socket_rate(args.batches))
    print(f"{'':16}{'MB/s':>8}{'relative':>10}{'CPU s per GB':>14}{'receiver':>10}")
    for name, rates in found.items():
        speeds = [rate.megabytes for rate in rates]
        pairs = zip(speeds, found["folder"])
        relative = [speed / folder.megabytes for speed, folder in pairs]
        columns = speeds, relative, *list(zip(*rates))[1:]
        speed, relative, cpu, here = map(statistics.median, columns)
        print(f"{name:16}{speed:8.0f}{relative:10.2f}{cpu:14.2f}{here:10.2f}")


if __name__ == "__main__":
    main()
