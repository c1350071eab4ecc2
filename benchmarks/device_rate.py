"""Measures whether the trainer's threads keep up with a fast GPU, without one.

    python3 -m benchmarks.device_rate [--seconds 10] [--rates 1200 2500 4300]

Batches of 256 images of 224 pixels lie ready in /dev/shm. The real BatchReader reads
and checks them. Its Placer copies each into memory that stands for the device's. A
stand-in for the device takes one every 256 / rate seconds and sleeps meanwhile; the
last rate is as fast as possible. Then TensorFlow makes tensors of batches on the CPU,
which train.py does before a batch crosses PCI Express.

No GPU takes part, and nothing writes batches. It needs 3 GB in /dev/shm.
"""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer, BatchSpec, StoredBatch
from resnet50.handoff.lost_folder import TrainerFiles
from resnet50.handoff.manifest import write_manifest
from resnet50.handoff.progress import Position, StepRange
from resnet50.handoff.reader import Batch, BatchReader, BatchSource, ReaderSettings
from resnet50.observer import Observer

NUM_CLASSES = 1000
MANIFEST = {"format": "device_rate"}
READ_AHEAD = 4  # As shipped.
# So many different files that they do not stay in the processor's cache.
NUM_FILES = 24
# Two batches that wait on the device, and the one that its step uses.
NUM_SLOTS = 3


class Result(NamedTuple):
    """What the device got, and the work of the two threads."""

    images_per_second: float
    waiting: float  # share of the time
    reader_busy: float  # share of the time
    placer_busy: float
    reader_cpu: float  # seconds of processor time for a batch
    placer_cpu: float


class TimedSource(BatchSource):
    """A BatchSource that knows its processor time."""

    cpu_seconds = 0.0
    num_read = 0

    def read(self, position: Position) -> StoredBatch:
        """Reads and checks a batch."""
        started = time.thread_time()
        batch = super().read(position)
        self.cpu_seconds += time.thread_time() - started
        self.num_read += 1
        return batch


class Memory:
    """Memory that stands for the device's."""

    def __init__(self, spec: BatchSpec):
        shape = (NUM_SLOTS, spec.batch_size, spec.crop_size, spec.crop_size, 3)
        self._slots = np.ones(shape, spec.dtype)  # Written: a device clears no pages.
        self.busy_seconds = self.cpu_seconds = 0.0
        self.num_placed = 0

    def place(self, batch: Batch) -> int:
        """Copies a batch; returns the number of its images."""
        started, cpu_started = time.monotonic(), time.thread_time()
        np.copyto(self._slots[batch.step % NUM_SLOTS], batch.images)
        self.cpu_seconds += time.thread_time() - cpu_started
        self.busy_seconds += time.monotonic() - started
        self.num_placed += 1
        return len(batch.images)


def write_batches(buffer: BatchBuffer, spec: BatchSpec, num_batches: int) -> None:
    """Writes NUM_FILES batches, and hard links to them for the others."""
    rng = np.random.default_rng(0)
    shape = (spec.batch_size, spec.crop_size, spec.crop_size, 3)
    levels = rng.integers(0, 256, shape, np.uint8)
    for index in range(num_batches):
        position, first = Position(0, index), Position(0, index % NUM_FILES)
        if index >= NUM_FILES:
            os.link(buffer.images_path(first), buffer.images_path(position))
            os.link(buffer.labels_path(first), buffer.labels_path(position))
            continue
        labels = rng.integers(0, NUM_CLASSES, spec.batch_size)
        shifts = None
        if spec.dtype == "uint8":
            shifts = rng.normal(size=(spec.batch_size, 3))
        images = levels.astype(spec.dtype, copy=False)
        buffer.write(position, images, labels.astype(np.int32), shifts)
    write_manifest(buffer.folder, MANIFEST)


