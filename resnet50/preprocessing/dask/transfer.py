"""Batches that arrive over the network, for a buffer folder that only this host has.

A worker's copy of the buffer keeps a batch instead of writing it, and the task returns
it. The preprocessor gets the batch from the worker and writes it into the folder.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from resnet50.handoff.buffer import BatchBuffer


class NetworkBuffer(BatchBuffer):
    """A buffer of this host. A task gets a KeptBatches in its place."""

    def __reduce__(self) -> tuple:
        return KeptBatches, (self.folder,)


class KeptBatches(BatchBuffer):
    """The buffer on a worker's host: keeps what is written."""

    def __init__(self, folder):
        super().__init__(folder)
        self.kept: list[tuple] = []

    def write(self, *batch) -> None:
        """Keeps the arguments of BatchBuffer.write."""
        self.kept.append(batch)


class Returned(NamedTuple):
    """What a task sends to the preprocessor."""

    result: Any  # of the task's function
    batches: list[tuple]  # arguments of BatchBuffer.write


def run_and_return(function: Callable, *args) -> Returned:
    """Calls a function on a worker; returns its result, and the batches it wrote."""
    result = function(*args)
    buffers = [argument for argument in args if isinstance(argument, KeptBatches)]
    return Returned(result, [batch for buffer in buffers for batch in buffer.kept])
