"""Mean and standard deviation of each channel over all training images.

Each worker sums levels and their squares. Whole numbers add up to the same in any
order, so the result depends on neither the order nor the number of workers.
"""

import functools
import operator
from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from resnet50.dataset.decoding import UndecodableImageError, decode_pixels
from resnet50.dataset.images import Dataset
from resnet50.dataset.sources import ImageSource
from resnet50.errors import UserError
from resnet50.ordered_map import map_in_order
from resnet50.pixels import backend
from resnet50.pixels.augmentation import ChannelStatistics

# Images in one task: a second of work, so that the bar moves and sending costs nothing.
_CHUNK_SIZE = 128


class WorkerDiedError(UserError):
    """A worker process was killed; what it summed is lost."""


class LevelSums(NamedTuple):
    """Sums over the pixels of some images, of levels from 0 to 255; whole numbers."""

    num_images: int  # readable or not
    num_pixels: int
    sums: np.ndarray  # int64 [3]: of each channel's levels
    squares: np.ndarray  # int64 [3]: of their squares
    unreadable: list[tuple[str, str]]  # name and reason

    def __add__(self, other: "LevelSums") -> "LevelSums":
        """Of both together."""
        return LevelSums(*(ours + theirs for ours, theirs in zip(self, other)))


def _sum_image(source: ImageSource) -> LevelSums:
    zeros = np.zeros(3, np.int64)
    try:
        pixels = np.asarray(decode_pixels(source))
    except UndecodableImageError as error:
        return LevelSums(1, 0, zeros, zeros, [(str(source), str(error))])
    return LevelSums(1, pixels.size // 3, *backend.get().level_sums(pixels), [])


def sum_levels(sources: list[ImageSource]) -> LevelSums:
    """Sums the levels of all pixels of one or more images. Runs in a worker."""
    return functools.reduce(operator.add, map(_sum_image, sources))


def statistics_of(total: LevelSums) -> ChannelStatistics:
    """Mean and standard deviation from exact sums, over at least one pixel.

    Returns:
        Of levels scaled to 0..1. Each pixel of each image has the same weight. Computed
        as fractions of whole numbers and rounded once.
    """
    means, stds = [], []
    for level_sum, square_sum in zip(total.sums.tolist(), total.squares.tolist()):
        mean = Fraction(level_sum, total.num_pixels)
        variance = Fraction(square_sum, total.num_pixels) - mean**2
        means.append(float(mean / 255))
        stds.append(float(variance / 255**2) ** 0.5)
    return ChannelStatistics(tuple(means), tuple(stds))


def sum_dataset(
    dataset: Dataset,
    pool: Executor,
    *,
    num_workers: int,
    advance: Callable[[int], None],
) -> LevelSums:
    """Sums the levels of all images of a dataset, of which there is at least one.

    Args:
        dataset: Whose images.
        pool: Where the summing runs.
        num_workers: Processes in the pool.
        advance: Called with the number of images of each finished task.

    Raises:
        WorkerDiedError: A worker process was killed.
    """
    chunks = (
        dataset.sources(range(start, min(start + _CHUNK_SIZE, dataset.num_images)))
        for start in range(0, dataset.num_images, _CHUNK_SIZE)
    )
    parts = []
    try:
        for part in map_in_order(pool, sum_levels, chunks, num_ahead=4 * num_workers):
            parts.append(part)
            advance(part.num_images)
    except BrokenProcessPool:
        raise WorkerDiedError(
            "a worker process was killed (out of memory? start again with a lower "
            "--num_workers)"
        ) from None
    return functools.reduce(operator.add, parts)
