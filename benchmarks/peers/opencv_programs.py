"""Batches by OpenCV and by albumentations, which calls it: float32 [N, H, W, 3]."""

import os
import random
from pathlib import Path

import numpy as np

from benchmarks.peers.workload import MakeBatch, Workload, draw_choices


def _import_opencv():
    import cv2

    cv2.setNumThreads(1)
    return cv2


def make_opencv(
    workload: Workload, *, antialiases: bool, crops_first: bool = False
) -> MakeBatch:
    """Steps 1-5 with OpenCV; a table normalizes, because that is fastest.

    Args:
        workload: The input.
        antialiases: Whether an image is shrunk by areas. Otherwise, and to enlarge an
            image, each pixel is interpolated from 4, however far apart they are.
        crops_first: Resizes only the crop's part of the image, in whole pixels.
    """
    cv2 = _import_opencv()
    rng = random.Random(0)
    size, table = workload.crop_size, workload.normalization_table[None]
    shrinking = cv2.INTER_AREA if antialiases else cv2.INTER_LINEAR

    def make_image(path: Path, out: np.ndarray) -> None:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
        choices = draw_choices(rng, workload, image.shape[1], image.shape[0])
        method = shrinking if choices.scale > 1 else cv2.INTER_LINEAR
        if crops_first:
            left, top, side = choices.window(size)
            part = image[top : top + side, left : left + side]
            crop = cv2.resize(part, (size, size), interpolation=method)
        else:
            resized = choices.width, choices.height
            image = cv2.resize(image, resized, interpolation=method)
            left, top = choices.left, choices.top
            crop = image[top : top + size, left : left + size]
        if choices.is_flipped:
            crop = cv2.flip(crop, 1)
        cv2.LUT(crop, table, dst=out)

    return workload.filled_by(make_image)


def make_albumentations(workload: Workload) -> MakeBatch:
    """Steps 1-5 with albumentations and its default, aliased interpolation."""
    # It would ask the network for a newer version.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    cv2 = _import_opencv()
    size, statistics = workload.crop_size, workload.settings.statistics
    transform = albumentations.Compose(
        [
            albumentations.SmallestMaxSize(list(workload.sides)),
            albumentations.RandomCrop(size, size),
            albumentations.HorizontalFlip(),
            albumentations.Normalize(statistics.mean, statistics.std),
        ],
        seed=0,
    )

    def make_image(path: Path) -> np.ndarray:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
        return transform(image=image)["image"]

    def make_batch(epoch: int, batch_index: int) -> np.ndarray:
        return np.stack([make_image(path) for path in workload.batches[batch_index]])

    return make_batch
