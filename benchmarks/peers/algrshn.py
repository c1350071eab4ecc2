"""Batches as algrshn/resnet50 makes them: skimage and float64, all six steps, a file.

https://github.com/algrshn/resnet50, file utils.py.
"""

import random
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.peers.workload import MakeBatch, Workload
from resnet50.pixels.resampling import resized_size


def _make_float64(workload: Workload, prepare) -> MakeBatch:
    """Crops, normalizes, flips and jitters one image after the other, and saves.

    The arithmetic has the order and the types of the original: the whole image is
    scaled to 0..1 before it is cropped, and the covariance is of [N, 3]. The original
    also reads config.txt and a label file for each image.

    Args:
        workload: The input.
        prepare: Returns an image for (batch index, index in the batch). Its shorter
            side is at least the crop's: uint8 in 0..255 or float64 in 0..1, [H, W] or
            [H, W, 3].
    """
    rng = np.random.default_rng(0)
    size = workload.crop_size
    mean, std = (np.asarray(values) for values in workload.settings.statistics)

    def make_image(image: np.ndarray) -> np.ndarray:
        if image.ndim == 2:
            image = np.stack([image] * 3, axis=-1)
        if image.dtype == np.uint8:
            image = image / 255.0
        top = rng.integers(image.shape[0] - size + 1)
        left = rng.integers(image.shape[1] - size + 1)
        crop = image[top : top + size, left : left + size].astype(np.float32)
        crop = (crop - mean) / std  # float64 again
        if rng.random() < 0.5:
            crop = np.flip(crop, axis=1)
        pixels = crop.reshape(-1, 3)
        centred = pixels - pixels.mean(axis=0, keepdims=True)
        covariance = np.matmul(centred.T, centred) / len(pixels)
        eigenvalues, eigenvectors = np.linalg.eigh(covariance)
        return crop + eigenvectors @ (eigenvalues * rng.normal(0, 0.1, 3))

    def make_batch(epoch: int, batch_index: int) -> np.ndarray:
        shape = (workload.settings.batch_size, size, size, 3)
        batch = np.zeros(shape, np.float32)
        for index in range(len(batch)):
            batch[index] = make_image(prepare(batch_index, index))
        np.save(workload.scratch_dir / "algrshn.npy", batch.astype(np.float16))
        return batch

    return make_batch


def make_algrshn_resized_beforehand(workload: Workload) -> MakeBatch:
    """Six steps; step 2 is done before the run.

    Each image has one random side. The resized JPEGs have quality 75, which is also the
    default of skimage.io.imsave.
    """
    import skimage.io

    folder = workload.scratch_dir / "resized"
    folder.mkdir()

    def path_of(batch_index: int, index: int) -> Path:
        return folder / f"{batch_index:04d}_{index:04d}.jpg"

    rng = random.Random(0)
    for batch_index, paths in enumerate(workload.batches):
        for index, path in enumerate(paths):
            with Image.open(path) as file:
                image = file.convert("RGB")
            size = resized_size(*image.size, rng.choice(workload.sides))
            image.resize(size, Image.Resampling.BILINEAR).save(
                path_of(batch_index, index)
            )
    return _make_float64(
        workload, lambda *address: skimage.io.imread(path_of(*address))
    )


def make_algrshn_resizing(workload: Workload) -> MakeBatch:
    """Six steps, resizing at run time with skimage.transform."""
    import skimage.io
    import skimage.transform

    rng = random.Random(0)

    def prepare(batch_index: int, index: int) -> np.ndarray:
        image = skimage.io.imread(workload.batches[batch_index][index])
        width, height = resized_size(
            image.shape[1], image.shape[0], rng.choice(workload.sides)
        )
        return skimage.transform.resize(image, (height, width))

    return _make_float64(workload, prepare)
