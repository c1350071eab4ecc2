"""Measures images/s of making batches, against bare decoding and other programs.

One process, one thread, files in the page cache. All variants run together: a round
makes each batch with every variant before the next batch, so that a busy machine slows
all of them alike. A variant's figure is the median over the rounds; a ratio's figure is
the median of the rounds' ratios.

    python3 -m benchmarks.preprocessing --images FOLDER --rounds 7

`pip install '.[bench]'` installs the peers; missing ones are skipped.
"""

import argparse
import dataclasses
import json
import os
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from benchmarks.environment import cpu_model, versions
from benchmarks.peers import BARE, PEERS
from benchmarks.peers.workload import MakeBatch, Workload
from benchmarks.photographs import scratch_with_images
from resnet50.config.toml_file import read_config
from resnet50.dataset import decoding, jpeg_regions
from resnet50.dataset.sources import ImageSource
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import Position
from resnet50.pixels import pillow_numpy, resampling
from resnet50.preprocessing.batches import (
    Assignment,
    BatchSettings,
    MadeBatch,
    make_batch,
)

_PACKAGES = (
    "numba",
    "numpy",
    "pillow",
    "simplejpeg",
    "nvidia-nvimgcodec-cu12",
    "torch",
    "torchvision",
    "torchcodec",
    "opencv-python-headless",
    "albumentations",
    "nvidia-dali-cuda120",
    "spdl",
    "turboloader",
    "scikit-image",
)

OURS, OURS_NO_WRITE = "ours, six steps + write", "ours, six steps"
# Its reader does steps 4 and 6.
OURS_UINT8 = "ours, six steps + write, uint8"
# On a machine without numba and simplejpeg.
PLAIN, PLAIN_NO_WRITE = "Pillow and numpy, + write", "Pillow and numpy, six steps"


class Measurement(NamedTuple):
    """Seconds of each round, for all its batches."""

    wall_seconds: list[float]
    cpu_seconds: list[float]


def _make_without_write(workload: Workload) -> MakeBatch:
    labels = np.zeros(workload.settings.batch_size, np.int32)

    def run(epoch: int, batch_index: int) -> MadeBatch:
        sources = [ImageSource(str(path)) for path in workload.batches[batch_index]]
        assignment = Assignment(Position(epoch, batch_index), sources, labels)
        batch = make_batch(workload.settings, assignment)
        if batch.unreadable:
            sys.exit(": ".join(batch.unreadable[0]) + " (remove it)")
        return batch

    return run


def _make_and_write(workload: Workload) -> MakeBatch:
    make = _make_without_write(workload)
    buffer = BatchBuffer(workload.scratch_dir)

    def run(epoch: int, batch_index: int) -> None:
        batch = make(epoch, batch_index)
        # Each batch replaces the previous one, so the buffer does not grow.
        buffer.write(Position(0, 0), batch.images, batch.labels, batch.shifts)

    return run


def _with_pillow_and_numpy(make: MakeBatch) -> MakeBatch:
    """Returns a variant without nvImageCodec, simplejpeg and numba."""

    def run(epoch: int, batch_index: int) -> None:
        with (
            mock.patch.object(jpeg_regions, "_decoder", lambda: None),
            mock.patch.object(decoding, "simplejpeg", None),
            mock.patch.object(resampling, "pixel_loops", lambda: pillow_numpy),
        ):
            make(epoch, batch_index)

    return run


def our_variants(workload: Workload) -> dict[str, MakeBatch]:
    """This project as installed, and with Pillow and numpy alone."""
    make, write = _make_without_write(workload), _make_and_write(workload)
    uint8_settings = dataclasses.replace(workload.settings, dtype="uint8")
    if resampling.pixel_loops() is pillow_numpy or jpeg_regions._decoder() is None:
        sys.exit("numba or nvImageCodec is missing (pip install -e . installs them)")
    return {
        OURS: write,
        OURS_NO_WRITE: make,
        OURS_UINT8: _make_and_write(workload._replace(settings=uint8_settings)),
        PLAIN: _with_pillow_and_numpy(write),
        PLAIN_NO_WRITE: _with_pillow_and_numpy(make),
    }


def _is_chosen(name: str, texts: list[str] | None) -> bool:
    """Whether ``--only`` names a variant; the other ones' ratios need bare decoding."""
    if texts is None or name == BARE:
        return True
    return any(text.lower() in name.lower() for text in texts)


def peer_variants(workload: Workload, only: list[str] | None) -> dict[str, MakeBatch]:
    """Returns the chosen and installed peers, and prints which are missing."""
    variants = {}
    for peer in PEERS:
        if not _is_chosen(peer.name, only):
            continue
        try:
            variants[peer.name] = peer.make(workload)
        except ImportError as error:
            print(f"skipped: {peer.name}: {error}")
    return variants


