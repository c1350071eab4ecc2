"""Proves that hosts end before the same step, and that none waits for a lost one."""

import contextlib
import itertools
import threading

import pytest
import tensorflow as tf

from resnet50.errors import UserError
from resnet50.training.devices import hosts
from resnet50.training.devices.hosts import JointReader, lost_hosts_reported
from resnet50.training.devices.meeting import Cluster, LostHostError, membership

ADDRESSES = ("host0:4711", "host1:4711")
CHIEF, OTHER = (Cluster(ADDRESSES, index) for index in range(2))
UNAVAILABLE = tf.errors.UnavailableError(None, None, "connection reset")
INTERNAL = tf.errors.InternalError(None, None, "out of memory")


class Meeting:
    """Stands in for HostDevices: computes ``any`` over several threads."""

    def __init__(self, count):
        self._flags = []
        self._barrier = threading.Barrier(count)
        self.rounds = 0

    def any(self, flag):
        self._flags.append(flag)
        self._barrier.wait(20)
        result = any(self._flags)
        if self._barrier.wait(20) == 0:
            self.rounds += 1
            self._flags.clear()
        self._barrier.wait(20)
        return result


def read_together(*readers):
    """Reads iterators in one thread each; returns their items, errors, and rounds."""
    meeting = Meeting(len(readers))
    found, errors = [[] for _ in readers], [None] * len(readers)

    def read(index):
        try:
            found[index].extend(JointReader(readers[index], meeting))
        except UserError as error:
            errors[index] = str(error)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(len(readers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, errors, meeting.rounds


def failing(num_batches):
    yield from range(num_batches)
    raise UserError("the disk is gone")


def test_all_get_all_batches_and_leave_together():
    """They call ``any`` once more at the end, where the others wait for the chief."""
    found, errors, rounds = read_together(iter(range(5)), iter(range(5)))
    assert found == [list(range(5))] * 2
    assert errors == [None, None]
    assert rounds == 6


def test_the_first_to_stop_stops_all():
    found, errors, _ = read_together(iter(range(5)), iter(range(2)), iter(range(9)))
    assert found == [[0, 1]] * 3
    assert errors == [None] * 3


def test_an_error_of_one_stops_all_in_order():
    found, errors, _ = read_together(iter(range(5)), failing(2))
    assert found == [[0, 1]] * 2
    assert errors == [None, "the disk is gone"]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(hosts, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(hosts, "_GRACE_SECONDS", 0.2)


def test_a_broken_connection_names_the_lost_host(tmp_path):
    with membership(tmp_path, OTHER):
        pass
    with (
        membership(tmp_path, CHIEF),
        pytest.raises(LostHostError) as caught,
        lost_hosts_reported(tmp_path, CHIEF),
    ):
        raise UNAVAILABLE
    assert str(caught.value).startswith("worker 1, host1:4711, is lost; ")


def test_a_host_that_lives_but_does_not_answer_is_lost(tmp_path):
    with (
        membership(tmp_path, CHIEF),
        membership(tmp_path, OTHER),
        pytest.raises(LostHostError, match=r"^another worker is lost; "),
        lost_hosts_reported(tmp_path, CHIEF),
    ):
        raise UNAVAILABLE


def test_an_error_of_this_host_is_raised_unchanged(tmp_path):
    with (
        membership(tmp_path, CHIEF),
        membership(tmp_path, OTHER),
        pytest.raises(tf.errors.InternalError),
        lost_hosts_reported(tmp_path, CHIEF),
    ):
        raise INTERNAL


def test_a_host_that_hangs_is_ended(tmp_path, monkeypatch, capsys, quick):
    """But not while all hosts live."""
    statuses, is_ended = [], threading.Event()

    def end(status):
        statuses.append(status)
        is_ended.set()

    monkeypatch.setattr(hosts.os, "_exit", end)
    with contextlib.ExitStack() as other, membership(tmp_path, CHIEF):
        other.enter_context(membership(tmp_path, OTHER))
        with lost_hosts_reported(tmp_path, CHIEF):
            assert not is_ended.wait(0.5)
            other.close()
            assert is_ended.wait(20)
    assert set(statuses) == {1}
    assert capsys.readouterr().err.startswith("worker 1, host1:4711, is lost; ")


def test_a_host_that_makes_its_lock_file_again_is_not_lost(
    tmp_path, monkeypatch, quick
):
    """For a moment the new file is there and not locked."""
    statuses, is_over = [], threading.Event()
    polls = itertools.count()

    def first_lost(folder, cluster):
        poll = next(polls)
        if poll == 3:
            is_over.set()
        return 1 if poll == 0 else None

    def end(status):
        statuses.append(status)
        is_over.set()

    monkeypatch.setattr(hosts, "first_lost", first_lost)
    monkeypatch.setattr(hosts.os, "_exit", end)
    with lost_hosts_reported(tmp_path, CHIEF):
        assert is_over.wait(20)
    assert statuses == []
