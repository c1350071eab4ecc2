"""Batches that arrive over the network, for a buffer folder that only this host has.

A worker's copy of the buffer keeps a batch instead of writing it, and the task returns
it. The preprocessor gets the batch from the worker and writes it into the folder.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from resnet50.handoff.buffer import BatchBuffer

# Polls after which it is judged whether the network is the limit.
_POLLS_TO_JUDGE = 30


class NetworkBuffer(BatchBuffer):
    """A buffer of this host. A task gets a KeptBatches in its place."""

    def __reduce__(self) -> tuple:
        return KeptBatches, (self.folder,)


class KeptBatches(BatchBuffer):
    """The buffer on a worker's host: keeps what is written."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.kept: list[tuple] = []

    def write(self, *batch) -> None:
        """Keeps the arguments of BatchBuffer.write."""
        self.kept.append(batch)


class Returned(NamedTuple):
    """What a task sends to the preprocessor."""

    result: Any  # of the task's function
    batches: list[tuple]  # arguments of BatchBuffer.write

    @property
    def num_bytes(self) -> int:
        """The size of the batches."""
        return sum(
            getattr(part, "nbytes", 0) for batch in self.batches for part in batch
        )


def run_and_return(function: Callable, *args) -> Returned:
    """Calls a function on a worker; returns its result, and the batches it wrote."""
    result = function(*args)
    buffers = [argument for argument in args if isinstance(argument, KeptBatches)]
    return Returned(result, [batch for buffer in buffers for batch in buffer.kept])


class ArrivalWatch:
    """Notices, once, that batches arrive more slowly than the workers make them."""

    def __init__(self) -> None:
        self.num_bytes = 0  # of the batches that have arrived
        self._num_polls = self._num_idle = 0
        self._is_over = False

    def poll(self, num_tasks: int, num_made: int) -> str:
        """Takes the number of unfinished tasks, and how many only wait to be received.

        Returns what to tell the user, or "".
        """
        if self._is_over or not num_tasks:
            return ""
        if not self._num_polls:
            self._start = time.monotonic(), self.num_bytes
        self._num_polls += 1
        self._num_idle += num_made == num_tasks
        if self._num_polls < _POLLS_TO_JUDGE:
            return ""
        is_slow = self._num_idle > self._num_polls / 2
        started, num_bytes = self._start
        self._num_polls = self._num_idle = 0
        if not is_slow:
            return ""
        self._is_over = True
        rate = (self.num_bytes - num_bytes) / 1e6 / (time.monotonic() - started)
        return (
            f"the workers wait: their batches arrive at {rate:.0f} MB/s (a faster "
            'network helps, or [train] dtype = "uint8" with half the bytes)'
        )