def measure(
    variants: dict[str, MakeBatch], num_batches: int, num_rounds: int
) -> dict[str, Measurement]:
    """Times all variants, batch by batch, after one round that is not counted.

    The order of the variants rotates by one per batch, so that none always follows the
    same other one.
    """
    names = list(variants)
    measured = {name: Measurement([], []) for name in names}
    for number in range(num_rounds + 1):
        wall, cpu = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for batch_index in range(num_batches):
            shift = (number * num_batches + batch_index) % len(names)
            for name in names[shift:] + names[:shift]:
                wall_start, cpu_start = time.perf_counter(), time.process_time()
                variants[name](number, batch_index)
                wall[name] += time.perf_counter() - wall_start
                cpu[name] += time.process_time() - cpu_start
        if number:
            for name in names:
                measured[name].wall_seconds.append(wall[name])
                measured[name].cpu_seconds.append(cpu[name])
    return measured


def _header(arguments: argparse.Namespace, workload: Workload) -> dict:
    num_images = sum(len(batch) for batch in workload.batches)
    num_bytes = sum(p.stat().st_size for batch in workload.batches for p in batch)
    return {
        "command": shlex.join(
            ["python3", "-m", "benchmarks.preprocessing", *sys.argv[1:]]
        ),
        "processor": f"{cpu_model()}, {os.cpu_count()} cores, 1 thread used",
        "load at start": f"{os.getloadavg()[0]:.1f}",
        "versions": versions(*_PACKAGES),
        "images": f"{num_images} of {arguments.images or 'generated photographs'}, "
        f"{num_bytes / num_images / 1e3:.0f} kB each",
        "batches": f"{len(workload.batches)} of {workload.settings.batch_size}, "
        f"{arguments.rounds} rounds",
        "written to": str(workload.scratch_dir.parent),
        "clock": f"{arguments.clock} time",
    }


def _print_speeds(seconds: dict[str, list[float]], num_images: int) -> None:
    bare = seconds[BARE]
    print(f"\n{'variant':36} {'images/s':>9} {'ms/image':>9} {'time / decode':>14}")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(
            f"{name:36} {num_images / middle:9.0f} {1e3 * middle / num_images:9.2f}"
            f" {_ratio(values, bare):14.2f}"
        )


def _ratio(seconds: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(seconds, other))


def _print_ratios(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Prints and returns this project's images/s as multiples of each peer's."""
    columns = {
        OURS: "float16",
        OURS_NO_WRITE: "float16, no file",
        OURS_UINT8: "uint8",
        PLAIN: "Pillow and numpy",
    }
    columns = {name: title for name, title in columns.items() if name in seconds}
    print("\nimages/s of all six steps, as a multiple of a peer's (target)")
    print(f"{'':36}" + "".join(f" {title:>16}" for title in columns.values()))
    ratios: dict[str, dict[str, float]] = {name: {} for name in columns}
    for peer in PEERS:
        if peer.name not in seconds:
            continue
        targets = {
            OURS: peer.target,
            OURS_UINT8: peer.uint8_target,
            PLAIN: peer.plain_target,
        }
        cells = ""
        for name in columns:
            ratio = ratios[name][peer.name] = _ratio(seconds[peer.name], seconds[name])
            goal = f"({target:.2f})" if (target := targets.get(name)) else ""
            cells += f" {ratio:8.2f} {goal:>7}"
        print(f"{peer.name:36}{cells}  {peer.note}".rstrip())
    print("peers do steps 1-5 and write nothing, except as noted")
    return ratios


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="default: generated photographs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--num_images", type=int, default=192)
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: the process's own time, for a machine that is shared",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="TEXT",
        help="measure the variants whose names contain a text, and bare decoding",
    )
    parser.add_argument("--output", type=Path, help="JSON with every round's seconds")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.num_images < 64:
        parser.error("--rounds must be at least 1, and --num_images at least 64")
    return arguments


def _prepare(
    arguments: argparse.Namespace, scratch: Path, paths: list[Path]
) -> Workload:
    config = read_config(Path(__file__).parents[1] / "config.txt")
    settings = dataclasses.replace(BatchSettings.from_config(config), dtype="float16")
    paths, size = paths[: arguments.num_images], settings.batch_size
    if len(paths) < size:
        folder = arguments.images or "--num_images"
        sys.exit(f"{folder}: {len(paths)} images, expected at least {size}")
    starts = range(0, len(paths) - size + 1, size)
    return Workload([paths[s : s + size] for s in starts], settings, scratch)


def main() -> None:
    """Measures and prints."""
    arguments = _parse_arguments()
    images, num_images = arguments.images, arguments.num_images
    with scratch_with_images(images, num_images) as (scratch, paths):
        workload = _prepare(arguments, scratch, paths)
        header = _header(arguments, workload)
        for key, value in header.items():
            print(f"{key + ':':15} {value}")
        variants = {
            name: make
            for name, make in our_variants(workload).items()
            if _is_chosen(name, arguments.only)
        }
        variants.update(peer_variants(workload, arguments.only))
        measured = measure(variants, len(workload.batches), arguments.rounds)
    seconds = {
        name: getattr(measurement, f"{arguments.clock}_seconds")
        for name, measurement in measured.items()
    }
    _print_speeds(seconds, sum(len(batch) for batch in workload.batches))
    ratios = _print_ratios(seconds)
    if arguments.output:
        results = {name: m._asdict() for name, m in measured.items()}
        arguments.output.write_text(
            json.dumps({**header, "ratios": ratios, "results": results}, indent=1)
        )


if __name__ == "__main__":
    main()
