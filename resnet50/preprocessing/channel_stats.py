"""Mean and standard deviation of each channel over all training images.

Each worker sums pixel levels and their squares. The sums are exact integers, so the
result does not depend on the order or the number of workers.
"""

import functools
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from resnet50.dataset.decoding import UndecodableImageError, decode_pixels
from resnet50.dataset.images import Dataset
from resnet50.dataset.sources import ImageSource, reading_ahead
from resnet50.ordered_map import map_in_order
from resnet50.pixels import resampling
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.preprocessing.process_pool import WorkerPool, WorkersDiedError

# Images per task: a second of work, so the bar moves and the overhead is small.
_CHUNK_SIZE = 128


class LevelSums(NamedTuple):
    """Exact sums over the pixels of some images, of levels from 0 to 255."""

    num_images: int  # readable or not
    num_pixels: int
    sums: np.ndarray  # int64 [3], each channel's sum of levels
    squares: np.ndarray  # int64 [3], each channel's sum of squared levels
    unreadable: list[tuple[str, str]]  # name and reason

    def plus(self, other: "LevelSums") -> "LevelSums":
        """The sums over the images of both."""
        return LevelSums(
            self.num_images + other.num_images,
            self.num_pixels + other.num_pixels,
            self.sums + other.sums,
            self.squares + other.squares,
            self.unreadable + other.unreadable,
        )


def _sum_image(source: ImageSource) -> LevelSums:
    zeros = np.zeros(3, np.int64)
    try:
        pixels = np.asarray(decode_pixels(source))
    except UndecodableImageError as error:
        return LevelSums(1, 0, zeros, zeros, [(str(source), str(error))])
    sums, squares = resampling.pixel_loops().level_sums(pixels)
    return LevelSums(1, pixels.size // 3, sums, squares, [])


def sum_levels(sources: list[ImageSource]) -> LevelSums:
    """Sums the levels of all pixels of one or more images. Runs in a worker."""
    with reading_ahead(sources):
        return functools.reduce(LevelSums.plus, map(_sum_image, sources))


def statistics_of(total: LevelSums) -> ChannelStatistics:
    """Mean and standard deviation, over all pixels, of levels scaled to 0..1.

    Computed as fractions of integers, and rounded once. Needs at least one pixel.
    """
    means, stds = [], []
    for level_sum, square_sum in zip(total.sums.tolist(), total.squares.tolist()):
        mean = Fraction(level_sum, total.num_pixels)
        variance = Fraction(square_sum, total.num_pixels) - mean**2
        means.append(float(mean / 255))
        stds.append(float(variance / 255**2) ** 0.5)
    return ChannelStatistics(tuple(means), tuple(stds))


def sum_dataset(
    dataset: Dataset, pool: WorkerPool, advance: Callable[[int], None]
) -> LevelSums:
    """Sums the levels of all images of a dataset, which has at least one.

    Calls ``advance`` with the number of images of each finished task.

    Raises:
        WorkersDiedError: A worker process was killed.
    """
    chunks = (
        dataset.sources(range(start, min(start + _CHUNK_SIZE, dataset.num_images)))
        for start in range(0, dataset.num_images, _CHUNK_SIZE)
    )
    parts = []
    try:
        num_ahead = 4 * pool.num_workers
        for part in map_in_order(pool, sum_levels, chunks, num_ahead=num_ahead):
            parts.append(part)
            advance(part.num_images)
    except BrokenProcessPool:
        raise WorkersDiedError(
            "a worker process was killed (out of memory? start again with a lower "
            "--num_workers)"
        ) from None
    return functools.reduce(LevelSums.plus, parts)
