"""Makes one batch from its address; knows everything that its content depends on.

The content is a pure function of (dataset, settings, seed, epoch, batch_index): any
worker, on any machine, after any restart, makes the same bytes.
"""

import contextlib
import dataclasses
import errno
import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import numpy as np

from resnet50.config.settings import AugmentationConfig, Config
from resnet50.dataset.decoding import (
    ImagePart,
    UndecodableImageError,
    decode_part,
    decode_pixels,
    decoder_versions,
)
from resnet50.dataset.images import Dataset, balanced_order, epoch_order
from resnet50.dataset.jpeg_regions import Region
from resnet50.dataset.sources import ImageSource, reading_ahead
from resnet50.errors import UserError
from resnet50.handoff.buffer import BatchSpec, Rows, crop_size_at, has_shifts
from resnet50.handoff.progress import Position
from resnet50.pixels.augmentation import (
    AugmentationParams,
    ChannelStatistics,
    augment,
    crop_footprint,
    sample_params,
)
from resnet50.pixels.optional_steps import sample_optional

# Purpose tag of the augmentation's random streams; see dataset.images.EPOCH_ORDER.
AUGMENTATION = 2

# To be incremented when a change of the code changes the batches or their files.
FORMAT_VERSION = 2


class NothingReadableError(UserError):
    """Not one of many images can be read, so the whole disk is probably gone."""


@dataclasses.dataclass(frozen=True)
class BatchSettings:
    """The settings that a batch's content depends on, besides the dataset.

    The rows are those that are made and stored; None: all. They have the same content
    as in the whole batch.
    """

    seed: int
    batch_size: int
    dtype: str
    statistics: ChannelStatistics
    augmentation: AugmentationConfig
    sampling: str = "uniform"
    rows: Rows | None = None

    @classmethod
    def from_config(cls, config: Config, rows: Rows | None = None) -> "BatchSettings":
        """Picks the settings from all of config.txt."""
        return cls(
            seed=config.train.seed,
            batch_size=config.train.batch_size,
            dtype=config.train.dtype,
            statistics=ChannelStatistics.from_config(config.dataset),
            augmentation=config.augmentation,
            sampling=config.train.sampling,
            rows=rows,
        )

    @property
    def made_rows(self) -> Rows:
        """The rows that are made."""
        return self.rows or Rows(0, self.batch_size)

    def spec(self, dataset: Dataset) -> BatchSpec:
        """What every stored batch looks like."""
        return BatchSpec(
            batch_size=self.made_rows.size,
            crop_size=self.augmentation.crop_size,
            dtype=self.dtype,
            num_classes=dataset.num_classes,
            crop_size_schedule=self.augmentation.crop_size_schedule,
        )

    def crop_size_at(self, epoch: int) -> int:
        """Side of the crops in an epoch, pixels."""
        settings = self.augmentation
        return crop_size_at(epoch, settings.crop_size, settings.crop_size_schedule)

    def order(self, dataset: Dataset, epoch: int) -> np.ndarray:
        """The images of an epoch in order, int64 [num_images].

        With "balanced" sampling, an image may be there several times, or not at all.
        """
        if self.sampling == "balanced":
            return balanced_order(dataset.labels, self.seed, epoch)
        return epoch_order(dataset.num_images, self.seed, epoch)

    def manifest(self, dataset: Dataset) -> dict:
        """Everything that the batches' content depends on, as a flat mapping.

        It includes versions, because the pixels depend on numpy's random streams and on
        the decoders.
        """
        return {
            "format_version": FORMAT_VERSION,
            "batch_size": self.batch_size,
            **({"rows": [self.rows.first, self.rows.end - 1]} if self.rows else {}),
            "seed": self.seed,
            "dtype": self.dtype,
            "sampling": self.sampling,
            **dataclasses.asdict(self.augmentation),
            "channel_mean": list(self.statistics.mean),
            "channel_std": list(self.statistics.std),
            "num_images": dataset.num_images,
            "num_classes": dataset.num_classes,
            "dataset_fingerprint": dataset.fingerprint,
            "numpy_version": np.__version__,
            **decoder_versions(),
        }


# Images that follow the batch in the epoch's order and may replace unreadable ones. If
# none of the batch and of these can be read, the disk is gone.
_NUM_SPARES = 16


class Assignment(NamedTuple):
    """What a worker needs to make one batch; small, so it is cheap to send."""

    position: Position
    sources: list[ImageSource]  # of the batch's images, then of the spares
    labels: np.ndarray  # int32 [len(sources)]


class MadeBatch(NamedTuple):
    """The rows of a batch, and which of their images could not be read."""

    images: np.ndarray  # settings.dtype [N, crop, crop, 3], RGB
    labels: np.ndarray  # int32 [N]
    shifts: np.ndarray | None  # float32 [N, 3]; None if the images are normalized
    unreadable: list[tuple[str, str]]  # name and reason


