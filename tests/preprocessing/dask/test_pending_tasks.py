"""Proves how many results this host has at a time, and that none delays an end.

The futures of dask are doubles, and the test decides when each result is received and
accepted.
"""

import errno
import gc
import threading
import weakref
from concurrent.futures import wait

import pytest

from resnet50.preprocessing.dask import pending_tasks
from resnet50.preprocessing.dask.connection import Connection, SchedulerLostError
from resnet50.preprocessing.dask.pending_tasks import PendingTasks

pytest.importorskip("distributed")

WORKERS = frozenset({"tcp://127.0.0.1:1"})
NUM_TASKS = 8


class FinishedTask:
    """A future of dask whose result waits on its worker."""

    status = "finished"

    def __init__(self, get):
        self._get = get
        self.released = threading.Event()

    def add_done_callback(self, call):
        call(self)

    def result(self):
        return self._get()

    def release(self):
        self.released.set()


class Memory:
    """Counts the results that this host has: received, and not accepted yet."""

    def __init__(self):
        self.changed = threading.Condition()
        self.now = self.most = self.may_accept = 0

    def receive(self):
        with self.changed:
            self.now += 1
            self.most = max(self.most, self.now)
            self.changed.notify_all()
        return "batch"

    def accept(self, result):
        with self.changed:
            assert self.changed.wait_for(lambda: self.may_accept > 0, 60)
            self.may_accept -= 1
            self.now -= 1
        return result

    def wait_until_full(self):
        with self.changed:
            full = pending_tasks._NUM_RECEIVERS
            assert self.changed.wait_for(lambda: self.now == full, 60)

    def allow(self, number):
        with self.changed:
            self.may_accept += number
            self.changed.notify_all()


@pytest.fixture
def connection():
    return Connection("tcp://127.0.0.1:2", is_direct=True)


def test_other_results_stay_with_their_workers(connection):
    """Two are received; the third only when one of them is written."""
    memory = Memory()
    pending = PendingTasks(connection, memory.accept)
    inner = [FinishedTask(memory.receive) for _ in range(NUM_TASKS)]
    outer = [pending.add(task, WORKERS) for task in inner]
    for number in range(NUM_TASKS):
        if number <= NUM_TASKS - pending_tasks._NUM_RECEIVERS:
            memory.wait_until_full()
        assert sum(task.released.is_set() for task in inner) <= number
        assert sum(future.done() for future in outer) <= number
        memory.allow(1)
    assert {future.result(60) for future in outer} == {"batch"}
    pending.fail_all(connection.lost())
    assert memory.most == pending_tasks._NUM_RECEIVERS
    assert len(pending) == 0


def test_a_lost_scheduler_fails_every_task_at_once(connection):
    """Also those that are being received; their results are dropped."""
    memory = Memory()
    pending = PendingTasks(connection, memory.accept)
    outer = [
        pending.add(FinishedTask(memory.receive), WORKERS) for _ in range(NUM_TASKS)
    ]
    memory.wait_until_full()
    pending.fail_all(connection.lost())
    assert not wait(outer, 60).not_done
    for future in outer:
        assert isinstance(future.exception(), SchedulerLostError)
    # A new connection has receivers of its own, which do not wait for the old ones.
    pending = PendingTasks(connection, lambda result: result)
    task = FinishedTask(lambda: "next")
    assert pending.add(task, WORKERS).result(60) == "next"
    memory.allow(NUM_TASKS)
    pending.fail_all(connection.lost())


def test_a_full_disk_is_the_error_of_the_task(connection):
    """The refill makes room for it. The worker need not keep the batch."""

    def accept(result):
        raise OSError(errno.ENOSPC, "No space left on device")

    pending = PendingTasks(connection, accept)
    task = FinishedTask(lambda: "batch")
    error = pending.add(task, WORKERS).exception(60)
    assert error.errno == errno.ENOSPC
    assert task.released.wait(60)
    pending.fail_all(connection.lost())


class Batch:
    """Something large that is received."""


def test_a_batch_that_cannot_be_written_is_forgotten(connection):
    """At once: batches are so few objects that the garbage collector runs too late."""
    received = []

    def receive():
        batch = Batch()
        received.append(weakref.ref(batch))
        return batch

    def accept(batch):
        raise OSError(errno.ENOSPC, "No space left on device")

    pending = PendingTasks(connection, accept)
    gc.disable()
    try:
        task = FinishedTask(receive)
        error = pending.add(task, WORKERS).exception(60)
        assert task.released.wait(60)
        assert received[0]() is None
    finally:
        gc.enable()
    assert error.__traceback__ is not None
    pending.fail_all(connection.lost())


def test_a_connection_that_closes_during_a_transfer_is_a_lost_scheduler(connection):
    """Whatever dask raises then, the refill must be able to go on."""

    def receive():
        raise RuntimeError("loop is closed")

    pending = PendingTasks(connection, lambda result: result)
    future = pending.add(FinishedTask(receive), WORKERS)
    assert isinstance(future.exception(60), SchedulerLostError)
    pending.fail_all(connection.lost())
