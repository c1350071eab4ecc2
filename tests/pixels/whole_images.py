"""The six steps on a whole image that is in memory."""

import numpy as np
from PIL import Image

from resnet50.pixels import augmentation
from resnet50.pixels.augmentation import AugmentationParams, crop_footprint
from resnet50.pixels.resampling import resample_crop


def resize_and_crop(image, params: AugmentationParams, crop_size: int) -> np.ndarray:
    """Steps 2, 3 and 5."""
    source = crop_footprint(_size(image), params, crop_size)
    crop = np.empty((crop_size, crop_size, 3), np.uint8)
    return resample_crop(image, source, crop, is_flipped=params.is_flipped)


def augment_whole(image, params: AugmentationParams, statistics, out) -> np.ndarray:
    """Steps 2 to 6; see ``augment``."""
    source = crop_footprint(_size(image), params, len(out))
    return augmentation.augment(image, source, params, statistics, out)


def _size(image) -> tuple[int, int]:
    return image.size if isinstance(image, Image.Image) else image.shape[1::-1]
