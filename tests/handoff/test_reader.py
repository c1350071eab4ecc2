"""Proves that the trainer gets every batch once and in order.

It waits for what is late, hears how to start a preprocessor that is not there, and can
stop at any moment.
"""

import threading

import numpy as np
import pytest

from resnet50.handoff import locks, reader
from resnet50.handoff.buffer import BatchBuffer, BatchFileError, BatchSpec
from resnet50.handoff.manifest import ManifestError
from resnet50.handoff.progress import to_position
from resnet50.handoff.reader import BatchReader

SPEC = BatchSpec(batch_size=2, crop_size=3, dtype="float32", num_classes=100)
BATCHES_PER_EPOCH = 3
COMMAND = "python3 runtime_preprocessing.py --epoch_end=4"


class CountingBuffer(BatchBuffer):
    """Counts the batches that were read."""

    num_read = 0

    def read(self, position, spec):
        batch = super().read(position, spec)
        self.num_read += 1
        return batch


@pytest.fixture
def buffer(tmp_path):
    return CountingBuffer(tmp_path)


@pytest.fixture
def impatient(monkeypatch):
    """Makes every wait a long one, so that it is told."""
    monkeypatch.setattr(reader, "_SPEAK_AFTER_SECONDS", -1.0)
    monkeypatch.setattr(reader, "_LOOK_SECONDS", 0.001)


def write(buffer, step):
    """Writes a batch whose images and labels are its step."""
    images = np.full((2, 3, 3, 3), step, np.float32)
    position = to_position(step, BATCHES_PER_EPOCH)
    buffer.write(position, images, np.full(2, step, np.int32))


def patience():
    """Returns a should_stop that fails the test instead of waiting for ever."""
    looks = iter(range(200))

    def should_stop():
        assert next(looks, None) is not None, "the batch does not come"
        return False

    return should_stop


def make_reader(buffer, steps, *, notify=lambda line: None, **changes) -> BatchReader:
    options = {
        "batches_per_epoch": BATCHES_PER_EPOCH,
        "read_ahead": 2,
        "sleep_seconds": 0.001,
        "is_buffer_ready": lambda: True,
        "should_stop": patience(),
        "how_to_start": COMMAND,
    }
    return BatchReader(buffer, SPEC, steps, notify=notify, **{**options, **changes})


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
            # Two in the queue, and one in the hand of the thread that puts it there.
            assert buffer.num_read <= batch.step + 1 + 2 + 1


def test_no_steps_no_batches(buffer):
    with make_reader(buffer, range(5, 5)) as batches:
        assert list(batches) == []


def test_waits_for_a_batch_that_appears_later(buffer, impatient):
    write(buffer, 0)
    said = []

    def notify(line):
        said.append(line)
        if line.startswith("waiting"):
            write(buffer, 1)

    with (
        locks.exclusive_role(buffer.folder, locks.PREPROCESSOR),
        make_reader(buffer, range(2), notify=notify) as batches,
    ):
        first, second = batches
    assert_is(first, 0)
    assert_is(second, 1)
    assert said[-2] == f"waiting for the next batch in {buffer.folder}"
    assert said[-1].startswith("waited ")
    assert said[-1].endswith(" s")
    assert batches.waited_seconds > 0


def test_labels_without_images_are_waited_for_too(buffer, impatient):
    write(buffer, 0)
    images = buffer.images_path(to_position(0, BATCHES_PER_EPOCH))
    hidden = images.rename(images.with_name("hidden"))
    with make_reader(
        buffer, range(1), notify=lambda line: hidden.exists() and hidden.rename(images)
    ) as batches:
        assert_is(next(batches), 0)


def test_says_once_how_to_start_an_absent_preprocessor(buffer, impatient):
    said, stop = [], threading.Event()

    def notify(line):
        said.append(line)
        if COMMAND in line:
            stop.set()

    with make_reader(
        buffer, range(1), notify=notify, should_stop=stop.is_set
    ) as batches:
        assert list(batches) == []
    assert said == [
        f"waiting for the next batch in {buffer.folder}",
        "runtime_preprocessing.py is not running; start it in another terminal:\n"
        f"    {COMMAND}",
    ]


def test_a_preprocessor_that_goes_is_told_once_each_time(buffer):
    said = []
    reader = make_reader(buffer, range(1), notify=said.append)
    for _ in range(2):
        with locks.exclusive_role(buffer.folder, locks.PREPROCESSOR):
            reader.check_preprocessor()
        for _ in range(3):
            reader.check_preprocessor()
    assert len(said) == 2
    assert all(COMMAND in line for line in said)


def test_living_preprocessor_is_not_called_absent(buffer, impatient):
    said, looks = [], []

    def should_stop():
        looks.append(None)
        return len(looks) > 20

    with (
        locks.exclusive_role(buffer.folder, locks.PREPROCESSOR),
        make_reader(
            buffer, range(1), notify=said.append, should_stop=should_stop
        ) as batches,
    ):
        assert list(batches) == []
    assert said == [f"waiting for the next batch in {buffer.folder}"]


def test_short_waits_are_not_told(buffer):
    said = []
    for step in range(3):
        write(buffer, step)
    with make_reader(buffer, range(3), notify=said.append) as batches:
        assert len(list(batches)) == 3
    assert said == []


