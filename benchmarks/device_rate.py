r"""Measures whether the trainer's threads keep up with fast GPUs, without one.

    python3 -m benchmarks.device_rate [--seconds 10] [--rates 1200 2500 4300]
    python3 -m benchmarks.device_rate --num_gpus=8 --rates 20000 \
        --batch_sizes 256 512 1024 2048 --threads 1 2 4 8

Batches of 224-pixel images lie ready in /dev/shm. The real BatchReader reads and checks
them, a large file in parts by several threads. For one GPU its Placer copies each into
memory that stands for the device's; several GPUs fetch their parts themselves. A
stand-in for the GPUs takes a batch at a rate and sleeps meanwhile; the last rate is as
fast as possible. Then numpy.load reads the same files, in as many threads, and checks
nothing. With --tensors, TensorFlow makes tensors of batches on the CPU, which train.py
does before a batch crosses PCI Express.

No GPU takes part, and nothing writes batches. It needs 2 GB in /dev/shm, and 4 GB for
batches of 2,048.
"""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from resnet50.handoff import locks, npy_file
from resnet50.handoff.buffer import BatchBuffer, BatchSpec
from resnet50.handoff.lost_folder import TrainerFiles
from resnet50.handoff.manifest import write_manifest
from resnet50.handoff.progress import Position, StepRange
from resnet50.handoff.reader import Batch, BatchReader, BatchSource, ReaderSettings
from resnet50.observer import Observer

NUM_CLASSES = 1000
MANIFEST = {"format": "device_rate"}
READ_AHEAD = 4  # As shipped.
# Different images, so many that they do not stay in the processor's cache.
NUM_IMAGES = 24 * 256
# Two batches that wait on the device, and the one that its step uses.
NUM_SLOTS = 3


class Result(NamedTuple):
    """What the device got, and the work of the threads."""

    images_per_second: float
    waiting: float  # share of the time
    reader_busy: float  # share of the time
    placer_busy: float
    cpu: float  # seconds of processor time for a batch, of all threads


class Memory:
    """Memory that stands for the device's."""

    def __init__(self, spec: BatchSpec):
        shape = (NUM_SLOTS, spec.batch_size, spec.crop_size, spec.crop_size, 3)
        self._slots = np.ones(shape, spec.dtype)  # Written: a device clears no pages.
        self.busy_seconds = 0.0

    def place(self, batch: Batch) -> int:
        """Copies a batch; returns the number of its images."""
        started = time.monotonic()
        np.copyto(self._slots[batch.step % NUM_SLOTS], batch.images)
        self.busy_seconds += time.monotonic() - started
        return len(batch.images)


class HostMemory:
    """The host's memory, from which each of several GPUs fetches its part."""

    busy_seconds = 0.0

    def place(self, batch: Batch) -> int:
        """Returns the number of images."""
        return len(batch.images)


def num_files(spec: BatchSpec) -> int:
    """How many different batches there are."""
    return max(4, NUM_IMAGES // spec.batch_size)


def write_batches(buffer: BatchBuffer, spec: BatchSpec, num_batches: int) -> None:
    """Writes ``num_files`` batches, and hard links to them for the others."""
    rng = np.random.default_rng(0)
    shape = (spec.batch_size, spec.crop_size, spec.crop_size, 3)
    levels = rng.integers(0, 256, shape, np.uint8)
    for index in range(num_batches):
        position = Position(0, index)
        first = Position(0, index % num_files(spec))
        if first != position:
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
    buffer: BatchBuffer,
    spec: BatchSpec,
    interval: float,
    num_batches: int,
    num_gpus: int = 1,
) -> Result:
    """Takes batches like a device whose step lasts ``interval`` seconds.

    As on a GPU, the next batch is taken while the step of the last one still runs.
    """
    source = BatchSource(buffer, spec, MANIFEST)
    memory = Memory(spec) if num_gpus == 1 else HostMemory()
    with (
        locks.exclusive_role(buffer.folder, locks.TRAINER) as role,
        BatchReader(
            source,
            StepRange(0, num_batches, num_batches),
            ReaderSettings(READ_AHEAD, sleep_seconds=0.1, how_to_start=""),
            TrainerFiles(role, Observer(), writes_progress=False),
            Observer(),
            should_stop=lambda: False,
            place=memory.place,
        ) as reader,
    ):
        next(reader)
        time.sleep(20 * interval)  # The first step is long: it compiles the network.
        reader.waited_seconds = reader.reading_seconds = memory.busy_seconds = 0.0
        started = is_free_at = time.monotonic()
        cpu_started = time.process_time()
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
        (time.process_time() - cpu_started) * spec.batch_size / num_images,
    )


