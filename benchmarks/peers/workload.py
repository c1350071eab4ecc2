"""The input of every variant, and the random choices for an image."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnet50.pixels.resampling import resized_size
from resnet50.preprocessing.batches import BatchSettings

# Makes the batch of (epoch, batch index).
MakeBatch = Callable[[int, int], object]


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

    @property
    def crop_size(self) -> int:
        """Side of the crops, pixels."""
        return self.settings.augmentation.crop_size

    @property
    def normalization_table(self) -> np.ndarray:
        """Step 4 of each level and channel: float32 [256, 3]."""
        mean, std = self.settings.statistics
        return ((np.arange(256)[:, None] / 255 - mean) / std).astype(np.float32)

    def filled_by(
        self, make_image: Callable[[Path, np.ndarray], None], *, channels_first=False
    ) -> MakeBatch:
        """Returns what makes batches, image by image.

        ``make_image`` writes the crop of a file into float32 [crop, crop, 3], or
        [3, crop, crop].
        """
        size = self.crop_size
        shape = (3, size, size) if channels_first else (size, size, 3)

        def make_batch(epoch: int, batch_index: int) -> np.ndarray:
            batch = np.empty((self.settings.batch_size, *shape), np.float32)
            for path, out in zip(self.batches[batch_index], batch):
                make_image(path, out)
            return batch

        return make_batch


class Choices(NamedTuple):
    """The random choices for one image."""

    width: int  # of the resized image
    height: int
    left: int  # the crop's corner in the resized image
    top: int
    is_flipped: bool
    scale: float  # pixels of the image per pixel of the resized one

    def window(self, crop_size: int) -> tuple[int, int, int]:
        """The part of the image that becomes the crop, in whole pixels.

        Returns left, top and side, for a peer that crops first and then resizes.
        """
        left, top = int(self.left * self.scale), int(self.top * self.scale)
        return left, top, round(crop_size * self.scale)


def draw_choices(
    rng: random.Random, workload: Workload, width: int, height: int
) -> Choices:
    """Makes the choices of steps 1, 3 and 5 for an image of this size."""
    side = rng.choice(workload.sides)
    resized_width, resized_height = resized_size(width, height, side)
    return Choices(
        width=resized_width,
        height=resized_height,
        left=rng.randrange(resized_width - workload.crop_size + 1),
        top=rng.randrange(resized_height - workload.crop_size + 1),
        is_flipped=rng.random() < 0.5,
        scale=min(width, height) / side,
    )
