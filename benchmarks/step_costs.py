"""Measures what each step of making a float16 batch costs, and what limits it.

One process, one thread, processor time, files in the page cache. As in a worker, some
images are decoded in a row, and then pass through the other steps.

    python3 -m benchmarks.step_costs --images FOLDER
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.environment import cpu_model
from benchmarks.photographs import scratch_with_images
from resnet50.config.toml_file import read_config
from resnet50.dataset import jpeg_regions
from resnet50.dataset.decoding import decode_part, read_image
from resnet50.dataset.sources import ImageSource
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import Position
from resnet50.pixels import resampling
from resnet50.pixels.augmentation import (
    colour_shift,
    crop_footprint,
    normalization_table,
)
from resnet50.preprocessing.batches import BatchSettings, batch_params

_NUM_ROUNDS = 9
_IN_A_ROW = 16  # images


class Costs:
    """Processor time and work of named steps, which are run in turns."""

    def __init__(self):
        self._rounds: list[dict[str, float]] = []
        self._work: dict[str, float] = {}

    def start_round(self) -> None:
        """Begins the next round; the first is not counted."""
        self._rounds.append({})

    def run(self, step: str, function: Callable, *arguments):
        """Calls a function; adds the time to a step."""
        started = time.process_time()
        result = function(*arguments)
        seconds = time.process_time() - started
        self._rounds[-1][step] = self._rounds[-1].get(step, 0.0) + seconds
        return result

    def count(self, step: str, work: float) -> None:
        """Adds to the work of a step."""
        self._work[step] = self._work.get(step, 0.0) + work

    def microseconds(self, step: str, number: int) -> float:
        """Time of one of a number of images; the median of the rounds."""
        return 1e6 / number * statistics.median(r[step] for r in self._rounds[1:])

    def work(self, step: str, number: int) -> float:
        """Work of one of a number of images."""
        return self._work[step] / number / len(self._rounds)


def _lowest_rows(region: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """A corner of a region whose decoding needs all codes, and hardly anything else."""
    left, _, _, bottom = region
    return left, bottom - 16, left + 16, bottom


def _num_products(source: resampling.Footprint, size: int) -> float:
    """How many products of a weight and a level are added up for a crop."""
    taps = [2 * max((span.end - span.start) / size, 1) for span in source]
    num_rows = source.y.last - source.y.first
    return 3 * size * (num_rows * taps[0] + size * taps[1])


def _decode_with_pillow(path: Path) -> None:
    with Image.open(path) as image:
        image.convert("RGB")


def _write_plainly(path: Path, images: np.ndarray) -> None:
    with path.open("wb") as file:
        file.write(images)
    path.replace(path.with_suffix(".old"))


def measure_batch(
    costs: Costs, settings: BatchSettings, paths: list[Path], round_: int, scratch: Path
) -> None:
    """Makes a batch of the images, step by step."""
    params = batch_params(settings, Position(round_, 0))
    size, loops = settings.augmentation.crop_size, resampling.pixel_loops()
    table = normalization_table(settings.statistics)
    images = np.empty((len(paths), size, size, 3), settings.dtype)
    crop = np.empty((size, size, 3), np.uint8)

    def look_up(shift, out):
        loops.look_up((table + shift[:, None]).astype(settings.dtype), crop, out)

    for first in range(0, len(paths), _IN_A_ROW):
        parts = []
        for path, choices in zip(paths[first : first + _IN_A_ROW], params[first:]):
            source = ImageSource(str(path))

            def region_of(size_, choices=choices):
                return crop_footprint(size_, choices, size).region

            data = costs.run("read", read_image, source)
            costs.run("judge", jpeg_regions.divisible_size, data)
            part = costs.run("read and decode", decode_part, source, region_of)
            region = _lowest_rows(region_of(part.image_size))
            costs.run("codes", jpeg_regions.decode_region, data, region)
            costs.run("Pillow", _decode_with_pillow, path)
            costs.count("read", len(data))
            costs.count("read and decode", 3 * part.num_pixels)
            parts.append(part)
        for i, part in enumerate(parts, first):
            source = crop_footprint(part.image_size, params[i], size)
            costs.count("resample", _num_products(source, size))
            spans = source.within(part.corner)
            costs.run(
                "resample",
                *(loops.resample, part.pixels, *spans, params[i].is_flipped, crop),
            )
            weights, std = params[i].colour_weights, settings.statistics.std
            shift = costs.run("shift", colour_shift, crop, std, weights)
            costs.run("look up", look_up, shift, images[i])
    labels = np.zeros(len(paths), np.int32)
    buffer = BatchBuffer(scratch)
    costs.run("write", buffer.write, Position(0, 0), images, labels)
    costs.run("plain write", _write_plainly, scratch / "plain", images)


def print_table(costs: Costs, number: int, crop_size: int) -> None:
    """Prints the steps of one of a number of images, and their sum."""

    def time_of(step: str) -> float:
        return costs.microseconds(step, number)

    def kilobytes(step: str) -> float:
        return costs.work(step, number) / 1e3

    decode = time_of("read and decode") - time_of("read") - time_of("judge")
    products = costs.work("resample", number)
    values = 3e-3 * crop_size**2  # thousands
    lines = (
        (
            "read the file",
            time_of("read"),
            f"{kilobytes('read'):.0f} kB",
        ),
        ("find out that it is one scan", time_of("judge"), "the same"),
        (
            "decode the part",
            decode,
            f"{kilobytes('read and decode'):.0f} kB of pixels; all codes above its "
            f"lower edge alone: {time_of('codes'):.0f} us",
        ),
        (
            "resize, crop, flip",
            time_of("resample"),
            f"{products / 1e3:.0f} thousand products, "
            f"{products / 1e3 / time_of('resample'):.1f} in a ns",
        ),
        ("colour shift", time_of("shift"), f"{3 * values:.0f} thousand products"),
        (
            "normalize, jitter",
            time_of("look up"),
            f"{values:.0f} thousand look-ups",
        ),
        (
            "write",
            time_of("write"),
            f"{2 * values:.0f} kB; a plain write: {time_of('plain write'):.0f} us",
        ),
    )
    print(f"{'an image':30} {'us':>6}")
    for step, microseconds, work in lines:
        print(f"{step:30} {microseconds:6.0f}  {work}")
    print(f"{'all':30} {sum(us for _, us, _ in lines):6.0f}")
    print(f"{'bare Pillow decode':30} {time_of('Pillow'):6.0f}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="default: generated photographs")
    parser.add_argument("--num_images", type=int, default=192)
    arguments = parser.parse_args()
    config = read_config(Path(__file__).parents[1] / "config.txt")
    settings = dataclasses.replace(BatchSettings.from_config(config), dtype="float16")
    size, costs, num_images = settings.batch_size, Costs(), arguments.num_images
    with scratch_with_images(arguments.images, num_images) as (scratch, paths):
        paths = paths[: num_images // size * size]
        for round_ in range(_NUM_ROUNDS + 1):
            costs.start_round()
            for first in range(0, len(paths), size):
                batch = paths[first : first + size]
                measure_batch(costs, settings, batch, round_, scratch)
    print(cpu_model())
    print_table(costs, len(paths), settings.augmentation.crop_size)


if __name__ == "__main__":
    main()
