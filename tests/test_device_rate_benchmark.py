"""Proves that the stand-in of benchmarks/device_rate.py is no faster than its rate."""

import pytest

from benchmarks import device_rate
from resnet50.handoff.buffer import BatchBuffer, BatchSpec
from resnet50.handoff.progress import Position


@pytest.fixture(params=["float16", "uint8"])
def spec(request):
    return BatchSpec(2, 8, request.param, device_rate.NUM_CLASSES)


@pytest.fixture
def buffer(tmp_path, spec, monkeypatch):
    monkeypatch.setattr(device_rate, "NUM_IMAGES", 24 * spec.batch_size)
    buffer = BatchBuffer(tmp_path)
    device_rate.write_batches(buffer, spec, 40)
    return buffer


def test_a_device_takes_no_more_than_its_rate(buffer, spec):
    rate = 500
    result = device_rate.measure(buffer, spec, spec.batch_size / rate, 40)
    # The sum of the intervals is rounded.
    assert 0 < result.images_per_second <= 1.0001 * rate
    assert 0 <= result.waiting <= 1
    assert min(result.reader_busy, result.placer_busy) > 0


def test_links_have_the_content_of_the_files(buffer, spec):
    first, again = (
        buffer.read(Position(0, index), spec)
        for index in (3, 3 + device_rate.num_files(spec))
    )
    assert first.labels.tolist() == again.labels.tolist()
    assert (first.images == again.images).all()


def test_the_device_s_memory_holds_the_batch_that_was_placed(spec):
    memory = device_rate.Memory(spec)
    images = memory._slots[0] + 3
    for step in range(4):
        batch = device_rate.Batch(step, Position(0, step), images + step, None, None)
        assert memory.place(batch) == spec.batch_size
    assert [slot.flat[0] for slot in memory._slots] == [7, 5, 6]
