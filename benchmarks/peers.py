"""How other programs make a batch, for benchmarks/preprocessing.py.

Each ``make_*`` prepares what the program's users have ready before the first batch, and
returns a function of (epoch, batch index) that makes one batch. It raises ImportError
if the program is not installed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.handoff.progress import Position
from resnet50.preprocessing.batches import BatchSettings, batch_params

MakeBatch = Callable[[int, int], None]


class Workload(NamedTuple):
    """The input of every variant."""

    batches: list[list[Path]]  # the image files of each batch
    settings: BatchSettings
    scratch_dir: Path  # for batch files and prepared images

    @property
    def sides(self) -> range:
        """The shorter sides of step 1."""
        settings = self.settings.augmentation
        return range(
            settings.shorter_side_min,
            settings.shorter_side_max + 1,
            settings.shorter_side_step,
        )


def make_bare_decoding(workload: Workload) -> MakeBatch:
    """Only reads and decodes the files to RGB with Pillow."""

    def make_batch(epoch: int, batch_index: int) -> None:
        for path in workload.batches[batch_index]:
            with Image.open(path) as image:
                image.convert("RGB")

    return make_batch


def import_torchvision():
    """Imports torch and torchvision, even if torchvision is built for another torch.

    The wheel on PyPI is for torch with CUDA; with torch for the CPU it lacks two
    operators of object detection, which the image transforms do not use.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        operators = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
        import torchvision

        # Keeps the operators alive.
        torchvision.benchmark_operators = operators
    return torch, torchvision


def make_torchvision(workload: Workload) -> MakeBatch:
    """Steps 1-5 with torchvision.transforms on Pillow images, stacked to a batch."""
    torch, torchvision = import_torchvision()
    torch.set_num_threads(1)
    transforms = torchvision.transforms
    rng = np.random.default_rng(0)
    statistics = workload.settings.statistics
    after_resize = transforms.Compose(
        [
            transforms.RandomCrop(workload.settings.augmentation.crop_size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(statistics.mean, statistics.std),
        ]
    )

    def make_image(path: Path):
        with Image.open(path) as file:
            image = file.convert("RGB")
        image = transforms.functional.resize(
            image,
            int(rng.choice(workload.sides)),
            transforms.InterpolationMode.BILINEAR,
            antialias=True,
        )
        return after_resize(image)

    def make_batch(epoch: int, batch_index: int) -> None:
        torch.stack([make_image(path) for path in workload.batches[batch_index]])

    return make_batch


def make_dali(workload: Workload) -> MakeBatch:
    """Steps 1-5 with NVIDIA DALI's operators on the CPU, one thread.

    Synchronous, so that it computes only while it is timed. The result stays in DALI's
    memory.
    """
    from nvidia.dali import Pipeline, fn, types

    size = workload.settings.augmentation.crop_size
    statistics = workload.settings.statistics
    files: list[Path] = []
    pipeline = Pipeline(
        batch_size=workload.settings.batch_size,
        num_threads=1,
        device_id=None,
        exec_async=False,
        exec_pipelined=False,
        prefetch_queue_depth=1,
    )
    with pipeline:
        encoded = fn.external_source(
            source=lambda: [np.fromfile(path, np.uint8) for path in files],
            batch=True,
            dtype=types.UINT8,
        )
        images = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
        images = fn.resize(
            images,
            resize_shorter=fn.random.uniform(values=[float(s) for s in workload.sides]),
            interp_type=types.INTERP_LINEAR,
            antialias=True,
        )
        images = fn.crop_mirror_normalize(
            images,
            crop=(size, size),
            crop_pos_x=fn.random.uniform(range=(0.0, 1.0)),
            crop_pos_y=fn.random.uniform(range=(0.0, 1.0)),
            mirror=fn.random.coin_flip(),
            mean=[255 * value for value in statistics.mean],
            std=[255 * value for value in statistics.std],
            dtype=types.FLOAT,
            output_layout="HWC",
        )
        pipeline.set_outputs(images)
    pipeline.build()

    def make_batch(epoch: int, batch_index: int) -> None:
        files[:] = workload.batches[batch_index]
        pipeline.run()

    return make_batch


def _resized_size(height: int, width: int, shorter_side: int) -> tuple[int, int]:
    scale = shorter_side / min(height, width)
    return round(height * scale), round(width * scale)


def _make_float64(workload: Workload, prepare) -> MakeBatch:
    """Crops, normalizes, flips and jitters one image after the other, and saves.

    The arithmetic has the order and the types of algrshn/resnet50
    (https://github.com/algrshn/resnet50), file utils.py: the whole image is scaled to
    0..1 before it is cropped, and the covariance is of [N, 3]. The original also reads
    config.txt and a label file for each image.

    Args:
        workload: The input.
        prepare: Returns an image for (batch index, index in the batch). Its shorter
            side is at least the crop's: uint8 in 0..255 or float64 in 0..1, [H, W] or
            [H, W, 3].
    """
    rng = np.random.default_rng(0)
    size = workload.settings.augmentation.crop_size
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

    def make_batch(epoch: int, batch_index: int) -> None:
        shape = (workload.settings.batch_size, size, size, 3)
        batch = np.zeros(shape, np.float32)
        for index in range(len(batch)):
            batch[index] = make_image(prepare(batch_index, index))
        np.save(workload.scratch_dir / "algrshn.npy", batch.astype(np.float16))

    return make_batch


def make_algrshn_resized_beforehand(workload: Workload) -> MakeBatch:
    """Works like algrshn/resnet50: skimage, float64, images resized beforehand.

    Each image has one random side. The resized JPEGs have quality 75, which is also the
    default of skimage.io.imsave.
    """
    import skimage.io

    folder = workload.scratch_dir / "resized"
    folder.mkdir()

    def path_of(batch_index: int, index: int) -> Path:
        return folder / f"{batch_index:04d}_{index:04d}.jpg"

    for batch_index, paths in enumerate(workload.batches):
        many_params = batch_params(workload.settings, Position(0, batch_index))
        for index, (path, params) in enumerate(zip(paths, many_params)):
            with Image.open(path) as file:
                image = file.convert("RGB")
            height, width = _resized_size(
                image.height, image.width, params.shorter_side
            )
            image.resize((width, height), Image.Resampling.BILINEAR).save(
                path_of(batch_index, index)
            )
    return _make_float64(
        workload, lambda *address: skimage.io.imread(path_of(*address))
    )


def make_algrshn_resizing(workload: Workload) -> MakeBatch:
    """Works like algrshn/resnet50, resizing at run time with skimage.transform."""
    import skimage.io
    import skimage.transform

    rng = np.random.default_rng(0)

    def prepare(batch_index: int, index: int) -> np.ndarray:
        image = skimage.io.imread(workload.batches[batch_index][index])
        side = int(rng.choice(workload.sides))
        return skimage.transform.resize(image, _resized_size(*image.shape[:2], side))

    return _make_float64(workload, prepare)