def test_nothing_is_read_before_the_buffer_is_ready(buffer):
    write(buffer, 0)
    answers = iter([False, False, True, True])
    num_read_when_asked = []

    def is_ready():
        num_read_when_asked.append(buffer.num_read)
        return next(answers)

    with make_reader(buffer, range(1), is_buffer_ready=is_ready) as batches:
        assert_is(next(batches), 0)
    assert num_read_when_asked == [0, 0, 0, 1]


def test_batch_of_other_settings_is_not_delivered(buffer):
    """A preprocessor replaces the manifest between the question and the reading."""
    write(buffer, 0)

    def is_ready():
        if buffer.num_read:
            raise ManifestError("seed is 99 there and 0 here")
        return True

    with (
        make_reader(buffer, range(1), is_buffer_ready=is_ready) as batches,
        pytest.raises(ManifestError),
    ):
        next(batches)


def test_damaged_batch_is_deleted_once_to_be_made_anew(buffer):
    said = []
    for step in range(2):
        write(buffer, step)
    damaged = buffer.images_path(to_position(1, BATCHES_PER_EPOCH))
    damaged.write_bytes(b"")

    delete = buffer.delete

    def delete_and_make_anew(position):
        delete(position)
        assert position not in buffer.present()
        write(buffer, 1)

    buffer.delete = delete_and_make_anew
    with make_reader(buffer, range(2), notify=said.append) as batches:
        for step, batch in enumerate(batches):
            assert_is(batch, step)
    assert len(said) == 1
    assert said[0].startswith(f"{damaged}: ")
    assert said[0].endswith("; deleted, to be made anew")


def test_batch_that_is_damaged_twice_raises_after_what_was_read(buffer):
    for step in range(2):
        write(buffer, step)
    damaged = buffer.images_path(to_position(1, BATCHES_PER_EPOCH))
    damaged.write_bytes(b"")
    buffer.delete = lambda position: None  # As if it were made wrong again.
    with make_reader(buffer, range(2)) as batches:
        assert_is(next(batches), 0)
        with pytest.raises(BatchFileError) as caught:
            next(batches)
    assert str(damaged) in str(caught.value)


def test_raises_what_the_readiness_check_raises(buffer):
    def is_ready():
        raise ValueError("other settings")

    with (
        make_reader(buffer, range(1), is_buffer_ready=is_ready) as batches,
        pytest.raises(ValueError, match="other settings"),
    ):
        next(batches)


@pytest.mark.parametrize("num_written", [0, 1, 20], ids="{} written".format)
def test_leaving_the_block_ends_the_thread(buffer, num_written):
    """While it waits for a batch, and while it waits for room in its queue."""
    for step in range(num_written):
        write(buffer, step)
    threads = set(threading.enumerate())
    with make_reader(buffer, range(20), read_ahead=1) as batches:
        if num_written:
            assert_is(next(batches), 0)
        assert set(threading.enumerate()) > threads
    assert set(threading.enumerate()) == threads


def test_leaving_the_block_ends_the_wait_for_a_buffer(buffer):
    asked = threading.Event()

    def is_ready():
        asked.set()
        return False

    threads = set(threading.enumerate())
    with make_reader(buffer, range(1), is_buffer_ready=is_ready):
        asked.wait()
    assert set(threading.enumerate()) == threads


def test_stops_when_told_even_with_batches_at_hand(buffer):
    stop = threading.Event()
    for step in range(5):
        write(buffer, step)
    with make_reader(buffer, range(5), should_stop=stop.is_set) as batches:
        assert_is(next(batches), 0)
        stop.set()
        assert list(batches) == []


def test_a_waiting_trainer_keeps_its_place_and_says_where_it_is(buffer):
    """From the first look on, and while the wait is too short to be told."""
    kept = []

    def keep_place(position):
        kept.append(position)
        if len(kept) > 2:
            write(buffer, 1)

    write(buffer, 0)
    with make_reader(buffer, range(2), keep_place=keep_place) as batches:
        assert_is(next(batches), 0)
        batches.check_preprocessor()
        assert_is(next(batches), 1)
    assert kept[:3] == [to_position(1, BATCHES_PER_EPOCH)] * 3


def test_what_keeping_the_place_raises_ends_the_iteration(buffer):
    def keep_place(position):
        raise locks.AlreadyRunningError("train.py already runs here")

    with (
        make_reader(buffer, range(1), keep_place=keep_place) as batches,
        pytest.raises(locks.AlreadyRunningError),
    ):
        next(batches)


@pytest.mark.parametrize("is_alive", [True, False])
def test_what_the_thread_waits_for_is_counted_by_its_cause(
    buffer, monkeypatch, is_alive
):
    monkeypatch.setattr(locks, "is_locked", lambda folder, role: is_alive)
    subject = make_reader(buffer, range(1))
    subject.check_preprocessor()
    write_later = threading.Timer(0.1, write, (buffer, 0))
    write_later.start()
    with subject:
        assert [batch.step for batch in subject] == [0]
    write_later.join()
    assert subject.reading_seconds > 0
    counters = [subject.unattended_seconds, subject.absent_seconds]
    assert counters[is_alive] > 0
    assert counters[not is_alive] == 0
