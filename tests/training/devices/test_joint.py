"""Proves that hosts end and save together, and that none waits for a lost one.

They also agree on which of them the others wait for.
"""

import threading
import types

import numpy as np
import pytest
import tensorflow as tf

from resnet50.errors import UserError
from resnet50.handoff.cluster import Cluster
from resnet50.training.devices import hosts
from resnet50.training.devices.hosts import JointReader, lost_hosts_reported
from resnet50.training.devices.meeting import LostHostError

UNAVAILABLE = tf.errors.UnavailableError(None, None, "connection reset")
INTERNAL = tf.errors.InternalError(None, None, "out of memory")


class FakeMeeting:
    """Stands in for a Meeting: who is lost is set by the test."""

    def __init__(self, index=0, count=2):
        self.cluster = Cluster(tuple(f"host{i}:4711" for i in range(count)), index)
        self.lost = None
        self.said = []

    def first_lost(self, seconds=0.0):
        if self.lost is None:
            threading.Event().wait(min(seconds, 0.02))
        return self.lost

    def say_bye(self):
        self.said.append("bye")

    def close(self):
        self.said.append("closed")


class FakeDevices:
    """Stands in for HostDevices: sums over several threads."""

    def __init__(self, count):
        self._barrier = threading.Barrier(count)
        self._vectors = []
        self.rounds = 0

    def sum_over_hosts(self, numbers):
        self._vectors.append(np.array(numbers, np.float32))
        self._barrier.wait(20)
        result = np.sum(self._vectors, axis=0)
        if self._barrier.wait(20) == 0:
            self.rounds += 1
            self._vectors.clear()
        self._barrier.wait(20)
        return result


def read_together(*readers, is_save_due=lambda: False):
    """Reads iterators in one thread each.

    Returns:
        The items of each, its error, its JointReader, after how many items it saved;
        and the number of sums.
    """
    count = len(readers)
    devices = FakeDevices(count)
    joint = [
        JointReader(readers[i], devices, FakeMeeting(i, count), is_save_due)
        for i in range(count)
    ]
    found, errors = [[] for _ in readers], [None] * count
    saves = [[] for _ in readers]

    def read(index):
        try:
            for item in joint[index]:
                found[index].append(item)
                if joint[index].is_save_due:
                    saves[index].append(len(found[index]))
        except UserError as error:
            errors[index] = str(error)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return types.SimpleNamespace(
        items=found, errors=errors, readers=joint, saves=saves, rounds=devices.rounds
    )


def failing(num_batches):
    yield from range(num_batches)
    raise UserError("the disk is gone")


def test_all_get_all_batches_and_leave_together():
    """They exchange once more at the end, and then may end in any order."""
    together = read_together(iter(range(5)), iter(range(5)))
    assert together.items == [list(range(5))] * 2
    assert together.errors == [None, None]
    assert together.rounds == 6
    assert [r._meeting.said for r in together.readers] == [["bye"]] * 2


def test_the_first_to_stop_stops_all():
    together = read_together(iter(range(5)), iter(range(2)), iter(range(9)))
    assert together.items == [[0, 1]] * 3
    assert together.errors == [None] * 3


def test_an_error_of_one_stops_all_in_order():
    together = read_together(iter(range(5)), failing(2))
    assert together.items == [[0, 1]] * 2
    assert together.errors == [None, "the disk is gone"]


def test_all_save_after_the_same_step_when_the_chief_wants_to():
    """The clocks of the others play no part."""

    def is_save_due():

        due.append(None)
        return len(due) in (2, 5)

    due = []
    together = read_together(
        *(iter(range(6)) for _ in range(3)), is_save_due=is_save_due
    )
    assert together.saves == [[2, 5]] * 3
    assert len(due) == 7  # Only the chief was asked.


def test_the_longest_wait_counts_for_all(monkeypatch):
    """Each host sees the same seconds, and whose they were."""
    now = threading.local()

    def monotonic():
        return getattr(now, "seconds", 0.0)

    def slow(*seconds):
        for wait in seconds:
            now.seconds = monotonic() + wait
            yield wait

    monkeypatch.setattr(hosts, "time", types.SimpleNamespace(monotonic=monotonic))
    together = read_together(slow(1.0, 0.0, 0.5), slow(0.25, 2.0, 0.25))
    for reader in together.readers:
        assert reader.waits.tolist() == [1.5, 2.0]
        assert reader.waited_seconds == 3.5


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(hosts, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(hosts, "_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(hosts, "_NOTICE_SECONDS", 0.1)


def test_a_broken_connection_names_the_lost_host(quick):
    meeting = FakeMeeting()
    meeting.lost = 1
    with pytest.raises(LostHostError) as caught, lost_hosts_reported(meeting):
        raise UNAVAILABLE
    assert str(caught.value).startswith("worker 1, host1:4711, is lost; ")
    assert meeting.said == ["closed"]  # Without a bye, which would be no loss.


def test_a_host_that_lives_but_does_not_answer_is_lost(quick):
    with (
        pytest.raises(LostHostError, match=r"^another worker is lost; "),
        lost_hosts_reported(FakeMeeting()),
    ):
        raise UNAVAILABLE


def test_a_host_without_heartbeats_is_named(quick):
    """Its connections remain, so that only TensorFlow knows it."""
    text = (
        "Error reported from /job:worker/task:1: The following tasks are unhealthy "
        "(stopped sending heartbeats):\n/job:worker/replica:0/task:2\nThe tasks have"
    )
    with (
        pytest.raises(LostHostError, match=r"^worker 2, host2:4711, is lost; "),
        lost_hosts_reported(FakeMeeting(count=3)),
    ):
        raise tf.errors.UnavailableError(None, None, text)


def test_an_error_of_this_host_is_raised_unchanged(quick):
    meeting = FakeMeeting()
    with pytest.raises(tf.errors.InternalError), lost_hosts_reported(meeting):
        raise INTERNAL
    assert meeting.said == ["closed"]


def test_a_block_that_ends_says_so(quick):
    meeting = FakeMeeting()
    with lost_hosts_reported(meeting):
        pass
    assert meeting.said == ["bye", "closed"]


def test_a_host_that_hangs_is_ended(monkeypatch, capsys, quick):
    """But not while all hosts live."""
    statuses, is_ended = [], threading.Event()

    def end(status):
        statuses.append(status)
        is_ended.set()

    monkeypatch.setattr(hosts.os, "_exit", end)
    meeting = FakeMeeting()
    with lost_hosts_reported(meeting):
        assert not is_ended.wait(0.3)
        meeting.lost = 1
        is_ended.wait(20)
    assert set(statuses) == {1}
    assert capsys.readouterr().err.startswith("worker 1, host1:4711, is lost; ")


def test_gpus_are_summed_by_nccl():
    """TensorFlow would choose a ring over gRPC between hosts."""
    kinds = tf.distribute.experimental.CommunicationImplementation
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    assert hosts.communication_options([gpu]).implementation == kinds.NCCL
    assert hosts.communication_options([]).implementation == kinds.AUTO