class Assignments:
    """Finds the images of any batch. Caches the last epoch's order."""

    def __init__(self, dataset: Dataset, settings: BatchSettings):
        self.settings = settings
        self._dataset = dataset
        self._order = functools.lru_cache(maxsize=1)(settings.order)

    def __getitem__(self, position: Position) -> Assignment:
        """The images and labels that belong to a position."""
        num_images, size = self._dataset.num_images, self.settings.batch_size
        order = self._order(self._dataset, position.epoch)
        # With repeated augmentation, consecutive batches have the same images, as GPUs
        # have in torchvision. In one batch, copies would be each other's partners in
        # mixup, and a normalization would see fewer images.
        repeats = self.settings.augmentation.repeated_augmentation
        first = position.batch_index // repeats * size
        indices = order[np.arange(first, first + size + _NUM_SPARES) % num_images]
        return Assignment(
            position, self._dataset.sources(indices), self._dataset.labels[indices]
        )


def batch_params(
    settings: BatchSettings, position: Position
) -> list[AugmentationParams]:
    """Draws the augmentation parameters of each image of a batch.

    In an epoch with smaller crops the shorter sides are reduced in proportion, rounded
    down, so that a crop shows as much of its image as one of crop_size.
    """
    rng = np.random.default_rng([settings.seed, AUGMENTATION, *position])
    params = [
        sample_params(rng, settings.augmentation) for _ in range(settings.batch_size)
    ]
    size = settings.crop_size_at(position.epoch)
    full_size = settings.augmentation.crop_size
    optional = sample_optional(
        settings.seed, position, settings.batch_size, settings.augmentation
    )
    return [
        p._replace(shorter_side=p.shorter_side * size // full_size, optional=choices)
        for p, choices in zip(params, optional)
    ]


# Images are decoded in a row until they have so many pixels; then they are augmented.
# One at a time is 10 % slower, because decoding and augmenting evict each other's code
# and data from the processor's caches. Several of the largest images would take
# gigabytes.
_DECODED_PIXELS = 2**22


_Decoded = TypeVar("_Decoded")


def decode_first_readable(
    index: int,
    assignment: Assignment,
    reasons: dict[int, str],
    decode: Callable[[ImageSource], _Decoded],
) -> tuple[int, _Decoded]:
    """Decodes an image of a batch or, if it cannot be read, the next that can.

    Returns the index of the decoded image in the assignment, and what ``decode``
    returned. Adds to ``reasons``, by index, why images cannot be read.

    Raises:
        NothingReadableError: None of the assignment's images can be read.
    """
    sources = assignment.sources
    for candidate in (*range(index, len(sources)), *range(index)):
        if candidate in reasons:
            continue
        try:
            return candidate, decode(sources[candidate])
        except UndecodableImageError as error:
            reasons[candidate] = str(error)
    raise NothingReadableError(
        f"none of the {len(sources) - _NUM_SPARES} images of {assignment.position} can "
        f"be read, nor the next {_NUM_SPARES}; the first is {sources[0]}: {reasons[0]} "
        "(is the disk with the images there?)"
    )


def _require_unreadable(sources: Iterable[ImageSource]) -> None:
    """Raises OSError if an image that was replaced can now be read.

    Its disk was gone for a moment. In another run the batch would have other bytes.
    """
    for source in sources:
        with contextlib.suppress(UndecodableImageError):
            decode_pixels(source)
            raise OSError(
                errno.EIO,
                f"{source}: was unreadable for a moment (is its disk all right?)",
            )


def _region_of(
    params: AugmentationParams, crop_size: int
) -> Callable[[tuple[int, int]], Region]:
    """Returns which part of an image, by its width and height, a crop comes from."""
    return lambda size: crop_footprint(size, params, crop_size).region


def make_batch(settings: BatchSettings, assignment: Assignment) -> MadeBatch:
    """Makes the rows of one batch.

    An unreadable image is replaced by the next readable one in the epoch's order, with
    that image's label. The augmentation parameters stay the same.

    Raises:
        NothingReadableError: None of the batch's and the spare images can be read.
        OSError: An image was unreadable, but is no longer. Or a server with images
            does not answer.
    """
    rows = settings.made_rows
    crop_size = settings.crop_size_at(assignment.position.epoch)
    images = np.empty((rows.size, crop_size, crop_size, 3), settings.dtype)
    shifts = np.empty((rows.size, 3), np.float32)
    used = np.arange(*rows)  # indices in the assignment
    params = batch_params(settings, assignment.position)
    reasons: dict[int, str] = {}
    decoded: list[tuple[int, ImagePart]] = []
    num_pixels = 0

    def augment_decoded() -> None:
        for i, part in decoded:
            source = crop_footprint(part.image_size, params[i], crop_size)
            source = source.within(part.corner)
            row = i - rows.first
            shifts[row] = augment(
                part.pixels, source, params[i], settings.statistics, out=images[row]
            )
        decoded.clear()

    with reading_ahead(assignment.sources[rows.first : rows.end]):
        for index in range(*rows):
            region_of = _region_of(params[index], crop_size)
            decode = functools.partial(decode_part, region_of=region_of)
            found, part = decode_first_readable(index, assignment, reasons, decode)
            used[index - rows.first] = found
            decoded.append((index, part))
            num_pixels += part.num_pixels
            if num_pixels >= _DECODED_PIXELS:
                augment_decoded()
                num_pixels = 0
    augment_decoded()
    _require_unreadable(assignment.sources[i] for i in reasons)
    unreadable = [(str(assignment.sources[i]), reasons[i]) for i in sorted(reasons)]
    return MadeBatch(
        images,
        assignment.labels[used],
        shifts if has_shifts(settings.dtype) else None,
        unreadable,
    )
