"""Shows the images of a batch as the network sees them, in one picture.

    python -m resnet50 preview --epoch=3 --batch=17

The batch is read from the buffer. If it is not there, it is made from its address,
without either of the two programs. Next to each image is its crop, de-normalized; below
are its index in the batch, its class, the shorter side that it was resized to, and
whether it is flipped.

    python -m resnet50 preview --epoch=3 --batch=17 --check
    python -m resnet50 preview --epoch=3 --batch=17 --compare=5

--check creates the batch again and compares it with the buffer's, bit by bit.
--compare shows the image at one index of the batch in this epoch and the next ones.
"""

import argparse
from pathlib import Path

from PIL import Image

from resnet50 import command_line
from resnet50.config.settings import ConfigError
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_training_set
from resnet50.errors import printable_line
from resnet50.handoff.buffer import BatchBuffer, StoredBatch
from resnet50.handoff.progress import Position
from resnet50.preprocessing.batches import (
    Assignments,
    BatchSettings,
    MadeBatch,
    make_batch,
)
from resnet50.reports.previews import (
    PreviewError,
    Showing,
    batch_sheet,
    comparison_sheet,
    read_stored,
    require_equal,
)


def show_batch(
    position: Position,
    dataset: Dataset,
    settings: BatchSettings,
    buffer: BatchBuffer,
    *,
    check: bool,
) -> Image.Image:
    """Renders a batch; prints its images, its origin and the unreadable images.

    Raises:
        PreviewError: With check, if the buffer's batch is missing or differs.
    """
    assignment = Assignments(dataset, settings)[position]
    for source in assignment.sources[: settings.batch_size]:
        print(printable_line(str(source)))
    path = buffer.images_path(position)
    batch: StoredBatch | MadeBatch
    try:
        stored = read_stored(buffer, position, dataset, settings)
    except PreviewError as reason:
        if check:
            message = f"{path}: --check has nothing to check, {reason}"
            raise PreviewError(message) from None
        batch = make_batch(settings, assignment)
        origin = f"made from its address: {reason}"
    else:
        batch, origin = stored, f"read from {path}"
        if check:
            require_equal(path, stored, make_batch(settings, assignment))
            origin += ", bitwise equal to the same batch created again"
    heading = f"{position}: {origin}"
    print(heading)
    reasons: dict[int, str] = {}
    sheet = batch_sheet(heading, batch, assignment, dataset, settings, reasons)
    for index in sorted(reasons):
        text = f"unreadable, replaced: {assignment.sources[index]}: {reasons[index]}"
        print(printable_line(text))
    return sheet


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__, "batch_size")
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="its batch index")
    parser.add_argument("--output", help="default: preview_EPOCH_BATCH.png")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true", help="compare the buffer's batch, bit by bit"
    )
    compare_help = "show the image at this index of the batch in 25 epochs instead"
    what.add_argument("--compare", type=int, metavar="INDEX", help=compare_help)
    return parser


def main() -> None:
    """Renders the batch, or one of its images, and writes the picture."""
    args = build_parser().parse_args()
    config = command_line.load_config(args)
    dataset = open_training_set(config.dataset, config.train.buffer_folder)
    settings = BatchSettings.from_config(config)
    batches_per_epoch = dataset.batches_per_epoch(settings.batch_size)
    if args.epoch < 0 or not 0 <= args.batch < batches_per_epoch:
        raise ConfigError(
            f"--epoch = {args.epoch}, --batch = {args.batch} (an epoch has the batches "
            f"0 to {batches_per_epoch - 1}; epochs count from 0)"
        )
    position = Position(args.epoch, args.batch)
    name = f"preview_{args.epoch}_{args.batch}"
    if args.compare is None:
        buffer = BatchBuffer(config.train.buffer_folder)
        sheet = show_batch(position, dataset, settings, buffer, check=args.check)
    else:
        name += f"_{args.compare}"
        first = Showing(position, args.compare)
        source, sheet = comparison_sheet(first, dataset, settings)
        print(source)
    output = Path(args.output or f"{name}.png")
    try:
        sheet.save(output)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--output = {output} ({error})") from None
    print(f"{position} is shown in {output}")
