"""Batches by torchvision's transforms: float32 [N, 3, H, W]."""

import random
from pathlib import Path

from PIL import Image

from benchmarks.peers.workload import MakeBatch, Workload, draw_choices


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


def make_torchvision_on_pillow(workload: Workload) -> MakeBatch:
    """Steps 1-5 with torchvision.transforms on Pillow images."""
    torch, torchvision = import_torchvision()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transforms = torchvision.transforms
    rng = random.Random(0)
    statistics = workload.settings.statistics
    after_resize = transforms.Compose(
        [
            transforms.RandomCrop(workload.crop_size),
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
            rng.choice(workload.sides),
            transforms.InterpolationMode.BILINEAR,
            antialias=True,
        )
        return after_resize(image)

    def make_batch(epoch: int, batch_index: int):
        return torch.stack([make_image(path) for path in workload.batches[batch_index]])

    return make_batch


def make_torchvision_on_tensors(
    workload: Workload, *, crops_first: bool = False
) -> MakeBatch:
    """Steps 1-5 with torchvision.transforms.v2 on the tensors of torchcodec's decoder.

    torchvision's own decoder is deprecated; it returns the same pixels as fast.

    Args:
        workload: The input.
        crops_first: Resizes only the crop's part of the image, in whole pixels.
    """
    torch, _ = import_torchvision()
    torch.set_num_threads(1)
    from torchcodec.decoders import decode_jpeg
    from torchvision.transforms.v2 import functional

    rng = random.Random(0)
    size, statistics = workload.crop_size, workload.settings.statistics

    def make_image(path: Path):
        image = decode_jpeg(path.read_bytes())
        choices = draw_choices(rng, workload, image.shape[2], image.shape[1])
        if crops_first:
            left, top, side = choices.window(size)
            image = functional.resized_crop(
                image, top, left, side, side, [size, size], antialias=True
            )
        else:
            resized = [choices.height, choices.width]
            image = functional.resize(image, resized, antialias=True)
            image = functional.crop(image, choices.top, choices.left, size, size)
        if choices.is_flipped:
            image = functional.horizontal_flip(image)
        image = functional.to_dtype(image, torch.float32, scale=True)
        return functional.normalize(
            image, statistics.mean, statistics.std, inplace=True
        )

    def make_batch(epoch: int, batch_index: int):
        return torch.stack([make_image(path) for path in workload.batches[batch_index]])

    return make_batch
