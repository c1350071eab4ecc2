"""The random choices of the steps that config.txt leaves out as shipped.

    crop_method = "random_area"   random_boxes.area_box, instead of steps 1 and 3
    trivial_augment               trivial_augment.apply_operation, after step 5
    erasing_probability           random_boxes.erased_box, after step 6

Each has a random stream of its own, so none of them changes the others' choices, nor
those of the six steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resnet50.config.settings import AugmentationConfig
from resnet50.pixels.random_boxes import BoxDraw, draw_boxes, draw_erasing
from resnet50.pixels.trivial_augment import Operation, draw_operations

# Purpose tags of the random streams; see dataset.images.EPOCH_ORDER.
_AREA_CROP, _TRIVIAL_AUGMENT, _ERASING = 21, 22, 23


class OptionalParams(NamedTuple):
    """The choices for one image; None where a step is left out."""

    area_crop: BoxDraw | None = None
    operation: Operation | None = None
    erasing: BoxDraw | None = None


def sample_optional(
    seed: int, address: tuple[int, int], number: int, settings: AugmentationConfig
) -> list[OptionalParams]:
    """Makes the choices for all images of the batch at an address."""
    areas: Sequence[BoxDraw | None] = [None] * number
    operations: Sequence[Operation | None] = [None] * number
    erasings: Sequence[BoxDraw | None] = [None] * number
    if settings.crop_method == "random_area":
        rng = np.random.default_rng([seed, _AREA_CROP, *address])
        areas = draw_boxes(rng, number, settings.crop_area, settings.crop_ratio)
    if settings.trivial_augment:
        rng = np.random.default_rng([seed, _TRIVIAL_AUGMENT, *address])
        operations = draw_operations(rng, number)
    if settings.erasing_probability:
        rng = np.random.default_rng([seed, _ERASING, *address])
        is_erased = rng.random(number) < settings.erasing_probability
        boxes = draw_erasing(rng, number)
        erasings = [box if erased else None for erased, box in zip(is_erased, boxes)]
    return [OptionalParams(*choices) for choices in zip(areas, operations, erasings)]
