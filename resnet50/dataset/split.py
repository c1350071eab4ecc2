"""Divides the images of class folders into training and validation images.

No file is moved: the result is two lists in Caffe's format, which ``lists`` reads.
"""

import os
from pathlib import Path

import numpy as np

from resnet50.atomic_io import atomic_file
from resnet50.dataset.images import Dataset, DatasetError, images_of_classes

# Purpose tag of the split's random streams; see dataset.images.EPOCH_ORDER.
VALIDATION_SPLIT = 9

# Folders of these names are parts of a dataset, not classes.
_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def require_divisible(dataset: Dataset) -> None:
    """Raises DatasetError if the images cannot be divided into two lists."""
    if dataset.locations is not None:
        raise DatasetError(
            f"{dataset.folder}: {dataset.layout}; only image files can be divided into "
            "training and validation images (unpack them into class folders)"
        )
    if parts := [name for name in dataset.class_names if name.lower() in _PARTS]:
        raise DatasetError(
            f"{dataset.folder}: {parts[0]} is no class (call the two folders of images "
            "train and val, or give one folder with a folder for each class)"
        )
    counts = zip(dataset.class_names, dataset.class_counts)
    if single := [name for name, count in counts if count < 2]:
        shown = ", ".join(single[:10]) + (", ..." if len(single) > 10 else "")
        raise DatasetError(
            f"{dataset.folder}: classes with only one image: {shown} (each class needs "
            "one to train and one to validate; add images, or remove the folder)"
        )
    for name in (dataset.names[i] for i in range(dataset.num_images)):
        if name != name.strip() or "\n" in name or "\r" in name:
            raise DatasetError(
                f"{dataset.folder}: {name!r} cannot stand in a list (rename it: no "
                "line breaks, no spaces at the beginning or the end)"
            )


def choose_validation(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Chooses images of each class for the validation, as a function of the seed.

    Each class, of two images or more, keeps at least one on each side. Its choice does
    not depend on the other classes.

    Args:
        labels: int [num_images], in the dataset's order.
        share: Of each class's images, above 0, below 1.
        seed: 0 or more.

    Returns:
        bool [num_images], whether each image is for the validation.
    """
    chosen = np.zeros(len(labels), bool)
    for label, indices in enumerate(images_of_classes(labels)):
        count = min(max(1, round(share * len(indices))), len(indices) - 1)
        rng = np.random.default_rng([seed, VALIDATION_SPLIT, label])
        chosen[rng.permutation(indices)[:count]] = True
    return chosen


def write_list(path: Path, dataset: Dataset, chosen: np.ndarray) -> None:
    """Writes one ``relative/path label`` per line for the chosen images.

    Raises:
        DatasetError: The file cannot be written.
    """
    try:
        with atomic_file(path) as file:
            for index in np.flatnonzero(chosen).tolist():
                name = os.fsencode(dataset.names[index])
                file.write(b"%s %d\n" % (name, dataset.labels[index]))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror}") from None