def load_plainly(buffer: BatchBuffer, spec: BatchSpec, num_threads: int) -> float:
    """Images/s of numpy.load in threads, which checks nothing."""
    paths = [buffer.images_path(Position(0, i)) for i in range(num_files(spec))]
    with ThreadPoolExecutor(num_threads) as pool:
        started = time.monotonic()
        for _ in range(2):
            for _ in pool.map(lambda path: len(np.load(path)), paths):
                pass
        return 2 * len(paths) * spec.batch_size / (time.monotonic() - started)


def tensor_seconds(buffer: BatchBuffer, spec: BatchSpec) -> float:
    """Processor time in which TensorFlow turns a batch into tensors on the CPU."""
    # Here, as TensorFlow's threads would disturb the other measurements.
    import tensorflow as tf

    from resnet50.training.devices.protocol import ONE_DEVICE

    tf.config.set_visible_devices([], "GPU")
    source, times = BatchSource(buffer, spec, MANIFEST), []
    for index in range(num_files(spec)):
        batch = source.read(Position(0, index))
        started = time.process_time()
        ONE_DEVICE.to_device(*batch)
        times.append(time.process_time() - started)
    return sorted(times)[len(times) // 2]


def rows(
    folder: Path, spec: BatchSpec, num_threads: int, args: argparse.Namespace
) -> Iterator[str]:
    """Measures at each rate, the last time as fast as possible."""
    buffer = BatchBuffer(folder)
    most = math.ceil(args.seconds * max(args.rates) / spec.batch_size)
    most = max(num_files(spec), most)
    write_batches(buffer, spec, most)
    start = f"{spec.batch_size:5}  {spec.dtype:7}  {num_threads:7}"
    for rate in [*args.rates, math.inf]:
        num_batches = math.ceil(min(most, args.seconds * rate / spec.batch_size))
        result = measure(
            buffer, spec, spec.batch_size / rate, num_batches, args.num_gpus
        )
        reached = result.images_per_second
        share = f"{reached / rate:.3f}" if rate < math.inf else f"{reached:.0f}"
        yield (
            f"{start}  {rate:8.0f}  {share:>7}  {result.waiting:7.1%}  "
            f"{result.reader_busy:6.0%}  {result.placer_busy:6.0%}  "
            f"{1000 * result.cpu:6.1f}"
        )
    plain = load_plainly(buffer, spec, num_threads)
    yield f"{start}  numpy.load: {plain:.0f} images/s, ours {reached / plain:.2f} x"
    if args.tensors:
        milliseconds = 1000 * tensor_seconds(buffer, spec)
        yield f"{start}  tensors on the CPU: {milliseconds:.2f} ms"


def main() -> None:
    """Prints a row for each kind of batch, number of threads and rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rates", type=float, nargs="+", default=[1200, 2500, 4300])
    parser.add_argument("--num_gpus", type=int, default=1)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[256])
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[npy_file.MAX_PARTS],
        help="the most threads that read a file",
    )
    parser.add_argument("--tensors", action="store_true")
    args = parser.parse_args()
    print(
        "batch  dtype    threads  images/s  reached  waiting  reader  placer  CPU, ms"
    )
    for batch_size in args.batch_sizes:
        for dtype in ("float16", "uint8"):
            for num_threads in args.threads:
                spec = BatchSpec(batch_size, 224, dtype, NUM_CLASSES)
                with (
                    tempfile.TemporaryDirectory(
                        dir="/dev/shm", prefix="device_rate-"
                    ) as name,
                    mock.patch.object(npy_file, "MAX_PARTS", num_threads),
                ):
                    for row in rows(Path(name), spec, num_threads, args):
                        print(row, flush=True)


if __name__ == "__main__":
    main()
