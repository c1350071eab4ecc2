"""Predicts the five most probable classes of any images.

    python -m resnet50 predict --run_folder=mytestrun photograph.jpg holiday/

A folder stands for all images in it and in its subfolders. Neither the training images
nor the buffer is needed: the checkpoint contains the names of the classes. The exit
status is 1 if any image could not be read.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from resnet50 import command_line
from resnet50.commands.evaluate import add_crops_flag
from resnet50.dataset.class_folders import FolderWalk
from resnet50.dataset.sources import ImageSource
from resnet50.errors import UserError, printable_line
from resnet50.reports.answers import as_json, as_table
from resnet50.terminal import say


class PredictError(UserError):
    """There are no images, or one cannot be read."""


def list_images(
    names: Iterable[str], notify: Callable[[str], None]
) -> list[ImageSource]:
    """Lists the files on the command line, and the images in its folders.

    Raises:
        PredictError: A folder contains no image.
        DatasetError: A folder cannot be read.
    """
    images: list[ImageSource] = []
    for name in names:
        folder = Path(name)
        if not folder.is_dir():
            images.append(ImageSource(name))
            continue
        walk = FolderWalk(remedy="name a folder that may be read")
        inside = list(walk.images_below(folder))
        if not inside:
            reason = "; ".join(["holds no images", *walk.remarks()])
            raise PredictError(f"{folder}: {reason}")
        for remark in walk.remarks():
            notify(f"{folder}: {remark}")
        images += [ImageSource(f"{folder}/{path}") for path in inside]
    return images


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("--run_folder", required=True, help="name of the run")
    command_line.add_checkpoint_flag(parser)
    add_crops_flag(parser)
    parser.add_argument(
        "--json", action="store_true", help="a JSON object per line, not a table"
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=command_line.local_path,
        metavar="IMAGE",
        help="a file or a folder",
    )
    return parser


def main() -> None:
    """Prints the most probable classes of each image."""
    args = build_parser().parse_args()
    config = command_line.load_config(args)
    images = list_images(args.images, say)
    run_folder = command_line.run_folder(args, config)
    with command_line.loading_tensorflow():
        # TensorFlow takes seconds; everything else has been checked before.
        from resnet50.training.devices.selection import prepare_device
        from resnet50.training.evaluation import Evaluator
        from resnet50.training.resume import choose_checkpoint, load_classifier
    path = choose_checkpoint(run_folder, args.epoch)
    prepare_device(deterministic=False, notify=say)
    model, classes = load_classifier(config, path)
    say(f"{path}: {len(classes.names):,} classes")
    num_unreadable = 0
    for prediction in Evaluator(model, config, args.crops).predict(images):
        image, answers = str(prediction.source), None
        if prediction.probabilities is None:
            num_unreadable += 1
            say(printable_line(f"{image}: unreadable: {prediction.reason}"))
        else:
            answers = classes.best(prediction.probabilities)
        if args.json:
            print(as_json(image, answers, prediction.reason), flush=True)
        elif answers is not None:
            print(as_table(printable_line(image), answers), flush=True)
    if num_unreadable:
        total = len(images)
        raise PredictError(f"{num_unreadable} of {total} images could not be read")
