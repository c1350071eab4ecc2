"""The trainer's side of the buffer: batches in order, read ahead by a thread.

The thread reads and checks batch files while the network computes. The trainer waits
only if the preprocessing is behind.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer, BatchSpec, StoredBatch
from resnet50.handoff.lost_folder import TrainerFiles
from resnet50.handoff.manifest import Manifest, ManifestCheck
from resnet50.handoff.npy_file import BatchFileError, RecycledMemory
from resnet50.handoff.placer import Placer
from resnet50.handoff.progress import Position, StepRange
from resnet50.observer import Observer

# The user hears only of waits that are longer than this.
_LONG_WAIT_SECONDS = 3.0

# How long the end of the block waits for a read that hangs, as on a lost network disk.
_END_SECONDS = 5.0

# If no batch has come for so long, a running preprocessor may be stopped or hang.
_STALLED_SECONDS = 60.0

# How often a waiting trainer polls for a stop request.
_POLL_SECONDS = 0.2


class Batch(NamedTuple):
    """A batch for the trainer; see StoredBatch for the arrays."""

    step: int
    position: Position
    images: np.ndarray
    labels: np.ndarray
    shifts: np.ndarray | None


class BatchSource:
    """The batches in a buffer that were made with the trainer's settings."""

    def __init__(self, buffer: BatchBuffer, spec: BatchSpec, manifest: Manifest):
        self.buffer = buffer
        self._spec = spec
        self._memory = RecycledMemory()
        self._manifest = ManifestCheck(buffer.folder, manifest)

    def read_into(self, allocate: Callable[[int], np.ndarray]) -> None:
        """Reads images into memory that ``allocate`` returns; see RecycledMemory."""
        self._memory = RecycledMemory(allocate)

    def read(self, position: Position) -> StoredBatch:
        """Reads and checks a batch.

        Raises:
            FileNotFoundError: There is no manifest or no such batch (yet).
            ManifestError: The batches in the buffer were made with other settings.
            BatchFileError: The batch is damaged; see BatchBuffer.read.
        """
        self._require_manifest()
        batch = self.buffer.read(position, self._spec, self._memory.empty)
        # Again: a preprocessor with other settings replaces the manifest before it
        # makes its first batch.
        self._require_manifest()
        return batch

    def _require_manifest(self) -> None:
        if not self._manifest.is_same():
            raise FileNotFoundError


class ReaderSettings(NamedTuple):
    """How a BatchReader waits."""

    read_ahead: int  # batches to hold, including those on the device
    sleep_seconds: float  # between two attempts to read a batch that does not exist
    how_to_start: str  # command that starts the preprocessor, for the user


