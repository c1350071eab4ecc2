"""The trainer's side of the buffer: batches in order, read ahead by a thread.

Disk and decoding of the .npy format happen while the network computes; the trainer
only waits when the preprocessing is behind.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer, BatchFileError, BatchSpec
from resnet50.handoff.progress import Position, to_position

# A wait shorter than this is not worth a line on the terminal.
_SPEAK_AFTER_SECONDS = 3.0

# How often a waiting trainer looks whether it shall stop.
_LOOK_SECONDS = 0.2


class Batch(NamedTuple):
    """One batch as the trainer gets it; see handoff.buffer for shapes and dtypes."""

    step: int
    position: Position
    images: np.ndarray
    labels: np.ndarray
    shifts: np.ndarray | None


class BatchReader:
    """Iterates over the batches of some steps, in order, reading ahead.

    Use as a context manager, so that its thread ends. Errors of the thread, such as
    BatchFileError, are raised by the iteration.
    """

    def __init__(
        self,
        buffer: BatchBuffer,
        spec: BatchSpec,
        steps: range,
        *,
        batches_per_epoch: int,
        read_ahead: int,
        sleep_seconds: float,
        is_buffer_ready: Callable[[], bool],
        should_stop: Callable[[], bool],
        notify: Callable[[str], None],
        how_to_start: str,
        keep_place: Callable[[Position], None] = lambda position: None,
    ):
        """Prepares to read; the thread starts with the ``with`` block.

        Args:
            buffer: Where the batches appear.
            spec: What each of them must look like.
            steps: Which ones to deliver.
            batches_per_epoch: For the addresses.
            read_ahead: Batches to hold in memory before they are asked for.
            sleep_seconds: Between two looks for a batch that is not there.
            is_buffer_ready: Asked for each batch whether it is of the right settings;
                while it says no the batch does not count. May raise what the iteration
                shall raise.
            should_stop: Asked while waiting; when it says yes the iteration ends.
            notify: Takes a line for the user when a long wait starts and ends.
            how_to_start: Command that starts the preprocessor, for that line.
            keep_place: Called once a second or more often with the position of the next
                batch; see TrainersPlace.keep. May raise what the caller shall get.
        """
        self._buffer = buffer
        self._spec = spec
        self._steps = steps
        self._batches_per_epoch = batches_per_epoch
        self._sleep_seconds = sleep_seconds
        self._is_buffer_ready = is_buffer_ready
        self._should_stop = should_stop
        self._notify = notify
        self._how_to_start = how_to_start
        self._keep_place = keep_place
        self._preprocessor = locks.Observer(buffer.folder, locks.PREPROCESSOR)
        self._next_step = steps.start
        # Holds batches, and at last an exception, or None for the end.
        self._queue: queue.Queue = queue.Queue(maxsize=read_ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        self._is_finished = False
        # So that one that has not been started yet is spoken of too.
        self._had_preprocessor = True
        # Of the trainer: without a batch.
        self.waited_seconds = 0.0
        # Of the thread, beside the trainer's own time: in batch files; looking for a
        # batch that is not there; and that while no preprocessor runs.
        self.reading_seconds = self.absent_seconds = self.unattended_seconds = 0.0

    def __enter__(self) -> "BatchReader":
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> "BatchReader":
        return self

    def __next__(self) -> Batch:
        if self._is_finished:
            raise StopIteration
        started = time.monotonic()
        item = self._next_item(started)
        self.waited_seconds += time.monotonic() - started
        if isinstance(item, Batch):
            self._next_step = item.step + 1
            return item
        self._is_finished = True
        raise item or StopIteration

    def _next_item(self, started: float):
        """Waits for the thread; speaks when a long wait starts and when it ends."""
        is_long = False
        while not self._should_stop():
            try:
                item = self._queue.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                waited = time.monotonic() - started
                if waited > _SPEAK_AFTER_SECONDS and not is_long:
                    is_long = True
                    self._notify(f"waiting for the next batch in {self._buffer.folder}")
                if is_long:
                    self.check_preprocessor()
                else:
                    self._keep()
                continue
            if is_long:
                self._notify(f"waited {time.monotonic() - started:.1f} s")
            return item
        return None

    def check_preprocessor(self) -> None:
        """Tells the user, once each time, that the preprocessor has gone or come.

        Keeps the trainer's own place in the folder too.
        """
        self._keep()
        is_alive = self._preprocessor.is_alive()
        if self._had_preprocessor and not is_alive:
            self._notify(
                "runtime_preprocessing.py is not running; start it in another "
                f"terminal:\n    {self._how_to_start}"
            )
        self._had_preprocessor = is_alive

    def _keep(self) -> None:
        self._keep_place(to_position(self._next_step, self._batches_per_epoch))

    def _read_all(self) -> None:
        """Runs in the thread: reads every step, then puts None, or an exception."""
        try:
            for step in self._steps:
                batch = self._read(step)
                if batch is None or not self._put(batch):
                    return
            self._put(None)
        except Exception as error:  # Handed to the iteration, which raises it.
            self._put(error)

    def _read(self, step: int) -> Batch | None:
        """Reads one batch as soon as it is there; None when told to stop.

        A damaged file is deleted, once: the preprocessor makes anew what is missing.
        """
        position = to_position(step, self._batches_per_epoch)
        is_second_try = is_obstacle_told = False
        while not self._stop.is_set():
            try:
                self._require_buffer()
                started = time.monotonic()
                stored = self._buffer.read(position, self._spec)
                self.reading_seconds += time.monotonic() - started
                # Once more: a preprocessor of other settings replaces the manifest
                # before it makes the first batch.
                self._require_buffer()
            except FileNotFoundError:
                self._sleep_for_want_of_a_batch()
                continue
            except OSError as error:
                if not is_obstacle_told:
                    is_obstacle_told = True
                    self._notify(f"{position} cannot be read, trying again: {error}")
                self._stop.wait(self._sleep_seconds)
                continue
            except BatchFileError as error:
                if is_second_try:
                    raise
                is_second_try = True
                self._notify(f"{error}; deleted, to be made anew")
                self._buffer.delete(position)
                continue
            return Batch(step, position, *stored)
        return None

    def _sleep_for_want_of_a_batch(self) -> None:
        started = time.monotonic()
        self._stop.wait(self._sleep_seconds)
        seconds = time.monotonic() - started
        if self._had_preprocessor:
            self.absent_seconds += seconds
        else:
            self.unattended_seconds += seconds

    def _require_buffer(self) -> None:
        if not self._is_buffer_ready():
            raise FileNotFoundError

    def _put(self, item) -> bool:
        """Hands an item over; False when told to stop."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
