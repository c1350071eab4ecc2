"""Shows what the network is fed: draws the images of a batch as one picture.

    python -m resnet50 preview --epoch=3 --batch=17

The batch is read from the buffer if it is there, and else made from its address, which
needs neither of the two programs. Each image stands beside its crop, which is
de-normalized; below are its place in the batch, its class, the shorter side that it was
resized to, and whether it is flipped.

    python -m resnet50 preview --epoch=3 --batch=17 --check
    python -m resnet50 preview --epoch=3 --batch=17 --compare=5

--check makes the batch that is in the buffer anew and compares the two bit by bit.
--compare follows the image at one place of the batch through the epochs from there on.
"""

import itertools
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from resnet50 import command_line
from resnet50.config.settings import ConfigError
from resnet50.dataset.decoding import UndecodableImageError, decode_rgb
from resnet50.dataset.images import Dataset, epoch_order
from resnet50.dataset.listing import open_training_set
from resnet50.errors import UserError
from resnet50.handoff.buffer import BatchBuffer, BatchFileError, StoredBatch
from resnet50.handoff.manifest import differences, read_manifest
from resnet50.handoff.progress import Position
from resnet50.preprocessing.batches import (
    Assignments,
    BatchSettings,
    MadeBatch,
    make_batch,
)
from resnet50.reports.contact_sheet import contact_sheet
from resnet50.reports.preview_tiles import batch_tiles, comparison_tile, showings

# Epochs that --compare shows: five rows.
_NUM_COMPARED = 25


class PreviewError(UserError):
    """What shall be shown is not there, or is not what it should be."""


class Stored(NamedTuple):
    """What the buffer holds of a batch."""

    batch: StoredBatch | None
    obstacle: str  # why there is none


def look_into(
    buffer: BatchBuffer, position: Position, dataset: Dataset, recipe: BatchSettings
) -> Stored:
    """Reads a batch from the buffer if it is there, whole, and of these settings."""
    manifest = read_manifest(buffer.folder)
    if manifest is None:
        return Stored(None, "nothing is in the buffer")
    changed = differences(manifest, recipe.manifest(dataset))
    if changed:
        return Stored(None, f"the buffer is of other settings: {changed[0]}")
    try:
        return Stored(buffer.read(position, recipe.spec(dataset)), "")
    except FileNotFoundError:
        return Stored(None, "it is not in the buffer")
    except (BatchFileError, OSError) as error:
        return Stored(None, str(error))


def differing_places(stored: StoredBatch, made: MadeBatch) -> list[int]:
    """Places in a batch whose image, label or colour shift is not the same, bitwise."""
    pairs = [(stored.images, made.images), (stored.labels, made.labels)]
    if made.shifts is not None:
        pairs.append((stored.shifts, made.shifts))
    return [
        place
        for place in range(len(made.labels))
        if any(a[place].tobytes() != b[place].tobytes() for a, b in pairs)
    ]


def require_equal(path: Path, stored: Stored, made: MadeBatch) -> None:
    """Compares a batch in the buffer with the same batch made anew.

    Raises:
        PreviewError: There is none in the buffer, or it differs.
    """
    if stored.batch is None:
        raise PreviewError(f"{path}: --check has nothing to check, {stored.obstacle}")
    places = differing_places(stored.batch, made)
    if places:
        raise PreviewError(
            f"{path}: differs from the same batch made anew in {len(places)} of "
            f"{len(made.labels)} images, first at place {places[0]} (has an image file "
            "changed? delete the batch's two files, and they are made anew)"
        )


def draw_comparison(
    position: Position, place: int, dataset: Dataset, recipe: BatchSettings
) -> Image.Image:
    """Draws the image at one place of a batch as the epochs from there on show it.

    Raises:
        PreviewError: The place is not in the batch, or the image cannot be read.
    """
    if not 0 <= place < recipe.batch_size:
        raise PreviewError(
            f"--compare = {place} (the places of a batch are 0 to "
            f"{recipe.batch_size - 1})"
        )
    order = epoch_order(dataset.num_images, recipe.seed, position.epoch)
    index = int(order[position.batch_index * recipe.batch_size + place])
    (source,) = dataset.sources([index])
    try:
        original = decode_rgb(source)
    except UndecodableImageError as error:
        raise PreviewError(f"{source}: cannot be read: {error}") from None
    print(source)
    times = showings(index, position.epoch, dataset, recipe)
    heading = f"{dataset.class_titles[dataset.labels[index]]}: {source}"
    tiles = [
        comparison_tile(original, showing, recipe)
        for showing in itertools.islice(times, _NUM_COMPARED)
    ]
    return contact_sheet(heading, tiles)


def draw_batch(
    position: Position,
    dataset: Dataset,
    recipe: BatchSettings,
    buffer: BatchBuffer,
    *,
    check: bool,
) -> Image.Image:
    """Draws a batch; prints its images' names, where it is from, and what is amiss.

    Raises:
        PreviewError: With check, if the buffer's batch is not the one made anew.
    """
    assignment = Assignments(dataset, recipe)[position]
    for source in assignment.sources[: recipe.batch_size]:
        print(source)
    stored = look_into(buffer, position, dataset, recipe)
    path = buffer.images_path(position)
    if check:
        require_equal(path, stored, make_batch(recipe, assignment))
        origin = f"read from {path}, bitwise equal to the same batch made anew"
    elif stored.batch is None:
        origin = f"made from its address: {stored.obstacle}"
    else:
        origin = f"read from {path}"
    batch = stored.batch or make_batch(recipe, assignment)
    print(f"{position}: {origin}")
    reasons: dict[int, str] = {}
    tiles = list(batch_tiles(batch, assignment, dataset, recipe, reasons))
    for index in sorted(reasons):
        print(f"unreadable, replaced: {assignment.sources[index]}: {reasons[index]}")
    return contact_sheet(f"{position}: {origin}", tiles)


def main() -> None:
    """Draws the batch, or one of its images, and writes the picture."""
    parser = command_line.make_parser(__doc__, "batch_size")
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="its batch index")
    parser.add_argument("--output", help="default: preview_EPOCH_BATCH.png")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true", help="prove the buffer's batch, bit by bit"
    )
    what.add_argument(
        "--compare",
        type=int,
        metavar="PLACE",
        help="show the image at this place of the batch in 25 epochs instead",
    )
    args = parser.parse_args()
    config = command_line.load_config(args)
    dataset = open_training_set(config.dataset, config.train.buffer_folder)
    recipe = BatchSettings.from_config(config)
    batches_per_epoch = dataset.batches_per_epoch(recipe.batch_size)
    if args.epoch < 0 or not 0 <= args.batch < batches_per_epoch:
        raise ConfigError(
            f"--epoch = {args.epoch}, --batch = {args.batch} (an epoch has the batches "
            f"0 to {batches_per_epoch - 1}; epochs count from 0)"
        )
    position = Position(args.epoch, args.batch)
    if args.compare is None:
        buffer = BatchBuffer(config.train.buffer_folder)
        sheet = draw_batch(position, dataset, recipe, buffer, check=args.check)
    else:
        sheet = draw_comparison(position, args.compare, dataset, recipe)
    name = f"preview_{position.epoch}_{position.batch_index}"
    name += "" if args.compare is None else f"_{args.compare}"
    output = Path(args.output or f"{name}.png")
    try:
        sheet.save(output)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--output = {output} ({error})") from None
    print(f"{position} is drawn in {output}")
