"""torchvision's optional steps on given draws. Needs torch; not a test.

    python -m tests.pixels.torchvision_steps

writes torchvision_steps.npz beside this file, with which test_optional_steps.py
compares this project's steps. It was made with torchvision 0.29.1 and Pillow 13.0.0.
"""

from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from resnet50.pixels.random_boxes import draw_boxes
from resnet50.pixels.trivial_augment import OPERATIONS, SIGNED, UNSIGNED
from tests.images import photograph

VECTORS = Path(__file__).with_suffix(".npz")
CROP_SIZE, RESIZED = 16, 12
# Of the image; the last ones have no box within the ratios, or few.
SIZES = [(90, 60), (61, 97), (50, 50), (200, 37), (20, 200), (3, 2), (1, 1), (600, 10)]
AREAS, RATIOS = (0.08, 1.0), (3 / 4, 4 / 3)
ERASED_AREAS, ERASED_RATIOS = (0.02, 0.33), (0.3, 3.3)
LEVELS = (7, 15, 30)


def box_draws():
    """Draws for crops, and for erasing. Some areas of the latter never fit."""
    rng = np.random.default_rng(5)
    crops = draw_boxes(rng, 5 * len(SIZES), AREAS, RATIOS)
    erasings = draw_boxes(rng, 30, ERASED_AREAS, ERASED_RATIOS)
    erasings += draw_boxes(rng, 10, (0.9, 1.0), ERASED_RATIOS)
    return list(zip(5 * SIZES, crops)), erasings


def draws_of(torch, draw):
    """Replaces torchvision's draws by these."""
    tries = [x for pair in zip(draw.areas, np.log(draw.ratios)) for x in pair]
    uniform, fractions = iter(tries), iter(draw.fractions)
    empty = mock.Mock()
    empty.return_value.uniform_ = lambda low, high: torch.tensor(
        next(uniform), dtype=torch.float64
    )

    def randint(low, high, size):
        return torch.tensor([int(next(fractions) * high)])

    return mock.patch.multiple(torch, empty=empty, randint=randint)


def main() -> None:
    """Writes the vectors."""
    import torch
    from torchvision.transforms import v2

    arrays = {}
    crop = photograph(CROP_SIZE, CROP_SIZE)
    augment = v2.TrivialAugmentWide(fill=0)
    for name in OPERATIONS:
        compute, _ = augment._AUGMENTATION_SPACE[name]
        levels = LEVELS if name in SIGNED + UNSIGNED else (0,)
        for level in (*levels, *(-x for x in levels if name in SIGNED)):
            strengths = compute(31, CROP_SIZE, CROP_SIZE)
            strength = 0.0 if strengths is None else float(strengths[abs(level)])
            image = augment._apply_image_or_video_transform(
                Image.fromarray(crop),
                name,
                -strength if level < 0 else strength,
                augment.interpolation,
                augment._fill,
            )
            arrays[f"{name} {level}"] = np.asarray(image)
    crops, erasings = box_draws()
    resize = v2.RandomResizedCrop(RESIZED, AREAS, RATIOS, antialias=True)
    boxes, images = [], []
    for (width, height), draw in crops:
        image = torch.from_numpy(photograph(width, height).copy()).permute(2, 0, 1)
        with draws_of(torch, draw):
            box = resize.make_params([image])
        boxes.append([box[key] for key in ("left", "top", "width", "height")])
        images.append(resize.transform(image, box).permute(1, 2, 0).numpy())
    arrays["crop boxes"], arrays["crops"] = np.array(boxes), np.array(images)
    erase, boxes = v2.RandomErasing(1.0), []
    for draw in erasings:
        with draws_of(torch, draw):
            box = erase.make_params([torch.zeros(3, CROP_SIZE, CROP_SIZE)])
        found = [box[key] for key in ("j", "i", "w", "h")]
        boxes.append([0, 0, 0, 0] if box["v"] is None else found)
    arrays["erased boxes"] = np.array(boxes)
    np.savez_compressed(VECTORS, **arrays)


if __name__ == "__main__":
    main()
