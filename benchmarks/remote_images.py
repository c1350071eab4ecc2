"""Measures images/s from archives on a server, against a disk of the same bandwidth.

    python3 -m benchmarks.remote_images --images DIR

An HTTP server in a process of its own delays each answer and limits the bytes/s of all
connections together. Two workers read batches, or make them. A local disk of this
bandwidth would give bandwidth / bytes images/s, or the rate from files in memory if
that is lower. "warm cache" reads from the local cache, which is then in memory.
``--listing`` measures how long the images are looked for instead.
"""

import argparse
import contextlib
import io
import multiprocessing
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.environment import cpu_model, versions
from benchmarks.photographs import find_images, make_photographs
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_dataset
from resnet50.dataset.remote import range_file, store
from resnet50.dataset.remote.image_cache import CacheSettings
from resnet50.dataset.sources import ImageSource, reading_ahead
from resnet50.handoff.progress import Position
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.preprocessing.batches import (
    Assignment,
    Assignments,
    BatchSettings,
    make_batch,
)
from resnet50.preprocessing.process_pool import WorkerPool, worker_pool
from tests.dataset.remote.servers import file_server
from tests.settings import SETTINGS

NUM_WORKERS = 2
NUM_SHARDS = 4


def _serve(folder: Path, latency: float, bandwidth: int, pipe) -> None:
    """Serves the archives in a folder, until the pipe is closed."""
    with file_server() as server:
        server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        server.latency, server.bytes_per_second = latency, bandwidth
        pipe.send(server.url)
        with contextlib.suppress(EOFError):
            pipe.recv()


@contextlib.contextmanager
def server_of(folder: Path, latency: float, bandwidth: int) -> Iterator[str]:
    """Yields the URL of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    arguments = (folder, latency, bandwidth, there)
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        here.close()
        process.join()


def write_shards(folder: Path, contents: list[bytes], num_shards: int) -> None:
    """Writes images into shards, in two class folders."""
    folder.mkdir()
    for shard in range(num_shards):
        with tarfile.open(folder / f"train-{shard:03}.tar", "w") as archive:
            for index in range(shard, len(contents), num_shards):
                info = tarfile.TarInfo(f"class_{index % 2}/{index:06}.JPEG")
                info.size = len(contents[index])
                archive.addfile(info, io.BytesIO(contents[index]))


def read_batch(settings: BatchSettings, assignment: Assignment) -> int:
    """Only reads the images of a batch; returns their number. Runs in a worker."""
    sources: list[ImageSource] = assignment.sources[: settings.batch_size]
    with reading_ahead(sources):
        return len([source.read() for source in sources])


def make_whole_batch(settings: BatchSettings, assignment: Assignment) -> int:
    """Makes a batch; returns its number of images. Runs in a worker."""
    return len(make_batch(settings, assignment).images)


def rate(
    pool: WorkerPool, task: Callable, dataset: Dataset, num_batches: int, epoch: int
) -> float:
    """Images/s of all workers together."""
    settings = BatchSettings(
        seed=0,
        batch_size=64,
        dtype="uint8",
        statistics=ChannelStatistics.from_config(SETTINGS.dataset),
        augmentation=SETTINGS.augmentation,
    )
    assignments = Assignments(dataset, settings)
    per_epoch = dataset.batches_per_epoch(settings.batch_size)
    # Afterwards all workers run and have compiled their code.
    first = assignments[Position(epoch, 0)]
    for future in [pool.submit(task, settings, first) for _ in range(NUM_WORKERS)]:
        future.result()
    started = time.monotonic()
    positions = [Position(epoch, 1 + i % (per_epoch - 1)) for i in range(num_batches)]
    futures = [pool.submit(task, settings, assignments[p]) for p in positions]
    return sum(f.result() for f in futures) / (time.monotonic() - started)


def measure_rates(folder: Path, contents: list[bytes], args) -> None:
    """Prints the images/s of reading and of the whole preprocessing."""
    shards = folder / "shards"
    write_shards(shards, contents, NUM_SHARDS)
    bandwidth = int(args.megabytes * 1e6)
    num_bytes = float(np.mean([len(content) for content in contents]))
    local = open_dataset(shards, None)
    cache = CacheSettings(str(folder / "cache"), 10**11)
    print(f"{len(contents):,} images of {num_bytes:,.0f} bytes")
    with (
        server_of(shards, args.latency, bandwidth) as address,
        worker_pool(NUM_WORKERS) as pool,
    ):
        url = f"{address}/train-{{000..{NUM_SHARDS - 1:03}}}.tar"
        remote = open_dataset(url, None)
        cached = open_dataset(url, None, cache=cache)
        for name, task in (("read", read_batch), ("make", make_whole_batch)):
            from_memory = rate(pool, task, local, args.batches, 0)
            ideal = min(bandwidth / num_bytes, from_memory)
            cold = rate(pool, task, remote, args.batches, 0)
            if task is read_batch:  # Fills the cache with whole epochs.
                rate(pool, task, cached, len(contents) // 64, 0)
                rate(pool, task, cached, len(contents) // 64, 1)
            warm = rate(pool, task, cached, args.batches, 0)
            print(
                f"{name}: {from_memory:,.0f} images/s from files in memory, "
                f"{ideal:,.0f} from a disk of {args.megabytes:g} MB/s\n"
                f"  server: {cold:,.0f}, {cold / ideal:.2f} of that disk\n"
                f"  warm cache: {warm:,.0f}, {warm / from_memory:.2f} of the files"
            )


def measure_listing(folder: Path, args) -> None:
    """Prints requests, seconds and processor time of a listing, and of the next one."""
    for num_shards, size, num_images in ((100, 1_000, 100_000), (32, 110_000, 3_200)):
        shards = folder / f"shards-{size}"
        write_shards(shards, [bytes(size)] * num_images, num_shards)
        with server_of(shards, args.latency, 0) as address:
            url = f"{address}/train-{{000..{num_shards - 1:03}}}.tar"
            num_requests = 0

            def counted(*arguments):
                nonlocal num_requests
                num_requests += 1
                return store.read_range(*arguments)

            range_file.read_range = counted
            for start in ("first", "next"):
                num_requests = 0
                clocks = time.monotonic(), time.process_time()
                dataset = open_dataset(url, None, (), folder)
                seconds = time.monotonic() - clocks[0]
                processor = time.process_time() - clocks[1]
                print(
                    f"{dataset.num_images:,} images of {size:,} bytes in {num_shards} "
                    f"archives, {start} start: {num_requests:,} requests, "
                    f"{seconds:.1f} s, {processor:.1f} s of processor time"
                )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, help="folder; default: generated ones")
    parser.add_argument("--megabytes", type=float, default=50, help="per second")
    parser.add_argument("--latency", type=float, default=0.005, help="seconds")
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--listing", action="store_true")
    args = parser.parse_args()
    print(f"{cpu_model()}, {versions('urllib3', 'numpy')}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if args.listing:
            measure_listing(folder, args)
            return
        paths = find_images(args.images) if args.images else []
        if not paths:
            make_photographs(folder / "photographs", 200)
            paths = find_images(folder / "photographs")
        measure_rates(folder, [path.read_bytes() for path in paths] * 5, args)


if __name__ == "__main__":
    main()
