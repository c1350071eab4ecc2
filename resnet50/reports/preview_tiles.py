"""What preview draws: tiles of a batch, or of one image in many epochs."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.dataset.images import Dataset, epoch_order
from resnet50.handoff.buffer import StoredBatch
from resnet50.handoff.progress import Position
from resnet50.pixels.augmentation import (
    AugmentationParams,
    ChannelStatistics,
    augment,
    normalize_crops,
)
from resnet50.preprocessing.batches import (
    Assignment,
    BatchSettings,
    MadeBatch,
    batch_params,
    decode_first_readable,
)
from resnet50.reports.contact_sheet import Tile, crop_box, small_with_box


def denormalize(images: np.ndarray, statistics: ChannelStatistics) -> np.ndarray:
    """Undoes step 4, and clips what the colour jitter moved out of range.

    Args:
        images: float16 or float32 [N, H, W, 3], RGB, normalized.
        statistics: What they were normalized with.

    Returns:
        uint8 [N, H, W, 3].
    """
    levels = 255 * (images.astype(np.float32) * statistics.std + statistics.mean)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def visible(
    images: np.ndarray, shifts: np.ndarray | None, statistics: ChannelStatistics
) -> np.ndarray:
    """A batch's images as the network sees them, de-normalized; uint8 [N, H, W, 3]."""
    if shifts is not None:
        images = normalize_crops(images, shifts, statistics)
    return denormalize(images, statistics)


def caption_of(choice: AugmentationParams) -> str:
    """What was drawn for an image, in words."""
    return f"shorter side {choice.shorter_side}" + ", flipped" * choice.is_flipped


def batch_tiles(
    batch: StoredBatch | MadeBatch,
    assignment: Assignment,
    dataset: Dataset,
    recipe: BatchSettings,
    reasons: dict[int, str],
) -> Iterator[Tile]:
    """The tiles of a batch, in its order.

    Args:
        batch: Read or made.
        assignment: Its address.
        dataset: For the names of the classes.
        recipe: What it was made with.
        reasons: Why images cannot be read, by index in the assignment; added to.
    """
    crops = visible(batch.images, batch.shifts, recipe.statistics)
    crop_size = recipe.augmentation.crop_size
    for place, choice in enumerate(batch_params(recipe, assignment.position)):
        _, pixels = decode_first_readable(place, assignment, reasons)
        original = Image.fromarray(np.asarray(pixels))
        yield Tile(
            small_with_box(original, crop_box(original.size, choice, crop_size)),
            crops[place],
            f"#{place}  {dataset.class_titles[batch.labels[place]]}",
            caption_of(choice),
        )


class Showing(NamedTuple):
    """One of the times that the network sees an image."""

    position: Position
    place: int  # in the batch


def showings(
    image_index: int, first_epoch: int, dataset: Dataset, recipe: BatchSettings
) -> Iterator[Showing]:
    """When the network sees an image, from some epoch on, without end.

    An epoch whose incomplete last batch it falls into does not show it.
    """
    num_whole = dataset.batches_per_epoch(recipe.batch_size) * recipe.batch_size
    for epoch in itertools.count(first_epoch):
        order = epoch_order(dataset.num_images, recipe.seed, epoch)
        (rank,) = np.flatnonzero(order == image_index)
        if rank < num_whole:
            batch_index, place = divmod(int(rank), recipe.batch_size)
            yield Showing(Position(epoch, batch_index), place)


def comparison_tile(
    original: Image.Image, showing: Showing, recipe: BatchSettings
) -> Tile:
    """An image as one of its epochs shows it."""
    crop_size = recipe.augmentation.crop_size
    choice = batch_params(recipe, showing.position)[showing.place]
    images = np.empty((1, crop_size, crop_size, 3), recipe.dtype)
    shift = augment(original, choice, crop_size, recipe.statistics, out=images[0])
    shifts = shift[None] if images.dtype == np.uint8 else None
    return Tile(
        small_with_box(original, crop_box(original.size, choice, crop_size)),
        visible(images, shifts, recipe.statistics)[0],
        f"{showing.position}, #{showing.place}",
        caption_of(choice),
    )
