"""Proves what a task sends to the preprocessor, and when the network is named slow."""

import pickle

import numpy as np
import pytest

from resnet50.handoff.buffer import BatchBuffer, Rows
from resnet50.handoff.progress import Position
from resnet50.preprocessing.dask import transfer
from resnet50.preprocessing.dask.transfer import (
    ArrivalWatch,
    KeptBatches,
    NetworkBuffer,
    run_and_return,
)

POSITION = Position(3, 4)
IMAGES = np.arange(24, dtype=np.float16).reshape(2, 2, 2, 3)
LABELS = np.array([5, 6], np.int32)


def write_and_count(buffer, number):
    buffer.write(POSITION, IMAGES, LABELS)
    return number + 1


@pytest.mark.parametrize("rows", [None, Rows(2, 4)])
def test_a_batch_is_returned_and_not_written(tmp_path, rows):
    """The copy of the buffer that a worker gets keeps it."""
    network_buffer = NetworkBuffer(tmp_path, rows)
    buffer = pickle.loads(pickle.dumps(network_buffer))
    assert type(buffer) is KeptBatches
    returned = run_and_return(write_and_count, buffer, 7)
    assert returned.result == 8
    assert list(tmp_path.iterdir()) == []
    network_buffer.write(*returned.batches[0])
    assert network_buffer.ready() == {POSITION}
    assert BatchBuffer(tmp_path, rows).images_path(POSITION).exists()
    assert returned.num_bytes == 2 * 24 + 2 * 4


class TestArrivalWatch:
    """What it says after some polls, of which it takes pairs."""

    IDLE, BUSY, NOTHING = (4, 4), (4, 3), (0, 0)

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch):
        """Every look at the clock takes two seconds."""
        times = iter(range(0, 1000, 2))
        monkeypatch.setattr(transfer.time, "monotonic", lambda: next(times))

    def lines(self, polls):
        watch, said = ArrivalWatch(), []
        for poll in polls:
            said += filter(None, [watch.poll(*poll)])
            watch.num_bytes += 10**6
        return said

    def test_workers_that_wait_for_most_of_the_time_are_named_once(self):
        lines = self.lines([self.IDLE, self.IDLE, self.BUSY] * 60)
        assert lines == [
            "the workers wait: their batches arrive at 14 MB/s (a faster network "
            'helps, or [train] dtype = "uint8" with half the bytes)'
        ]

    def test_workers_that_work_for_half_of_the_time_are_not(self):
        assert self.lines([self.IDLE, self.BUSY] * 60) == []

    def test_a_full_buffer_is_no_slow_network(self):
        assert self.lines([self.NOTHING] * 100) == []

    def test_a_short_wait_is_not_named(self):
        polls = [self.IDLE] * (transfer._POLLS_TO_JUDGE - 1)
        assert self.lines(polls) == []
