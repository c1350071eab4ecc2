"""The previews of a batch, and of one image in many epochs, as contact sheets."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet50.dataset.decoding import UndecodableImageError, decode_pixels, decode_rgb
from resnet50.dataset.images import Dataset
from resnet50.errors import UserError
from resnet50.handoff.buffer import BatchBuffer, StoredBatch, has_shifts
from resnet50.handoff.manifest import differences, read_manifest
from resnet50.handoff.npy_file import BatchFileError
from resnet50.handoff.progress import Position
from resnet50.pixels.augmentation import (
    AugmentationParams,
    ChannelStatistics,
    augment,
    crop_footprint,
    normalize_crops,
)
from resnet50.preprocessing.batches import (
    Assignment,
    Assignments,
    BatchSettings,
    MadeBatch,
    batch_params,
    decode_first_readable,
    make_batch,
)
from resnet50.reports.contact_sheet import (
    Tile,
    contact_sheet,
    crop_region,
    small_with_region,
)

# Epochs that a comparison shows: five rows.
_NUM_COMPARED = 25


class PreviewError(UserError):
    """A batch or an image cannot be shown, or a batch is not what it should be."""


def visible(
    images: np.ndarray, shifts: np.ndarray | None, statistics: ChannelStatistics
) -> np.ndarray:
    """A batch's images as the network sees them, de-normalized: uint8 [N, H, W, 3].

    Undoes step 4, and clips what the colour jitter moved out of range. The images are
    normalized float16 or float32 [N, H, W, 3], RGB; or uint8, with shifts.
    """
    if shifts is not None:
        images = normalize_crops(images, shifts, statistics)
    levels = 255 * (images.astype(np.float32) * statistics.std + statistics.mean)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def read_stored(
    buffer: BatchBuffer, position: Position, dataset: Dataset, settings: BatchSettings
) -> StoredBatch:
    """Reads a batch from the buffer.

    Raises:
        PreviewError: It is missing, damaged, or was made with other settings.
    """
    manifest = read_manifest(buffer.folder)
    if manifest is None:
        raise PreviewError("the buffer is empty")
    if changed := differences(manifest, settings.manifest(dataset)):
        raise PreviewError(f"the buffer has other settings: {changed[0]}")
    try:
        return buffer.read(position, settings.spec(dataset))
    except FileNotFoundError:
        raise PreviewError("it is not in the buffer") from None
    except (BatchFileError, OSError) as error:
        raise PreviewError(str(error)) from None


def require_equal(path: Path, stored: StoredBatch, made: MadeBatch) -> None:
    """Compares a stored batch with the same batch created again, bit by bit.

    Raises:
        PreviewError: An image, a label or a colour shift differs.
    """
    pairs = [(stored.images, made.images), (stored.labels, made.labels)]
    if made.shifts is not None and stored.shifts is not None:
        pairs.append((stored.shifts, made.shifts))
    different = [
        index
        for index in range(len(made.labels))
        if any(a[index].tobytes() != b[index].tobytes() for a, b in pairs)
    ]
    if different:
        raise PreviewError(
            f"{path}: differs from the same batch created again in {len(different)} of "
            f"{len(made.labels)} images, first at index {different[0]} (has an image "
            "file changed? delete the batch's two files, and they are created again)"
        )


def _tile(
    original: Image.Image, params: AugmentationParams, crop: np.ndarray, title: str
) -> Tile:
    region = crop_region(original.size, params, len(crop))
    words = [f"shorter side {params.shorter_side}"]
    if params.optional.area_crop is not None:
        left, top, right, bottom = region
        words = [f"{round(right - left)} x {round(bottom - top)} pixels"]
    words += ["flipped"] * params.is_flipped
    if params.optional.operation is not None:
        words.append(str(params.optional.operation))
    return Tile(small_with_region(original, region), crop, title, ", ".join(words))


def batch_sheet(
    heading: str,
    batch: StoredBatch | MadeBatch,
    assignment: Assignment,
    dataset: Dataset,
    settings: BatchSettings,
    reasons: dict[int, str],
) -> Image.Image:
    """Renders all images of a batch, in its order.

    Adds to ``reasons`` why images cannot be read, by index in the assignment.
    """
    crops = visible(batch.images, batch.shifts, settings.statistics)
    tiles = []
    for index, params in enumerate(batch_params(settings, assignment.position)):
        _, pixels = decode_first_readable(index, assignment, reasons, decode_pixels)
        original = Image.fromarray(np.asarray(pixels))
        title = f"#{index}  {dataset.class_titles[batch.labels[index]]}"
        tiles.append(_tile(original, params, crops[index], title))
    return contact_sheet(heading, tiles)


def first_batch_sheet(dataset: Dataset, settings: BatchSettings) -> Image.Image:
    """Renders the first batch of a training."""
    assignment = Assignments(dataset, settings)[Position(0, 0)]
    batch = make_batch(settings, assignment)
    return batch_sheet("epoch 0, batch 0", batch, assignment, dataset, settings, {})


class Showing(NamedTuple):
    """One of the times that the network sees an image."""

    position: Position
    # In the batch.
    index: int  # type: ignore[assignment]  # hides tuple.index


def showings(
    image_index: int, first_epoch: int, dataset: Dataset, settings: BatchSettings
) -> Iterator[Showing]:
    """Yields endlessly when the network sees an image, starting at an epoch.

    An epoch may leave the image out, as with its incomplete last batch.
    """
    num_batches = dataset.batches_per_epoch(settings.batch_size)
    repeats = settings.augmentation.repeated_augmentation
    for epoch in itertools.count(first_epoch):
        order = settings.order(dataset, epoch)
        for rank in np.flatnonzero(order == image_index):
            group, index = divmod(int(rank), settings.batch_size)
            for batch_index in range(group * repeats, (group + 1) * repeats):
                if batch_index < num_batches:
                    yield Showing(Position(epoch, batch_index), index)


def showing_tile(
    original: Image.Image, showing: Showing, settings: BatchSettings
) -> Tile:
    """Renders an image as one epoch shows it."""
    size = settings.crop_size_at(showing.position.epoch)
    params = batch_params(settings, showing.position)[showing.index]
    images = np.empty((1, size, size, 3), settings.dtype)
    source = crop_footprint(original.size, params, size)
    shift = augment(original, source, params, settings.statistics, out=images[0])
    shifts = shift[None] if has_shifts(settings.dtype) else None
    (crop,) = visible(images, shifts, settings.statistics)
    return _tile(original, params, crop, f"{showing.position}, #{showing.index}")


def comparison_sheet(
    first: Showing, dataset: Dataset, settings: BatchSettings
) -> tuple[str, Image.Image]:
    """Renders an image as 25 epochs show it, starting at its first showing.

    Returns:
        The name of the image, and the sheet.

    Raises:
        PreviewError: The batch has no such index, or the image cannot be read.
    """
    size = settings.batch_size
    if not 0 <= first.index < size:
        raise PreviewError(
            f"--compare = {first.index} (a batch has the indices 0 to {size - 1})"
        )
    order = settings.order(dataset, first.position.epoch)
    group = first.position.batch_index // settings.augmentation.repeated_augmentation
    rank = group * size + first.index
    image_index = int(order[rank])
    (source,) = dataset.sources([image_index])
    try:
        original = decode_rgb(source)
    except UndecodableImageError as error:
        raise PreviewError(f"{source}: cannot be read: {error}") from None
    times = showings(image_index, first.position.epoch, dataset, settings)
    compared = itertools.islice(times, _NUM_COMPARED)
    tiles = [showing_tile(original, showing, settings) for showing in compared]
    title = dataset.class_titles[dataset.labels[image_index]]
    return str(source), contact_sheet(f"{title}: {source}", tiles)
