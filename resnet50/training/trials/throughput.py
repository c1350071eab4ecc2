"""Trials of speed: of the step, of copies to the device, and through batch files."""

import functools
import math
import resource
import tempfile
from concurrent.futures import Future
from pathlib import Path

import tensorflow as tf

from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer, BatchSpec, StoredBatch
from resnet50.handoff.lost_folder import TrainerFiles
from resnet50.handoff.manifest import write_manifest
from resnet50.handoff.npy_file import RecycledMemory
from resnet50.handoff.placer import Placer
from resnet50.handoff.progress import Position, StepRange
from resnet50.handoff.reader import Batch, BatchReader, BatchSource, ReaderSettings
from resnet50.observer import Observer
from resnet50.training.devices.page_locked import find_allocator
from resnet50.training.trials.subject import Subject, seconds_of
from resnet50.training.update.step import Training


def _repeat(training: Training, arguments: tuple, num_steps: int) -> None:
    for _ in range(num_steps):
        training.step(*arguments)


def _warm_up(subject: Subject, seconds: float) -> tuple[Training, tuple, int]:
    """Makes some steps. The first traces and compiles, the second may still allocate.

    Returns the training, its batch on the device, and how many steps take so long.
    """
    training = subject.create()
    arguments = training.place(*subject.random_batch())
    _repeat(training, arguments, 2)
    step_seconds = seconds_of(lambda: _repeat(training, arguments, 3)) / 3
    return training, arguments, max(3, math.ceil(seconds / step_seconds))


def peak_device_bytes(device: str) -> int:
    """The most memory so far: the card's, or this process's on a CPU."""
    if device.startswith("GPU"):
        return tf.config.experimental.get_memory_info(device)["peak"]
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_step(subject: Subject, seconds: float) -> dict:
    """Images/s and peak memory with a batch that stays on the device."""
    subject.set_up()
    with subject.scope():
        training, arguments, num_steps = _warm_up(subject, seconds)
        run = functools.partial(_repeat, training, arguments, num_steps)
        shortest = min(seconds_of(run) for _ in range(2))
    return {
        "images_per_second": num_steps * subject.batch_size / shortest,
        "peak_bytes": peak_device_bytes(subject.device),
    }


def measure_copy(subject: Subject, seconds: float) -> dict:
    """Seconds of a batch's copy, of a step, and of both at once by a Placer."""
    subject.set_up()
    random_images, *others = subject.random_batch()
    memory = RecycledMemory(find_allocator())
    images = memory.empty(random_images.shape, random_images.dtype)
    images[:] = random_images
    batch = images, *others

    def copy() -> None:
        for _ in range(num_steps):
            training.place(*batch)

    def step_and_copy() -> None:
        placer = Placer(lambda batch: training.place(*batch))
        read: Future = Future()
        read.set_result(batch)
        placer.start()
        for placed in [placer.submit(read) for _ in range(num_steps)]:
            training.step(*placer.take(placed))
        placer.stop()

    with subject.scope():
        training, arguments, num_steps = _warm_up(subject, seconds)
        copy()
        copied = seconds_of(copy) / num_steps
        run = functools.partial(_repeat, training, arguments, num_steps)
        stepped = seconds_of(run) / num_steps
        both = seconds_of(step_and_copy) / num_steps
    # All that can be hidden of the longer one is the other.
    hidden = (copied + stepped - both) / min(copied, stepped)
    return {
        "copy_seconds": copied,
        "step_seconds": stepped,
        "both_seconds": both,
        "batch_bytes": sum(a.nbytes for a in batch if a is not None),
        "hidden": min(1.0, max(0.0, hidden)),
    }


class _RepeatedSource(BatchSource):
    """Delivers some batches of epoch 0 again and again."""

    num_batches = 1

    def read(self, position: Position) -> StoredBatch:
        return super().read(Position(0, position.batch_index % self.num_batches))


def measure_files(
    subject: Subject, folder: str, seconds: float, num_files: int
) -> dict:
    """Images/s through batch files, reader and placer, over those of resident ones.

    The files are in a new folder in ``folder``, and are read again and again.
    """
    subject.set_up()
    spec = BatchSpec(
        subject.batch_size, subject.crop_size, subject.image_dtype, subject.num_classes
    )
    with subject.scope(), tempfile.TemporaryDirectory(dir=folder) as name:
        buffer = BatchBuffer(Path(name))
        write_manifest(buffer.folder, {})
        for index in range(num_files):
            images, labels, shifts, numbers = subject.random_batch(index)
            buffer.write(Position(0, index), images, labels, shifts)
        source = _RepeatedSource(buffer, spec, {})
        source.num_batches = num_files
        source.read_into(find_allocator())
        training, arguments, num_steps = _warm_up(subject, seconds)

        def place(batch: Batch) -> tuple:
            return training.place(batch.images, batch.labels, batch.shifts, numbers)

        def train() -> None:
            with (
                locks.exclusive_role(buffer.folder, locks.TRAINER) as role,
                BatchReader(
                    source,
                    StepRange(0, num_steps, num_steps),
                    ReaderSettings(subject.train["read_ahead"], 0.01, how_to_start=""),
                    TrainerFiles(role, Observer(), writes_progress=False),
                    Observer(),
                    should_stop=lambda: False,
                    place=place,
                ) as reader,
            ):
                for placed in reader:
                    training.step(*placed)

        run = functools.partial(_repeat, training, arguments, num_steps)
        resident = min(seconds_of(run) for _ in range(2))
        from_files = min(seconds_of(train) for _ in range(2))
    images = num_steps * subject.batch_size
    return {
        "resident_images_per_second": images / resident,
        "file_images_per_second": images / from_files,
        "ratio": resident / from_files,
        "batch_file_bytes": spec.batch_bytes,
    }
