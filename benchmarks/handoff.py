"""Measures the hand-off between the two processes: start, workers, waiting, reading.

    python3 -m benchmarks.handoff [--images DIR] [--seconds 20]

Runs the real runtime_preprocessing.py, with the shipped settings, into a buffer in
/dev/shm. A simulated trainer takes batches at a fixed rate. Compare only figures of the
same run.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import tomlkit

from benchmarks.photographs import scratch_with_images
from resnet50.config.settings import Config
from resnet50.config.toml_file import read_config
from resnet50.dataset.decoding import decode_pixels, decode_rgb
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_training_set
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.lost_folder import TrainerFiles
from resnet50.handoff.npy_file import RecycledMemory
from resnet50.handoff.progress import Position, StepRange, to_position, write_progress
from resnet50.handoff.reader import BatchReader, BatchSource, ReaderSettings
from resnet50.observer import Observer
from resnet50.preprocessing.batches import BatchSettings
from resnet50.preprocessing.channel_stats import sum_levels

PROJECT = Path(__file__).parent.parent
NUM_IMAGES = 1000
EPOCHS = 1000  # So many that no run ends.


class Bench:
    """A dataset of 1,000 images and a configuration, in a scratch folder."""

    program = ("runtime_preprocessing.py",)

    def __init__(self, scratch: Path, images: list[Path], buffer_size: int, **train):
        for index in range(NUM_IMAGES):
            source = images[index % len(images)]
            path = scratch / "images" / f"class{index % 10}" / f"{index}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, path)
        document = tomlkit.parse((PROJECT / "config.txt").read_text("utf-8"))
        document["dataset"]["training_images"] = "images"
        document["train"].update(
            {"buffer_size": buffer_size, "epochs": EPOCHS, **train}
        )
        document["runtime_preprocessing"]["sleep_time"] = 0.2
        self.path = scratch / "config.txt"
        self.path.write_text(tomlkit.dumps(document), "utf-8")
        self.config: Config = read_config(self.path)
        self.dataset: Dataset = open_training_set(self.config.dataset, None)
        self.buffer = BatchBuffer(self.config.train.buffer_folder)
        self.batch_size = self.config.train.batch_size
        self.batches_per_epoch = self.dataset.batches_per_epoch(self.batch_size)

    @contextlib.contextmanager
    def preprocessor(self, num_workers: int) -> Iterator[subprocess.Popen]:
        """Runs runtime_preprocessing.py on an empty buffer."""
        shutil.rmtree(self.buffer.folder, ignore_errors=True)
        command = [
            sys.executable,
            *self.program,
            f"--config={self.path}",
            f"--num_workers={num_workers}",
        ]
        process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()

    def num_ready(self) -> int:
        """Batches in the buffer."""
        folder = self.buffer.folder
        return len(list(folder.glob("images_*.npy"))) if folder.exists() else 0

    def wait_for(self, number: int) -> float:
        """Waits until a number of batches is ready; returns the time, seconds."""
        while self.num_ready() < number:
            time.sleep(0.005)
        return time.monotonic()


class Memory(NamedTuple):
    """The memory of a process, MB."""

    resident: float
    own: float  # not shared with other processes, as the code of libraries is


def worker_memory(owner: int) -> Memory:
    """The memory of the largest of a process's workers."""
    found = [Memory(0, 0)]
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (folder / "status").read_text()
            command = (folder / "cmdline").read_bytes()
            if f"\nPPid:\t{owner}\n" in status and b"spawn_main" in command:
                fields = (folder / "smaps_rollup").read_text().splitlines()[1:]
                kibibytes = {
                    name: int(size) for name, size, _ in map(str.split, fields)
                }
                own = kibibytes["Private_Clean:"] + kibibytes["Private_Dirty:"]
                resident = kibibytes["Rss:"]
                found.append(Memory(resident * 1024 / 1e6, own * 1024 / 1e6))
    return max(found)


def measure_start(bench: Bench, scratch: Path) -> None:
    """Prints the seconds from the start of the script to its first batch, twice.

    The first start on a machine compiles the loops over pixels.
    """
    os.environ["NUMBA_CACHE_DIR"] = str(scratch / "numba")
    for name in "first start on a machine", "first batch on disk after":
        started = time.monotonic()
        with bench.preprocessor(2):
            first = bench.wait_for(1)
        print(f"{name:30} {first - started:7.2f} s  (target: below 3)")


def measure_capacity(bench: Bench, num_workers: int, seconds: float):
    """Batches per second that nobody takes, and a worker's memory."""
    with bench.preprocessor(num_workers) as process:
        started = bench.wait_for(2 * num_workers)
        before = bench.num_ready()
        time.sleep(seconds)
        made, now = bench.num_ready() - before, time.monotonic()
        return made / (now - started), worker_memory(process.pid)


def measure_workers(bench: Bench, seconds: float) -> None:
    """Prints one worker's and two workers' speed."""
    speeds = {}
    for num_workers in (1, 2, 2, 1):
        speed, memory = measure_capacity(bench, num_workers, seconds)
        speeds.setdefault(num_workers, []).append(speed)
    one, two = (sum(speeds[n]) / 2 for n in (1, 2))
    size = bench.batch_size
    print(f"one worker                     {one * size:7.0f} images/s")
    print(f"two workers                    {two * size:7.0f} images/s")
    print(f"two workers / one              {two / one:7.2f}    (target: 1.9)")
    print(
        f"memory of a worker             {memory.resident:7.0f} MB (target: below 200)"
    )
    print(f"not shared with the others     {memory.own:7.0f} MB")


