"""Checks the images: layout and counts, a sample of them, channel statistics."""

from collections.abc import Iterator

import numpy as np

from resnet50.checks.findings import OK, PROBLEM, WARNING, Finding
from resnet50.config.settings import DatasetConfig
from resnet50.dataset.images import Dataset
from resnet50.errors import printable_line
from resnet50.installation import typed
from resnet50.preprocessing.channel_stats import LevelSums, statistics_of, sum_levels

# Number of images to read.
_SAMPLE_SIZE = 64

# How far the statistics of a sample may be from those of all images. The means of
# single images vary by 0.15, the means of 64 images by 0.02.
_MAX_MEAN_DIFFERENCE, _MAX_STD_RATIO = 0.1, 1.5


def check_training_set(dataset: Dataset, batch_size: int) -> Finding:
    """Counts the training images.

    Raises:
        DatasetError: There are not enough for one batch.
    """
    batches = dataset.batches_per_epoch(batch_size)
    counts = dataset.class_counts
    return Finding(
        OK,
        f"training images: {dataset.layout}, {dataset.num_images:,} of "
        f"{dataset.num_classes:,} classes ({counts.min():,} to {counts.max():,} each), "
        f"{batches:,} batches of {batch_size} an epoch, in {dataset.folder}",
    )


def check_skipped(dataset: Dataset) -> list[Finding]:
    """Names the files among the images that are no images."""
    return [Finding(OK, remark) for remark in dataset.remarks]


def check_validation_set(dataset: Dataset) -> Finding:
    """Counts the validation images and their classes."""
    num_present = len(np.unique(dataset.labels))
    what = f"validation images: {dataset.layout}, "
    what += f"{dataset.num_images:,} of {num_present:,} classes"
    if num_present == dataset.num_classes:
        return Finding(OK, f"{what}, the training images' own, in {dataset.folder}")
    what += f", but the training images have {dataset.num_classes:,}"
    return Finding(WARNING, what, f"are all of them in {dataset.folder}?")


def read_sample(dataset: Dataset) -> LevelSums:
    """Reads some images of a dataset, evenly spread over it."""
    size = min(_SAMPLE_SIZE, dataset.num_images)
    return sum_levels(dataset.sources(np.arange(size) * dataset.num_images // size))


def check_sample(sample: LevelSums, settings: DatasetConfig) -> Iterator[Finding]:
    """Checks whether images can be read, and their channel statistics."""
    num_read = sample.num_images - len(sample.unreadable)
    what = f"reading: {num_read} of {sample.num_images} images could be read"
    if sample.unreadable:
        path, reason = sample.unreadable[0]
        what += printable_line(f"; the first that could not: {path}: {reason}")
        if not num_read:
            yield Finding(PROBLEM, what, "is the disk with the images there?")
            return
        remedy = "an unreadable image is replaced by the next one, so a few do no harm"
        yield Finding(WARNING, what, remedy)
    else:
        yield Finding(OK, what)
    yield check_statistics(sample, settings)


def check_statistics(sample: LevelSums, settings: DatasetConfig) -> Finding:
    """Compares channel_mean and channel_std with the statistics of a sample."""
    found = statistics_of(sample)
    mean, std = _shown(settings.channel_mean), _shown(settings.channel_std)
    what = f"channel statistics: mean {mean} and std {std}; "
    what += f"of a sample {_shown(found.mean)} and {_shown(found.std)}"
    differences = np.abs(np.subtract(settings.channel_mean, found.mean))
    # The deviation of a flat sample is 0.
    ratios = np.divide(settings.channel_std, np.maximum(found.std, 1e-9))
    if differences.max() > _MAX_MEAN_DIFFERENCE or not np.all(
        (ratios < _MAX_STD_RATIO) & (ratios > 1 / _MAX_STD_RATIO)
    ):
        return Finding(WARNING, what, f"{typed('stats')} --write")
    return Finding(OK, what)


def _shown(values) -> str:
    return " ".join(f"{value:.2f}" for value in values)
