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
from resnet50.config.settings import Config
from resnet50.dataset.class_folders import FolderWalk
from resnet50.dataset.images import DatasetError
from resnet50.dataset.listing import open_training_set
from resnet50.dataset.sources import ImageSource
from resnet50.errors import UserError
from resnet50.network.model import ResNet50
from resnet50.reports.answers import Classes, as_json, as_table
from resnet50.terminal import say
from resnet50.training.checkpoint import (
    CheckpointError,
    load_model,
    read_description,
)
from resnet50.training.devices.selection import prepare_device
from resnet50.training.evaluation import Evaluator
from resnet50.training.resume import choose_checkpoint


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


def classes_of(path: Path, description: dict, config: Config) -> Classes:
    """The classes of a checkpoint; those of an old one come from the dataset.

    Raises:
        CheckpointError: It does not name them, and the dataset has others or is gone.
    """
    if "class_names" in description:
        return Classes(description["class_names"], description.get("class_words", []))
    try:
        dataset = open_training_set(config.dataset, config.train.buffer_folder)
    except DatasetError as error:
        raise CheckpointError(
            f"{path}: is too old to name its classes, and the training images cannot "
            f"be asked: {error}"
        ) from None
    if dataset.num_classes != description["num_classes"]:
        raise CheckpointError(
            f"{path}: was trained with num_classes = {description['num_classes']}, "
            f"[dataset] in config.txt has {dataset.num_classes}"
        )
    return Classes(list(dataset.class_names), list(dataset.class_words))


def load_classifier(
    config: Config, path: Path, num_crops: int
) -> tuple[Evaluator, Classes]:
    """Loads a checkpoint's network and its classes.

    Raises:
        CheckpointError: It is missing, damaged, or does not fit [model] in config.txt.
    """
    classes = classes_of(path, read_description(path), config)
    model = ResNet50(len(classes.names), config.model)
    settings = {
        "variant": config.model.variant,
        "normalization": config.model.normalization,
    }
    load_model(model, path, settings, weights=None)
    return Evaluator(model, config, num_crops), classes


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("--run_folder", required=True, help="name of the run")
    parser.add_argument(
        "--epoch", type=int, help="its checkpoint after this epoch; default: the newest"
    )
    add_crops_flag(parser)
    parser.add_argument(
        "--json", action="store_true", help="a JSON object per line, not a table"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file or a folder")
    return parser.parse_args()


def main() -> None:
    """Prints the most probable classes of each image."""
    args = parse_arguments()
    config = command_line.load_config(args)
    images = list_images(args.images, say)
    path = choose_checkpoint(command_line.run_folder(args, config), args.epoch)
    prepare_device(deterministic=False, notify=say)
    evaluator, classes = load_classifier(config, path, args.crops)
    say(f"{path}: {len(classes.names):,} classes")
    num_unreadable = 0
    for prediction in evaluator.predict(images):
        image, answers = str(prediction.source), None
        if prediction.probabilities is None:
            num_unreadable += 1
            say(f"{image}: unreadable: {prediction.reason}")
        else:
            answers = classes.best(prediction.probabilities)
        if args.json:
            print(as_json(image, answers, prediction.reason), flush=True)
        elif answers is not None:
            print(as_table(image, answers), flush=True)
    if num_unreadable:
        total = len(images)
        raise PredictError(f"{num_unreadable} of {total} images could not be read")
