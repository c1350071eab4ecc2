"""One batch from its address, and all that its content depends on.

The content is a pure function of (dataset, settings, seed, epoch, batch_index): any
worker, on any machine, after any restart, makes the same bytes.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.config.settings import AugmentationConfig, Config
from resnet50.dataset.decoding import (
    UndecodableImageError,
    decode_pixels,
    decoder_versions,
)
from resnet50.dataset.images import Dataset, epoch_order
from resnet50.dataset.sources import ImageSource
from resnet50.errors import UserError
from resnet50.handoff.buffer import BatchSpec, crop_size_at
from resnet50.handoff.progress import Position
from resnet50.pixels.augmentation import (
    AugmentationParams,
    ChannelStatistics,
    augment,
    sample_params,
)

# Purpose tag of the augmentation's random streams; see imagenet.EPOCH_ORDER.
AUGMENTATION = 2

# Raised when a change of the code changes the content of batches.
FORMAT_VERSION = 1


class NothingReadableError(UserError):
    """Not one of many images can be read: the disk is gone, not an image."""


@dataclasses.dataclass(frozen=True)
class BatchSettings:
    """The settings that a batch's content depends on, besides the dataset."""

    seed: int
    batch_size: int
    dtype: str
    statistics: ChannelStatistics
    augmentation: AugmentationConfig

    @classmethod
    def from_config(cls, config: Config) -> "BatchSettings":
        """Picks the settings from all of config.txt."""
        return cls(
            seed=config.train.seed,
            batch_size=config.train.batch_size,
            dtype=config.train.dtype,
            statistics=ChannelStatistics.from_config(config.dataset),
            augmentation=config.augmentation,
        )

    def spec(self, dataset: Dataset) -> BatchSpec:
        """What every batch of this recipe looks like."""
        return BatchSpec(
            batch_size=self.batch_size,
            crop_size=self.augmentation.crop_size,
            dtype=self.dtype,
            num_classes=dataset.num_classes,
            crop_size_schedule=self.augmentation.crop_size_schedule,
        )

    def crop_size_at(self, epoch: int) -> int:
        """Side of the crops in an epoch, pixels."""
        settings = self.augmentation
        return crop_size_at(epoch, settings.crop_size, settings.crop_size_schedule)

    def manifest(self, dataset: Dataset) -> dict:
        """Everything that the content depends on, as a flat mapping for the buffer.

        Versions are part of it, because numpy's random streams and the decoders decide
        the pixels.
        """
        return {
            "format_version": FORMAT_VERSION,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "dtype": self.dtype,
            **dataclasses.asdict(self.augmentation),
            "channel_mean": list(self.statistics.mean),
            "channel_std": list(self.statistics.std),
            "num_images": dataset.num_images,
            "num_classes": dataset.num_classes,
            "dataset_fingerprint": dataset.fingerprint,
            "numpy_version": np.__version__,
            **decoder_versions(),
        }


# Images behind a batch's own, in the epoch's order, that may replace unreadable ones.
# If not one of the batch and of so many more can be read, it is the disk that is gone.
_NUM_SPARES = 16


class Assignment(NamedTuple):
    """What a worker needs to make one batch; small, so that sending it is cheap."""

    position: Position
    sources: list[ImageSource]  # of the batch's images, then of the spares
    labels: np.ndarray  # int32 [len(sources)]


class MadeBatch(NamedTuple):
    """A batch, and which of its images could not be read."""

    images: np.ndarray  # recipe.dtype [N, crop, crop, 3], RGB; normalized unless uint8
    labels: np.ndarray  # int32 [N]
    shifts: np.ndarray | None  # float32 [N, 3], with uint8 images only
    unreadable: list[tuple[str, str]]  # name and reason


class Assignments:
    """Looks up the images of any batch. Remembers the last epoch's order."""

    def __init__(self, dataset: Dataset, recipe: BatchSettings):
        self._dataset = dataset
        self._recipe = recipe
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def __getitem__(self, position: Position) -> Assignment:
        """The images and labels that belong to a position."""
        epoch, batch_index = position
        if epoch != self._epoch:
            self._order = epoch_order(
                self._dataset.num_images, self._recipe.seed, epoch
            )
            self._epoch = epoch
        size = self._recipe.batch_size
        first = batch_index * size
        places = np.arange(first, first + size + _NUM_SPARES) % len(self._order)
        indices = self._order[places]
        return Assignment(
            position, self._dataset.sources(indices), self._dataset.labels[indices]
        )


def batch_params(recipe: BatchSettings, position: Position) -> list[AugmentationParams]:
    """The random choices for each image of a batch.

    In an epoch of smaller crops the shorter sides are smaller in proportion, rounded
    down: a crop shows as much of its image as one of crop_size does.
    """
    rng = np.random.default_rng([recipe.seed, AUGMENTATION, *position])
    choices = [
        sample_params(rng, recipe.augmentation) for _ in range(recipe.batch_size)
    ]
    size, full_size = recipe.crop_size_at(position.epoch), recipe.augmentation.crop_size
    return [
        choice._replace(shorter_side=choice.shorter_side * size // full_size)
        for choice in choices
    ]


# Images decoded one after the other before they are augmented one after the other: in
# turn, each of the two finds the processor's caches filled by the other (7 % slower).
_DECODED_AT_ONCE = 4


def decode_first_readable(
    place: int, assignment: Assignment, reasons: dict[int, str]
) -> tuple[int, Image.Image | np.ndarray]:
    """Decodes the image of a place or, if that cannot be read, the next that can.

    Args:
        place: In the batch.
        assignment: Of the batch.
        reasons: Why images cannot be read, by their index in the assignment; added to.

    Returns:
        The index of the image in the assignment, and the image.
    """
    sources = assignment.sources
    for index in (*range(place, len(sources)), *range(place)):
        if index in reasons:
            continue
        try:
            return index, decode_pixels(sources[index])
        except UndecodableImageError as error:
            reasons[index] = str(error)
    num_spares = min(_NUM_SPARES, len(sources))
    raise NothingReadableError(
        f"none of the {len(sources) - num_spares} images of {assignment.position} can "
        f"be read, nor the next {num_spares}; the first is {sources[0]}: {reasons[0]} "
        "(is the disk with the images there?)"
    )


def make_batch(recipe: BatchSettings, assignment: Assignment) -> MadeBatch:
    """Makes one batch.

    An image that cannot be read is replaced by the next one in the epoch's order that
    can, with that one's label; what was drawn for its place stays.

    Raises:
        NothingReadableError: Not one image, of the batch and the spares, can be read.
    """
    crop_size = recipe.crop_size_at(assignment.position.epoch)
    images = np.empty((recipe.batch_size, crop_size, crop_size, 3), recipe.dtype)
    shifts = np.empty((recipe.batch_size, 3), np.float32)
    indices = np.arange(recipe.batch_size)
    choices = batch_params(recipe, assignment.position)
    reasons: dict[int, str] = {}
    for start in range(0, recipe.batch_size, _DECODED_AT_ONCE):
        places = range(start, min(start + _DECODED_AT_ONCE, recipe.batch_size))
        decoded = [decode_first_readable(p, assignment, reasons) for p in places]
        for place, (index, image) in zip(places, decoded):
            indices[place] = index
            shifts[place] = augment(
                image, choices[place], crop_size, recipe.statistics, out=images[place]
            )
    unreadable = [(str(assignment.sources[i]), reasons[i]) for i in sorted(reasons)]
    return MadeBatch(
        images,
        assignment.labels[indices],
        shifts if images.dtype == np.uint8 else None,
        unreadable,
    )