def measure(
    buffer: BatchBuffer, spec: BatchSpec, interval: float, num_batches: int
) -> Result:
    """Takes batches like a device whose step lasts ``interval`` seconds.

    As on a GPU, the next batch is taken while the step of the last one still runs.
    """
    source, memory = TimedSource(buffer, spec, MANIFEST), Memory(spec)
    with (
        locks.exclusive_role(buffer.folder, locks.TRAINER) as role,
        BatchReader(
            source,
            StepRange(0, num_batches, num_batches),
            ReaderSettings(READ_AHEAD, sleep_seconds=0.1, how_to_start=""),
            TrainerFiles([role], Observer(), writes_progress=False),
            Observer(),
            should_stop=lambda: False,
            place=memory.place,
        ) as reader,
    ):
        next(reader)
        time.sleep(20 * interval)  # The first step is long: it compiles the network.
        reader.waited_seconds = reader.reading_seconds = memory.busy_seconds = 0.0
        started = is_free_at = time.monotonic()
        num_images = 0
        for size in reader:
            begins = max(is_free_at, time.monotonic())
            is_free_at = begins + interval
            num_images += size
            time.sleep(max(0.0, begins - time.monotonic()))
        seconds = max(is_free_at, time.monotonic()) - started
    return Result(
        num_images / seconds,
        reader.waited_seconds / seconds,
        reader.reading_seconds / seconds,
        memory.busy_seconds / seconds,
        source.cpu_seconds / source.num_read,
        memory.cpu_seconds / memory.num_placed,
    )


def results(
    buffer: BatchBuffer, spec: BatchSpec, rates: list[float], seconds: float
) -> Iterator[tuple[float, Result]]:
    """Measures at each rate, the last time as fast as possible."""
    most = max(NUM_FILES, math.ceil(seconds * max(rates) / spec.batch_size))
    write_batches(buffer, spec, most)
    for rate in [*rates, math.inf]:
        num_batches = math.ceil(min(most, seconds * rate / spec.batch_size))
        yield rate, measure(buffer, spec, spec.batch_size / rate, num_batches)


def tensor_seconds(buffer: BatchBuffer, spec: BatchSpec) -> float:
    """Processor time in which TensorFlow turns a batch into tensors on the CPU."""
    # Here, as TensorFlow's threads would disturb the other measurements.
    import tensorflow as tf

    from resnet50.training.devices.protocol import ONE_DEVICE

    tf.config.set_visible_devices([], "GPU")
    source, times = BatchSource(buffer, spec, MANIFEST), []
    for index in range(NUM_FILES):
        batch = source.read(Position(0, index))
        started = time.process_time()
        ONE_DEVICE.to_device(*batch)
        times.append(time.process_time() - started)
    return sorted(times)[NUM_FILES // 2]


def main() -> None:
    """Prints a row for each dtype and rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rates", type=float, nargs="+", default=[1200, 2500, 4300])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="device_rate-") as name:
        batches = []
        for dtype in ("float16", "uint8"):
            buffer = BatchBuffer(Path(name, dtype))
            buffer.folder.mkdir()
            batches.append((buffer, BatchSpec(256, 224, dtype, NUM_CLASSES)))
        print("dtype    images/s  reached  waiting  reader        placer")
        for buffer, spec in batches:
            for rate, result in results(buffer, spec, args.rates, args.seconds):
                reached = result.images_per_second
                share = f"{reached / rate:.3f}" if rate < math.inf else f"{reached:.0f}"
                print(
                    f"{spec.dtype:8} {rate:8.0f}  {share:>7}  {result.waiting:7.1%}  "
                    f"{result.reader_busy:4.0%} {1000 * result.reader_cpu:5.1f} ms  "
                    f"{result.placer_busy:4.0%} {1000 * result.placer_cpu:5.1f} ms",
                    flush=True,
                )
        for buffer, spec in batches:
            milliseconds = 1000 * tensor_seconds(buffer, spec)
            print(f"{spec.dtype:8} tensors on the CPU: {milliseconds:.2f} ms")


if __name__ == "__main__":
    main()
