"""Proves that the trainer gets every batch once and in order.

It waits for late batches, shows how to start a missing preprocessor, and can stop at
any moment.
"""

import contextlib
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from resnet50.handoff import locks, reader
from resnet50.handoff.buffer import BatchBuffer, BatchFileError, BatchSpec
from resnet50.handoff.manifest import FILE_NAME, ManifestError, write_manifest
from resnet50.handoff.progress import StepRange, to_position
from resnet50.handoff.reader import BatchReader, BatchSource, ReaderSettings
from tests.doubles import FileDouble, NoFiles, RecordingObserver
from tests.processes import python_process

SPEC = BatchSpec(batch_size=2, crop_size=3, dtype="float32", num_classes=100)
BATCHES_PER_EPOCH = 3
COMMAND = "python3 runtime_preprocessing.py --epoch_end=4"
MANIFEST = {"seed": 0}


class CountingBuffer(BatchBuffer):
    """Counts the batches that were read."""

    num_read = 0

    def read(self, position, spec, empty):
        batch = super().read(position, spec, empty)
        self.num_read += 1
        return batch


@pytest.fixture
def buffer(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    return CountingBuffer(tmp_path)


@pytest.fixture
def impatient(monkeypatch):
    """Makes every wait a long one, so that it is reported."""
    monkeypatch.setattr(reader, "_LONG_WAIT_SECONDS", -1.0)
    monkeypatch.setattr(reader, "_POLL_SECONDS", 0.001)


def write(buffer, step):
    """Writes a batch whose images and labels are its step."""
    images = np.full((2, 3, 3, 3), step, np.float32)
    position = to_position(step, BATCHES_PER_EPOCH)
    buffer.write(position, images, np.full(2, step, np.int32))


def patience():
    """Returns a should_stop that fails the test instead of waiting forever."""
    polls = iter(range(200))

    def should_stop():
        assert next(polls, None) is not None, "the batch does not come"
        return False

    return should_stop


def make_reader(
    buffer,
    steps,
    observer=None,
    *,
    files=None,
    read_ahead=2,
    should_stop=None,
    place=lambda batch: batch,
) -> BatchReader:
    return BatchReader(
        BatchSource(buffer, SPEC, MANIFEST),
        StepRange(steps.start, steps.stop, BATCHES_PER_EPOCH),
        ReaderSettings(read_ahead, sleep_seconds=0.001, how_to_start=COMMAND),
        files or NoFiles(),
        observer or RecordingObserver(),
        should_stop or patience(),
        place,
    )


def assert_is(batch, step):
    assert batch.step == step
    assert batch.position == to_position(step, BATCHES_PER_EPOCH)
    assert (batch.images == step).all()
    assert (batch.labels == step).all()


def test_delivers_the_steps_in_order_across_epochs(buffer):
    for step in reversed(range(12)):
        write(buffer, step)
    with make_reader(buffer, range(1, 11)) as batches:
        delivered = list(batches)
    assert len(delivered) == 10
    for step, batch in zip(range(1, 11), delivered):
        assert_is(batch, step)


def test_reads_ahead_no_more_than_asked(buffer):
    for step in range(12):
        write(buffer, step)
    with make_reader(buffer, range(12), read_ahead=2) as batches:
        for batch in batches:
            assert buffer.num_read <= batch.step + 1 + 2


def test_memory_of_a_batch_that_is_gone_is_used_again(buffer):
    for step in range(2):
        write(buffer, step)
    source = BatchSource(buffer, SPEC, MANIFEST)
    batch = source.read(to_position(0, BATCHES_PER_EPOCH))
    address, size = batch.images.ctypes.data, batch.images.shape
    del batch
    # Takes the place of memory that was freed.
    others = [np.zeros(size, np.float32) for _ in range(3)]
    batch = source.read(to_position(1, BATCHES_PER_EPOCH))
    assert batch.images.ctypes.data == address
    assert np.all(batch.images == 1) and not np.any(others)


def test_batches_are_placed_in_order_and_at_most_two_ahead(buffer):
    for step in range(12):
        write(buffer, step)
    placed, threads, change = [], set(), threading.Condition()

    def place(batch):
        with change:
            placed.append(batch.step)
            threads.add(threading.current_thread())
            change.notify()
        return batch.step

    with make_reader(buffer, range(12), read_ahead=8, place=place) as batches:
        for step, batch in enumerate(batches):
            assert batch == step
            # The thread continues by itself, but no further.
            expected = min(step + 3, 12)
            with change:
                assert change.wait_for(lambda n=expected: len(placed) >= n, timeout=60)
                assert len(placed) == expected
    assert placed == list(range(12))
    assert threads.isdisjoint({threading.main_thread()})


def test_an_error_of_placing_is_raised_after_what_was_placed(buffer):
    for step in range(4):
        write(buffer, step)

    def place(batch):
        if batch.step == 2:
            raise MemoryError("no room for batch 2")
        return batch

    with make_reader(buffer, range(4), place=place) as batches:
        assert [next(batches).step, next(batches).step] == [0, 1]
        with pytest.raises(MemoryError, match="batch 2"):
            next(batches)
        assert list(batches) == []


def test_no_steps_no_batches(buffer):
    with make_reader(buffer, range(5, 5)) as batches:
        assert list(batches) == []


def test_waits_for_a_batch_that_appears_later(buffer, impatient):
    write(buffer, 0)
    observer = RecordingObserver(
        notify=lambda line: line.startswith("waiting") and write(buffer, 1)
    )
    with (
        locks.exclusive_role(buffer.folder, locks.PREPROCESSOR),
        make_reader(buffer, range(2), observer) as batches,
    ):
        first, second = batches
    assert_is(first, 0)
    assert_is(second, 1)
    assert observer.lines[-2] == f"waiting for the next batch in {buffer.folder}"
    assert observer.lines[-1].startswith("waited ")
    assert observer.lines[-1].endswith(" s")
    assert batches.waited_seconds > 0


def test_labels_without_images_are_waited_for_too(buffer, impatient):
    write(buffer, 0)
    images = buffer.images_path(to_position(0, BATCHES_PER_EPOCH))
    hidden = images.rename(images.with_name("hidden"))
    observer = RecordingObserver(
        notify=lambda line: hidden.exists() and hidden.rename(images)
    )
    with make_reader(buffer, range(1), observer) as batches:
        assert_is(next(batches), 0)


def test_says_once_how_to_start_an_absent_preprocessor(buffer, impatient):
    stop = threading.Event()
    observer = RecordingObserver(notify=lambda line: COMMAND in line and stop.set())
    with make_reader(buffer, range(1), observer, should_stop=stop.is_set) as batches:
        assert list(batches) == []
    assert observer.lines == [
        f"waiting for the next batch in {buffer.folder}",
        "runtime_preprocessing.py is not running; start it in another terminal:\n"
        f"    {COMMAND}",
    ]


def test_a_preprocessor_that_goes_is_reported_once_each_time(buffer):
    observer = RecordingObserver()
    reader = make_reader(buffer, range(1), observer)
    for _ in range(2):
        with locks.exclusive_role(buffer.folder, locks.PREPROCESSOR):
            reader.check_preprocessor()
        for _ in range(3):
            reader.check_preprocessor()
    assert len(observer.lines) == 2
    assert all(COMMAND in line for line in observer.lines)


def test_living_preprocessor_is_not_called_absent(buffer, impatient):
    observer, polls = RecordingObserver(), []

    def should_stop():
        polls.append(None)
        return len(polls) > 20

    with (
        locks.exclusive_role(buffer.folder, locks.PREPROCESSOR),
        make_reader(buffer, range(1), observer, should_stop=should_stop) as batches,
    ):
        assert list(batches) == []
    assert observer.lines == [f"waiting for the next batch in {buffer.folder}"]


def test_a_preprocessor_that_makes_no_batch_is_reported_once(
    buffer, impatient, monkeypatch
):
    """Such as one that Ctrl-Z has stopped: it holds its lock, so it is running."""
    monkeypatch.setattr(reader, "_STALLED_SECONDS", 0.05)  # 50 polls
    observer, polls = RecordingObserver(), iter(range(180))

    def should_stop():
        return next(polls, None) is None

    with (
        locks.exclusive_role(buffer.folder, locks.PREPROCESSOR),
        make_reader(buffer, range(1), observer, should_stop=should_stop) as batches,
    ):
        assert list(batches) == []
    assert observer.lines == [
        f"waiting for the next batch in {buffer.folder}",
        f"runtime_preprocessing.py runs, process {os.getpid()}, but the next batch "
        "has not come for 0.05 s (see its terminal; if Ctrl-Z stopped it, fg continues "
        "it)",
    ]


def test_a_preprocessor_that_has_just_started_is_not_called_stalled(
    buffer, impatient, monkeypatch
):
    monkeypatch.setattr(reader, "_STALLED_SECONDS", 0.05)
    observer = RecordingObserver()
    with contextlib.ExitStack() as stack:

        def start_late():
            for _ in range(60):
                yield False
            role = locks.exclusive_role(buffer.folder, locks.PREPROCESSOR)
            stack.enter_context(role)
            for _ in range(40):
                yield False
            yield True

        polls = start_late()
        with make_reader(
            buffer, range(1), observer, should_stop=lambda: next(polls)
        ) as batches:
            assert list(batches) == []
    assert not [line for line in observer.lines if "has not come" in line]


def test_short_waits_are_not_reported(buffer):
    observer = RecordingObserver()
    for step in range(3):
        write(buffer, step)
    with make_reader(buffer, range(3), observer) as batches:
        assert len(list(batches)) == 3
    assert observer.lines == []


def test_nothing_is_read_before_there_is_a_manifest(buffer):
    write(buffer, 0)
    (buffer.folder / FILE_NAME).unlink()
    num_read = []

    def write_it_later(position):
        num_read.append(buffer.num_read)
        if len(num_read) == 2:
            write_manifest(buffer.folder, MANIFEST)

    files = NoFiles(write_it_later)
    with make_reader(buffer, range(1), files=files) as batches:
        assert_is(next(batches), 0)
    assert num_read[:2] == [0, 0]


def test_batch_of_other_settings_is_not_delivered(buffer):
    """A preprocessor replaces the manifest between its check and the reading."""
    write(buffer, 0)
    read = buffer.read

    def replace_and_read(position, spec, empty):
        write_manifest(buffer.folder, {"seed": 9})
        return read(position, spec, empty)

    buffer.read = replace_and_read
    with (
        make_reader(buffer, range(1)) as batches,
        pytest.raises(ManifestError, match="seed is 9 there and 0 here"),
    ):
        next(batches)


def test_damaged_batch_is_deleted_once_to_be_made_again(buffer):
    observer = RecordingObserver()
    for step in range(2):
        write(buffer, step)
    damaged = buffer.images_path(to_position(1, BATCHES_PER_EPOCH))
    damaged.write_bytes(b"")

    delete = buffer.delete

    def delete_and_make_again(position):
        delete(position)
        assert position not in buffer.files()
        write(buffer, 1)

    buffer.delete = delete_and_make_again
    with make_reader(buffer, range(2), observer) as batches:
        for step, batch in enumerate(batches):
            assert_is(batch, step)
    (line,) = observer.lines
    assert line.startswith(f"{damaged}: ")
    assert line.endswith("; deleted, to be created again")


def test_damaged_batch_that_cannot_be_deleted_is_reported_and_tried_again(buffer):
    observer = RecordingObserver()
    write(buffer, 0)
    damaged = buffer.images_path(to_position(0, BATCHES_PER_EPOCH))
    damaged.write_bytes(b"")

    def fail(position):
        write(buffer, 0)
        raise PermissionError("not the owner")

    buffer.delete = fail
    with make_reader(buffer, range(1), observer) as batches:
        assert_is(next(batches), 0)
    (line,) = observer.lines
    assert line.startswith(f"{damaged}: ")
    assert line.endswith("; cannot be deleted, trying again: not the owner")


class FailingFile(FileDouble):
    """An open file whose disk fails at the first read or at a later one."""

    def __init__(self, file, reads_left):
        super().__init__(file)
        self._reads_left = reads_left

    def read(self, size):
        self._reads_left -= 1
        if self._reads_left < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.read(size)


@pytest.mark.parametrize("num_reads", range(3))
def test_a_disk_that_fails_while_a_batch_is_read_is_no_damage(
    buffer, monkeypatch, num_reads
):
    """The batch is read again, not deleted and made again."""
    observer, real_open, files = RecordingObserver(), Path.open, []
    write(buffer, 0)
    images_path = buffer.images_path(to_position(0, BATCHES_PER_EPOCH))
    buffer.delete = None

    def open_failing(path, *arguments, **keywords):
        file = real_open(path, *arguments, **keywords)
        if path != images_path or files:
            return file
        files.append(FailingFile(file, num_reads))
        return files[0]

    monkeypatch.setattr(Path, "open", open_failing)
    with make_reader(buffer, range(1), observer) as batches:
        assert_is(next(batches), 0)
    line = "epoch 0, batch 0 cannot be read, trying again: [Errno 5] Input/output error"
    # A later read than the last does not fail.
    assert observer.lines in ([], [f"{buffer.folder}: {line}"])
    assert bool(observer.lines) == (files[0]._reads_left < 0)


def test_a_batch_that_finds_no_memory_is_read_again(buffer):
    observer, read = RecordingObserver(), buffer.read
    write(buffer, 0)

    def fail_once(position, spec, empty):
        buffer.read = read
        raise MemoryError("Unable to allocate 19 MiB")

    buffer.read = fail_once
    with make_reader(buffer, range(1), observer) as batches:
        assert_is(next(batches), 0)
    line = "epoch 0, batch 0 cannot be read, trying again: Unable to allocate 19 MiB"
    assert observer.lines == [f"{buffer.folder}: {line}"]


def test_batch_that_is_damaged_twice_raises_after_what_was_read(buffer):
    for step in range(2):
        write(buffer, step)
    damaged = buffer.images_path(to_position(1, BATCHES_PER_EPOCH))
    damaged.write_bytes(b"")
    buffer.delete = lambda position: None  # As if the next one were damaged too.
    with make_reader(buffer, range(2)) as batches:
        assert_is(next(batches), 0)
        with pytest.raises(BatchFileError) as caught:
            next(batches)
    assert str(damaged) in str(caught.value)


@pytest.mark.parametrize("read_ahead", [1, 8])
@pytest.mark.parametrize("num_written", [0, 1, 20], ids="{} written".format)
def test_leaving_the_block_ends_the_threads(buffer, num_written, read_ahead):
    """While they wait for a batch, and while they have read and placed all they may."""
    for step in range(num_written):
        write(buffer, step)
    threads = set(threading.enumerate())
    with make_reader(buffer, range(20), read_ahead=read_ahead) as batches:
        if num_written:
            assert_is(next(batches), 0)
        assert set(threading.enumerate()) > threads
    assert set(threading.enumerate()) == threads


HANGING = """if True:
    import pathlib, sys
    from resnet50.handoff.buffer import BatchBuffer
    from tests.handoff.test_reader import make_reader
    make_reader(BatchBuffer(pathlib.Path(sys.argv[1])), range(1)).__enter__()
"""


def test_a_read_that_hangs_does_not_keep_the_process_alive(buffer):
    """A second Ctrl-C interrupts the end of the block, and the process must end."""
    os.mkfifo(buffer.images_path(to_position(0, BATCHES_PER_EPOCH)))  # It blocks.
    with python_process(HANGING, buffer.folder) as process:
        assert process.wait(timeout=60) == 0


def test_a_read_that_hangs_does_not_keep_the_block_from_ending(buffer, monkeypatch):
    monkeypatch.setattr(reader, "_END_SECONDS", 0.1)
    before = set(threading.enumerate())
    is_reading, goes_on = threading.Event(), threading.Event()

    def hang(position, spec, empty):
        is_reading.set()
        goes_on.wait()
        raise FileNotFoundError

    buffer.read = hang
    with make_reader(buffer, range(1)):
        threads = set(threading.enumerate()) - before
        is_reading.wait()
    assert threads <= set(threading.enumerate())
    goes_on.set()
    for thread in threads:
        thread.join()


def test_leaving_the_block_ends_the_wait_for_a_manifest(buffer):
    (buffer.folder / FILE_NAME).unlink()
    threads = set(threading.enumerate())
    with make_reader(buffer, range(1)):
        pass
    assert set(threading.enumerate()) == threads


def test_stops_when_asked_even_with_batches_at_hand(buffer):
    stop = threading.Event()
    for step in range(5):
        write(buffer, step)
    with make_reader(buffer, range(5), should_stop=stop.is_set) as batches:
        assert_is(next(batches), 0)
        stop.set()
        assert list(batches) == []


def test_a_waiting_trainer_restores_its_files_for_the_next_position(buffer):
    """From the first poll on, and while the wait is too short to be reported."""
    files = NoFiles(lambda position: len(files.positions) > 2 and write(buffer, 1))
    write(buffer, 0)
    with make_reader(buffer, range(2), files=files) as batches:
        assert_is(next(batches), 0)
        batches.check_preprocessor()
        assert_is(next(batches), 1)
    assert files.positions[:3] == [to_position(1, BATCHES_PER_EPOCH)] * 3


def test_an_error_of_restoring_the_files_ends_the_iteration(buffer):
    def restore(position):
        raise locks.AlreadyRunningError("train.py already runs here")

    with (
        make_reader(buffer, range(1), files=NoFiles(restore)) as batches,
        pytest.raises(locks.AlreadyRunningError),
    ):
        next(batches)


@pytest.mark.parametrize("is_alive", [True, False])
def test_the_threads_wait_is_counted_by_its_cause(buffer, monkeypatch, is_alive):
    monkeypatch.setattr(locks, "is_locked", lambda folder, role: is_alive)
    subject = make_reader(buffer, range(1))
    subject.check_preprocessor()
    read = subject._source.read

    def read_or_write(position):
        try:
            return read(position)
        except FileNotFoundError:
            write(buffer, 0)
            raise

    monkeypatch.setattr(subject._source, "read", read_or_write)
    with subject:
        assert [batch.step for batch in subject] == [0]
    assert subject.reading_seconds > 0
    counters = [subject.unattended_seconds, subject.absent_seconds]
    assert counters[is_alive] > 0
    assert counters[not is_alive] == 0
