"""Copies the batches that were read to the device, ahead of the trainer, in a thread.

A copy to a GPU starts when all steps before it have ended, and the thread that asks for
it waits. In a thread of its own, the copy overlaps with the next step.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

# One is copied while the step of another one runs.
MAX_PLACED = 2


class Placer:
    """Applies a function to batches, in order; at most two wait to be taken."""

    def __init__(self, place: Callable[[Any], Any]):
        """Prepares; ``place`` copies a batch to the device and returns the copy."""
        self._place = place
        self._requests: SimpleQueue[tuple[Future[Any], Future[Any]] | None] = (
            SimpleQueue()
        )
        self._room = threading.Semaphore(MAX_PLACED)
        self._is_stopped = False
        self._thread = threading.Thread(target=self._place_requested, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Ends the thread, for which it waits; the batches left to place are None."""
        self._is_stopped = True
        self._room.release()
        self._requests.put(None)
        self._thread.join(timeout)

    def submit(self, read: Future[Any]) -> Future[Any]:
        """Returns the future of the placed batch, or of the error of reading it."""
        placed: Future[Any] = Future()
        self._requests.put((read, placed))
        return placed

    def take(self, placed: Future[Any]) -> Any:
        """Returns a placed batch, or raises; makes room for the next."""
        batch = placed.result()
        self._room.release()
        return batch

    def _place_requested(self) -> None:
        while request := self._requests.get():
            read, placed = request
            try:
                batch = read.result()
                if batch is not None and not self._is_stopped:
                    self._room.acquire()
                is_over = batch is None or self._is_stopped
                placed.set_result(None if is_over else self._place(batch))
            except Exception as error:  # The trainer raises it.
                placed.set_exception(error)
            # They hold the batch.
            batch = None
            del request, read, placed