def take_batches(
    bench: Bench, seconds: float, interval: float, meet: Callable = lambda: None
) -> tuple[float, float]:
    """Takes batches like a trainer whose step lasts a fixed time.

    Args:
        bench: Its preprocessor runs.
        seconds: For how long.
        interval: Length of a step, seconds.
        meet: Called before each step, to wait for other hosts; this is waiting, too.

    Returns:
        Batches per second, and the share of the time spent waiting.
    """
    settings = BatchSettings.from_config(bench.config)
    spec, manifest = settings.spec(bench.dataset), settings.manifest(bench.dataset)
    train, num_batches = bench.config.train, bench.batches_per_epoch
    with (
        locks.exclusive_role(bench.buffer.folder, locks.TRAINER) as role,
        BatchReader(
            BatchSource(bench.buffer, spec, manifest),
            StepRange(0, EPOCHS * num_batches, num_batches),
            ReaderSettings(train.read_ahead, train.sleep_time, how_to_start=""),
            TrainerFiles(role, Observer(), writes_progress=False),
            Observer(),
            should_stop=lambda: False,
        ) as reader,
    ):
        write_progress(bench.buffer.folder, Position(0, 0))
        next(reader)  # Waits for the preprocessor to start.
        meet()
        time.sleep(interval)  # One step, during which the reader reads ahead.
        waited, taken = 0.0, 0
        started = time.monotonic()
        while (now := time.monotonic()) < started + seconds:
            batch = next(reader)
            meet()
            waited += time.monotonic() - now
            position = to_position(batch.step + 1, bench.batches_per_epoch)
            write_progress(bench.buffer.folder, position)
            taken += 1
            # Every step takes the interval, including the time spent waiting.
            time.sleep(max(0.0, now + interval - time.monotonic()))
        total = time.monotonic() - started
    return taken / total, waited / total


def measure_handoff(bench: Bench, seconds: float) -> None:
    """Prints waiting at half of the workers' capacity, and throughput at twice of it.

    One core is left for the trainer, as config.txt advises. The capacity is measured
    before and after, because the speed of a shared machine drifts.
    """
    num_workers = max(1, (os.cpu_count() or 2) - 1)
    waits, shares = [], []
    capacity, _ = measure_capacity(bench, num_workers, seconds)
    for _ in range(3):
        with bench.preprocessor(num_workers):
            bench.wait_for(8)
            _, waiting = take_batches(bench, seconds, 2 / capacity)
        with bench.preprocessor(num_workers):
            bench.wait_for(1)
            speed, _ = take_batches(bench, seconds, 0.5 / capacity)
        before = capacity
        capacity, _ = measure_capacity(bench, num_workers, seconds)
        waits.append(waiting)
        shares.append(2 * speed / (before + capacity))
    waiting, share = sorted(waits)[1], sorted(shares)[1]
    print(f"workers, cores less one        {num_workers:7}")
    print(f"waiting, trainer at half       {waiting:7.2%}    (target: below 0.5 %)")
    print(f"throughput, trainer at twice   {share:7.2f}    (target: 0.97 of capacity)")


def measure_reader(bench: Bench) -> None:
    """Prints the reader's speed against plain reads of the same files.

    In processor time, because the files are in memory.
    """
    number, ratios, memory = 16, [], RecycledMemory()
    with bench.preprocessor(2):
        bench.wait_for(number)
    spec = BatchSettings.from_config(bench.config).spec(bench.dataset)
    positions = [to_position(s, bench.batches_per_epoch) for s in range(number)]
    for _ in range(15):
        started = time.process_time()
        for position in positions:
            bench.buffer.images_path(position).read_bytes()
            bench.buffer.labels_path(position).read_bytes()
        middle = time.process_time()
        for position in positions:
            bench.buffer.read(position, spec, memory.empty)
        ratios.append((middle - started) / (time.process_time() - middle))
    ratio = sorted(ratios)[len(ratios) // 2]
    print(f"reader / plain file reads      {ratio:7.2f}    (target: 0.8)")


def measure_channel_stats(bench: Bench) -> None:
    """Prints the speed of summing levels, relative to decoding alone."""
    sources = bench.dataset.sources(range(200))
    ratios = {"Pillow's": [], "our": []}
    for _ in range(5):
        for name, decode in zip(ratios, (decode_rgb, decode_pixels)):
            started = time.process_time()
            for source in sources:
                decode(source)
            middle = time.process_time()
            sum_levels(sources)
            ratios[name].append((middle - started) / (time.process_time() - middle))
    for name, values in ratios.items():
        what = f"statistics / {name} decoding"
        print(f"{what:30} {sorted(values)[2]:7.2f}    (target: 0.9)")


def main() -> None:
    """Prepares the images and measures one thing after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="default: generated photographs")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    args = parser.parse_args()
    with scratch_with_images(args.images, 200) as (scratch, images):
        room = shutil.disk_usage(scratch).free // 20_000_000 - 20
        bench = Bench(scratch, images, buffer_size=max(20, min(400, room)))
        measure_start(bench, scratch)
        measure_workers(bench, args.seconds)
        measure_handoff(bench, args.seconds)
        measure_reader(bench)
        measure_channel_stats(bench)


if __name__ == "__main__":
    main()
