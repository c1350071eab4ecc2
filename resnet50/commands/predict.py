"""What a trained network sees in images: the five most probable classes of each.

    python -m resnet50 predict --run_folder=mytestrun photograph.jpg holiday/

A folder stands for all images in it and in its subfolders. Neither the training images
nor the buffer is needed: the names of the classes are in the checkpoint. The exit
status is 1 if any image could not be read.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnet50 import command_line
from resnet50.commands.evaluate import add_crops_flag
from resnet50.config.settings import Config
from resnet50.dataset.images import DatasetError, FolderWalk
from resnet50.dataset.listing import open_training_set
from resnet50.dataset.sources import ImageFile
from resnet50.errors import UserError
from resnet50.terminal import say
from resnet50.training.checkpoint import (
    CheckpointError,
    load_model,
    read_description,
)
from resnet50.training.devices.selection import prepare_device
from resnet50.training.evaluation import Evaluator, Prediction
from resnet50.training.resume import choose_checkpoint
from resnet50.training.update.step import create_model

_NUM_ANSWERS = 5


class PredictError(UserError):
    """There is no image to look at, or one cannot be read."""


class Answer(NamedTuple):
    """One of the classes that an image may show."""

    name: str
    words: str  # "" where the dataset has none
    probability: float  # 0..1


class Classes(NamedTuple):
    """The classes of a network, in the order of its outputs."""

    names: list[str]
    words: list[str]  # as many, or none

    def best(self, probabilities: np.ndarray) -> list[Answer]:
        """The five most probable ones, the first of equals first.

        Args:
            probabilities: float32 [K].
        """
        labels = np.argsort(-probabilities, kind="stable")[:_NUM_ANSWERS]
        words = self.words or self.names
        return [
            Answer(
                self.names[label],
                words[label] if words[label] != self.names[label] else "",
                float(probabilities[label]),
            )
            for label in labels
        ]


def list_images(names: Iterable[str], notify: Callable[[str], None]) -> list[ImageFile]:
    """The files that the command line names; those of folders that may be images.

    Raises:
        PredictError: A folder holds no image.
        DatasetError: A folder cannot be read.
    """
    images: list[ImageFile] = []
    for name in names:
        folder = Path(name)
        if not folder.is_dir():
            images.append(ImageFile(name))
            continue
        walk = FolderWalk(remedy="name a folder that may be read")
        inside = list(walk.images_below(folder))
        if not inside:
            reason = "; ".join(["holds no images", *walk.passed_over.remarks()])
            raise PredictError(f"{folder}: {reason}")
        for remark in walk.passed_over.remarks():
            notify(f"{folder}: {remark}")
        images += [ImageFile(f"{folder}/{path}") for path in inside]
    return images


def classes_of(path: Path, description: dict, config: Config) -> Classes:
    """The classes of a checkpoint; an old one's are looked up in the dataset.

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
    """A checkpoint's network, ready for images, and its classes.

    Raises:
        CheckpointError: It is missing, damaged, or not of [model] in config.txt.
    """
    description = read_description(path)
    classes = classes_of(path, description, config)
    model = create_model(len(classes.names), config.model)
    settings = {
        "variant": config.model.variant,
        "normalization": config.model.normalization,
    }
    load_model(model, path, settings, weights=None)
    return Evaluator(model, config, num_crops), classes


def as_table(image: str, answers: list[Answer]) -> str:
    """Lines for people: the image, then a class a line."""
    lines = [
        f"  {answer.probability:7.2%}  {answer.name}"
        + (f"  {answer.words}" if answer.words else "")
        for answer in answers
    ]
    return "\n".join([image, *lines])


def as_json(prediction: Prediction, answers: list[Answer] | None) -> str:
    """One line for programs: a JSON object; with the reason if there is no answer."""
    result = (
        {"error": prediction.reason}
        if answers is None
        else {"top5": [answer._asdict() for answer in answers]}
    )
    return json.dumps({"image": str(prediction.source), **result})


def main() -> None:
    """Prints what the network says to each image."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("--run_folder", required=True, help="name of the run")
    parser.add_argument(
        "--epoch", type=int, help="its checkpoint after this epoch; default: the newest"
    )
    add_crops_flag(parser)
    parser.add_argument(
        "--json", action="store_true", help="a JSON object a line instead of a table"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file or a folder")
    args = parser.parse_args()
    config = command_line.load_config(args)
    images = list_images(args.images, say)
    path = choose_checkpoint(command_line.run_folder(args, config), args.epoch)
    prepare_device(deterministic=False, notify=say)
    evaluator, classes = load_classifier(config, path, args.crops)
    say(f"{path}: {len(classes.names):,} classes")
    num_unreadable = 0
    for prediction in evaluator.predict(images):
        if prediction.probabilities is None:
            num_unreadable += 1
            say(f"{prediction.source}: unreadable: {prediction.reason}")
            answers = None
        else:
            answers = classes.best(prediction.probabilities)
        if args.json:
            print(as_json(prediction, answers), flush=True)
        elif answers is not None:
            print(as_table(str(prediction.source), answers), flush=True)
    if num_unreadable:
        raise PredictError(
            f"{num_unreadable} of {len(images)} images could not be read"
        )
