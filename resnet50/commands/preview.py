"""Shows a batch: rebuilds it from its address and draws its images as one picture.

    python -m resnet50 preview --epoch=3 --batch=17

Needs neither the buffer nor the two programs. The picture is de-normalized; under each
crop stand its class, its shorter side and whether it is flipped.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from resnet50 import command_line
from resnet50.config import ConfigError
from resnet50.handoff.progress import Position
from resnet50.preprocessing.augmentation import ChannelStatistics, normalize
from resnet50.preprocessing.batches import Assignments, Recipe, draws, make_batch
from resnet50.preprocessing.dataset_index import open_training_set

_COLUMNS = 8
_CAPTION_PIXELS = 14
_SMALLEST_TILE_PIXELS = 112  # a caption's width


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


def contact_sheet(crops: np.ndarray, captions: list[str]) -> Image.Image:
    """Draws crops in rows of eight, each with a caption under it.

    Args:
        crops: uint8 [N, H, H, 3].
        captions: One for each.
    """
    side = max(crops.shape[1], _SMALLEST_TILE_PIXELS)
    rows = -(-len(crops) // _COLUMNS)
    height = side + _CAPTION_PIXELS
    sheet = Image.new("RGB", (_COLUMNS * side, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (crop, caption) in enumerate(zip(crops, captions)):
        left, top = index % _COLUMNS * side, index // _COLUMNS * height
        sheet.paste(Image.fromarray(crop).resize((side, side)), (left, top))
        pen.text((left + 2, top + side + 1), caption, fill="black")
    return sheet


def main() -> None:
    """Rebuilds the batch and writes the picture."""
    parser = command_line.make_parser(__doc__, "batch_size")
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="its batch index")
    parser.add_argument("--output", help="default: preview_EPOCH_BATCH.png")
    args = parser.parse_args()
    config = command_line.load_config(args)
    dataset = open_training_set(config.dataset, config.train.buffer_folder)
    recipe = Recipe.from_config(config)
    batches_per_epoch = dataset.batches_per_epoch(recipe.batch_size)
    if args.epoch < 0 or not 0 <= args.batch < batches_per_epoch:
        raise ConfigError(
            f"--epoch = {args.epoch}, --batch = {args.batch} (an epoch has the batches "
            f"0 to {batches_per_epoch - 1}; epochs count from 0)"
        )
    position = Position(args.epoch, args.batch)
    assignment = Assignments(dataset, recipe)[position]
    batch = make_batch(recipe, assignment)
    captions = [
        f"{dataset.class_names[label]} {choice.shorter_side}"
        + (" flipped" if choice.is_flipped else "")
        for label, choice in zip(batch.labels, draws(recipe, position))
    ]
    images = batch.images
    if batch.shifts is not None:
        images = normalize(images, batch.shifts, recipe.statistics)
    sheet = contact_sheet(denormalize(images, recipe.statistics), captions)
    output = Path(args.output or f"preview_{position.epoch}_{position.batch_index}.png")
    try:
        sheet.save(output)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--output = {output} ({error})") from None
    for path in assignment.paths[: recipe.batch_size]:
        print(path)
    for path, reason in batch.unreadable:
        print(f"unreadable, replaced: {path}: {reason}")
    print(f"{position} is drawn in {output}")
