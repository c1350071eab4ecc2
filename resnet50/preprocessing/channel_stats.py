"""Mean and standard deviation of each channel over all training images.

Each worker counts how often each of 256 levels occurs. Whole numbers add up to the same
in any order, so the result depends on neither the order nor the number of workers.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.errors import UserError
from resnet50.preprocessing import compiled
from resnet50.preprocessing.augmentation import ChannelStatistics
from resnet50.preprocessing.decoding import UndecodableImageError, decode_pixels
from resnet50.preprocessing.imagenet import Dataset
from resnet50.preprocessing.workers import map_in_order

# Images in one task: a second of work, so that the bar moves and sending costs nothing.
_CHUNK_SIZE = 128


class WorkerDiedError(UserError):
    """A worker process was killed; what it counted is lost."""


class Histograms(NamedTuple):
    """How often each level of each channel occurs, over some images."""

    counts: np.ndarray  # int64 [3, 256]
    num_images: int
    unreadable: list[tuple[str, str]]  # path and reason


def _histogram(image: Image.Image | np.ndarray) -> np.ndarray:
    """How often each level of each channel occurs in an RGB image; int64 [3, 256]."""
    kernels = compiled.kernels()
    if kernels is None:
        counts = Image.fromarray(np.asarray(image)).histogram()
        return np.array(counts).reshape(3, 256)
    pixels = np.asarray(image)
    return kernels.count_levels(pixels.reshape(len(pixels), -1))


def count_levels(paths: list[str]) -> Histograms:
    """Counts the levels of all pixels of some images. Runs in a worker."""
    counts = np.zeros((3, 256), np.int64)
    unreadable = []
    for path in paths:
        try:
            counts += _histogram(decode_pixels(path))
        except UndecodableImageError as error:
            unreadable.append((path, str(error)))
    return Histograms(counts, len(paths), unreadable)


def statistics_of(counts: np.ndarray) -> ChannelStatistics:
    """Mean and standard deviation from exact level counts.

    Args:
        counts: int64 [3, 256], not all zero in a channel.

    Returns:
        Of levels scaled to 0..1. Each pixel of each image has the same weight. Computed
        as fractions of whole numbers and rounded once.
    """
    means, stds = [], []
    for channel in counts:
        number = int(channel.sum())
        total = sum(level * int(count) for level, count in enumerate(channel))
        squares = sum(level**2 * int(count) for level, count in enumerate(channel))
        mean = Fraction(total, number)
        variance = Fraction(squares, number) - mean**2
        means.append(float(mean / 255))
        stds.append(float(variance / 255**2) ** 0.5)
    return ChannelStatistics(tuple(means), tuple(stds))


def count_dataset(
    dataset: Dataset,
    pool: Executor,
    *,
    num_workers: int,
    advance: Callable[[int], None],
) -> Histograms:
    """Counts the levels of all images of a dataset.

    Args:
        dataset: Whose images.
        pool: Where the counting runs.
        num_workers: Processes in the pool.
        advance: Called with the number of images of each finished task.

    Raises:
        WorkerDiedError: A worker process was killed.
    """
    chunks = (
        dataset.paths(range(start, min(start + _CHUNK_SIZE, dataset.num_images)))
        for start in range(0, dataset.num_images, _CHUNK_SIZE)
    )
    counts = np.zeros((3, 256), np.int64)
    unreadable: list[tuple[str, str]] = []
    try:
        for part in map_in_order(pool, count_levels, chunks, num_ahead=4 * num_workers):
            counts += part.counts
            unreadable.extend(part.unreadable)
            advance(part.num_images)
    except BrokenProcessPool:
        raise WorkerDiedError(
            "a worker process was killed (out of memory? start again with a lower "
            "--num_workers)"
        ) from None
    return Histograms(counts, dataset.num_images, unreadable)