class BatchReader:
    """Iterates over the batches of some steps, in order, reading ahead.

    Use it as a context manager, which starts and ends its threads. ``place`` copies a
    batch to the device, in a thread; the iteration returns its results, and raises the
    errors of the threads, such as BatchFileError. ``should_stop`` is polled before each
    batch and while waiting, and ends the iteration. While waiting, the reader restores
    the trainer's files, and reports long waits and an absent preprocessor.
    """

    def __init__(
        self,
        source: BatchSource,
        steps: StepRange,
        settings: ReaderSettings,
        files: TrainerFiles,
        observer: Observer,
        should_stop: Callable[[], bool],
        place: Callable[[Batch], Any] = lambda batch: batch,
    ):
        self._source = source
        self._steps = steps
        self._settings = settings
        self._files = files
        self._observer = observer
        self._should_stop = should_stop
        self._folder = source.buffer.folder
        self._preprocessor = locks.LivenessPoll(self._folder, locks.PREPROCESSOR)
        # True at first, so that the user hears of one that was never started.
        self._had_preprocessor = True
        self._next_step = steps.start
        self._unread = iter(range(steps.start, steps.end))
        # The process can end while a read hangs, unlike with a ThreadPoolExecutor.
        self._thread = threading.Thread(target=self._read_requested, daemon=True)
        self._requests: SimpleQueue[tuple[int, Future[Any]] | None] = SimpleQueue()
        self._placer = Placer(place)
        # The next steps, in order, and their placed batches.
        self._batches: deque[tuple[int, Future[Any]]] = deque()
        self._stop = threading.Event()
        # How long the trainer has waited for batches.
        self.waited_seconds = 0.0
        # How long the thread has read files; has waited for a batch that did not exist;
        # and has waited while no preprocessor was running.
        self.reading_seconds = self.absent_seconds = self.unattended_seconds = 0.0

    def __enter__(self) -> "BatchReader":
        self._thread.start()
        self._placer.start()
        self._read_ahead()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._requests.put(None)
        self._thread.join(_END_SECONDS)
        # The placer waits for a read that hangs, too.
        self._placer.stop(timeout=0.0 if self._thread.is_alive() else None)

    def __iter__(self) -> "BatchReader":
        return self

    def __next__(self) -> Any:
        started = time.monotonic()
        try:
            step, batch = self._wait_for_batch(started)
        except BaseException:  # Nothing is delivered after an error or the end.
            self._batches.clear()
            raise
        finally:
            self.waited_seconds += time.monotonic() - started
        self._next_step = step + 1
        self._read_ahead()
        return batch

    def _read_ahead(self) -> None:
        while len(self._batches) < self._settings.read_ahead:
            step = next(self._unread, None)
            if step is None:
                return
            future: Future[Any] = Future()
            self._batches.append((step, self._placer.submit(future)))
            self._requests.put((step, future))

    def _wait_for_batch(self, started: float) -> tuple[int, Any]:
        """Waits for the next step's batch; reports when a long wait starts and ends."""
        is_long, num_polls = False, 0
        while self._batches and not self._should_stop():
            step, placed = self._batches[0]
            if wait([placed], timeout=_POLL_SECONDS).done:
                if is_long:
                    self._observer.notify(f"waited {time.monotonic() - started:.1f} s")
                self._batches.popleft()
                return step, self._placer.take(placed)
            if not is_long and time.monotonic() - started > _LONG_WAIT_SECONDS:
                is_long = True
                self._observer.notify(f"waiting for the next batch in {self._folder}")
            if is_long:
                self.check_preprocessor()
                # Polls, not seconds: this process may have been stopped too.
                num_polls = num_polls + 1 if self._had_preprocessor else 0
                if num_polls == round(_STALLED_SECONDS / _POLL_SECONDS):
                    self._report_stall()
            else:
                self._restore_files()
        raise StopIteration

    def check_preprocessor(self) -> None:
        """Reports once that the preprocessor is gone; restores the trainer's files."""
        self._restore_files()
        is_alive = self._preprocessor.is_alive()
        if self._had_preprocessor and not is_alive:
            self._observer.notify(
                "runtime_preprocessing.py is not running; start it in another "
                f"terminal:\n    {self._settings.how_to_start}"
            )
        self._had_preprocessor = is_alive

    def _report_stall(self) -> None:
        self._observer.notify(
            "runtime_preprocessing.py runs, process "
            f"{locks.owner(self._folder, locks.PREPROCESSOR)}, but the next batch has "
            f"not come for {_STALLED_SECONDS:g} s (see its terminal; if Ctrl-Z stopped "
            "it, fg continues it)"
        )

    def _restore_files(self) -> None:
        self._files.restore(self._steps.position(self._next_step))

    def _read_requested(self) -> None:
        """Runs in the thread."""
        while request := self._requests.get():
            step, future = request
            try:
                future.set_result(self._read(step))
            except Exception as error:  # The iteration raises it.
                future.set_exception(error)
            del request, future  # They hold the batch.

    def _read(self, step: int) -> Batch | None:
        """Reads a batch as soon as it exists; None after the end.

        Deletes a damaged batch once: the preprocessor makes missing batches again.
        """
        position = self._steps.position(step)
        is_deleted = is_problem_reported = False
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                stored = self._source.read(position)
                self.reading_seconds += time.monotonic() - started
                return Batch(step, position, *stored)
            except FileNotFoundError:
                self._sleep_and_count()
                continue
            except (OSError, MemoryError) as error:
                where = f"{self._folder}: {position}"
                problem = f"{where} cannot be read, trying again: {error}"
            except BatchFileError as error:
                if is_deleted:
                    raise
                problem = self._delete(position, error)
                if not problem:
                    is_deleted = True
                    continue
            if not is_problem_reported:
                is_problem_reported = True
                self._observer.notify(problem)
            self._stop.wait(self._settings.sleep_seconds)
        return None

    def _delete(self, position: Position, damage: BatchFileError) -> str:
        """Deletes a damaged batch; returns "", or why that is not possible now."""
        try:
            self._source.buffer.delete(position)
        except OSError as error:
            return f"{damage}; cannot be deleted, trying again: {error}"
        self._observer.notify(f"{damage}; deleted, to be created again")
        return ""

    def _sleep_and_count(self) -> None:
        started = time.monotonic()
        self._stop.wait(self._settings.sleep_seconds)
        seconds = time.monotonic() - started
        if self._had_preprocessor:
            self.absent_seconds += seconds
        else:
            self.unattended_seconds += seconds
