"""Writes the configuration that all other programs read: the first step.

    python -m resnet50 init
    python -m resnet50 init photos --output=photos.txt

Without a folder of images: writes config.txt and recipes/ as shipped.

With one: divides the images into training and validation images by two lists, unless
the folder contains train and val; computes the channel statistics; and chooses values
that fit the images and the machine. No image is moved or changed. With
--recipe=finetuning the values of that recipe are kept.
"""

import argparse
import os
import shutil
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tomli

from resnet50 import command_line
from resnet50.checks.cuda import find_memory
from resnet50.checks.disks import existing_part
from resnet50.checks.machine import usable_cores
from resnet50.config.settings import Config, ConfigError
from resnet50.config.starting_values import Changes, Circumstances, choose_values
from resnet50.config.toml_file import read_config, write_changed
from resnet50.dataset.decoding import UndecodableImageError, decode_rgb
from resnet50.dataset.images import Dataset, DatasetError
from resnet50.dataset.listing import (
    open_dataset,
    open_training_set,
    open_validation_set,
)
from resnet50.dataset.split import choose_validation, require_divisible, write_list
from resnet50.errors import printable_line
from resnet50.installation import SHIPPED
from resnet50.preprocessing.channel_stats import statistics_of, sum_dataset
from resnet50.preprocessing.process_pool import worker_pool
from resnet50.terminal import progress_bar, say

_TEMPLATE, _RECIPES = SHIPPED / "config.txt", SHIPPED / "recipes"
_RAM_DISK = Path("/dev/shm")
_RUN = "first"  # the run that is proposed
_MAX_MEASURED = 100  # images whose sizes are measured

# Values of a recipe that the images and the machine decide instead.
_NOT_FROM_RECIPES = {
    *("training_images", "training_list", "validation_images", "validation_list"),
    *("crop_size", "shorter_side", "batch_size", "buffer_folder", "buffer_size"),
}


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_plain_parser(__doc__)
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        type=command_line.local_path,
        nargs="?",
        help="with your images",
    )
    parser.add_argument("--output", default="config.txt", help="default: config.txt")
    parser.add_argument(
        "--recipe",
        type=_recipe,
        help="whose values are kept: a file, or the name of one in recipes/",
    )
    parser.add_argument(
        "--validation_share",
        type=float,
        help="share of each class's images that validate; default: 0.1",
    )
    parser.add_argument("--seed", type=int, help="of the split; default: 0")
    return parser


def _recipe(word: str) -> Path:
    """A recipe's file, given by its path or by its name in recipes/."""
    shipped = {path.stem: path for path in sorted(_RECIPES.glob("*.txt"))}
    path = Path(word)
    # So recipes/NAME.txt needs no folder recipes.
    known = path.parent == Path("recipes") and path.suffix == ".txt"
    found = path if path.is_file() else shipped.get(path.stem if known else word)
    if found is None:
        expected = f"must be a file, or one of {', '.join(shipped)}"
        raise argparse.ArgumentTypeError(f"{word!r} ({expected})")
    return found


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = build_parser()
    args = parser.parse_args()
    if not Path(args.output).name:
        parser.error(f"--output = {args.output!r} (must be the path of a new file)")
    args.config = str(Path(args.output))  # for the commands that are printed
    if args.folder is None:
        for name in ("recipe", "validation_share", "seed"):
            if getattr(args, name) is not None:
                parser.error(f"--{name} needs FOLDER, the folder of your images")
        if Path(args.output).name != "config.txt":
            parser.error(
                f"--output = {args.output!r} (must be a config.txt, which the recipes "
                "name; for another file, give FOLDER)"
            )
        return args
    args.seed = 0 if args.seed is None else args.seed
    share = args.validation_share = (
        0.1 if args.validation_share is None else args.validation_share
    )
    if not 0 < share < 1:
        parser.error(f"--validation_share = {share} (must be above 0, below 1)")
    if args.seed < 0:
        parser.error(f"--seed = {args.seed} (must be at least 0)")
    return args


class _Files(NamedTuple):
    """The files that are written."""

    config: Path
    training_list: Path
    validation_list: Path

    @classmethod
    def beside(cls, config: Path) -> "_Files":
        """The lists are named after the configuration: photos-training.txt."""
        names = (f"{config.stem}-{part}.txt" for part in ("training", "validation"))
        return cls(config, *(config.with_name(name) for name in names))


def _require_new(paths: Iterable[Path]) -> None:
    """Raises ConfigError if one exists: nothing is overwritten."""
    for path in paths:
        if path.exists() or path.is_symlink():
            raise ConfigError(
                f"{path}: exists (move it away, or give another --output)"
            )


def median_shorter_side(dataset: Dataset) -> int:
    """The median of the shorter sides of some images, evenly spaced in the dataset.

    Raises:
        DatasetError: None of them can be read.
    """
    count = min(_MAX_MEASURED, dataset.num_images)
    indices = np.linspace(0, dataset.num_images - 1, count).astype(int)
    sides = []
    for source in dataset.sources(indices):
        try:
            sides.append(min(decode_rgb(source).size))
        except UndecodableImageError as error:
            reason = f"{source}: {error}"
    if not sides:
        raise DatasetError(
            f"{dataset.folder}: none of {count} images can be read; the last is "
            f"{reason}"
        )
    return int(statistics.median(sides))


def _images_of(folder: Path, files: _Files, args) -> tuple[dict, int]:
    """Divides the images if necessary; returns [dataset]'s keys and how many train."""
    path = folder.resolve()
    if os.fsencode(path) != str(path).encode("utf-8", "replace"):
        raise DatasetError(printable_line(f"{folder}: is not UTF-8 (rename it)"))
    dataset = open_dataset(folder, None, notify=say)
    say(dataset.summary)
    root = files.config.parent.resolve()
    images = str(path.relative_to(root) if path.is_relative_to(root) else path)
    keys = {"training_images": images, "validation_images": images}
    if dataset.folder != folder:  # It contains both parts.
        validation = open_dataset(folder, None, dataset.class_names, notify=say)
        say(validation.summary)
        absent = sorted(set(range(dataset.num_classes)) - set(validation.labels))
        if absent:
            say(
                f"warning: {validation.folder}: has no image of {len(absent):,} of "
                f"{dataset.num_classes:,} classes, such as "
                f"{dataset.class_names[absent[0]]} (their accuracy is not measured)"
            )
        return {**keys, "training_list": "", "validation_list": ""}, dataset.num_images
    require_divisible(dataset)
    chosen = choose_validation(dataset.labels, args.validation_share, args.seed)
    write_list(files.training_list, dataset, ~chosen)
    write_list(files.validation_list, dataset, chosen)
    say(
        f"{files.training_list}: {(~chosen).sum():,} images; {files.validation_list}: "
        f"{chosen.sum():,}, {args.validation_share:.0%} of each class by --seed="
        f"{args.seed}"
    )
    lists = {
        "training_list": files.training_list.name,
        "validation_list": files.validation_list.name,
    }
    return {**keys, **lists}, int((~chosen).sum())


def _circumstances(dataset: Dataset, num_images: int, output: Path) -> Circumstances:
    cards = [card.total_bytes for card in find_memory()]
    has_ram_disk = os.access(_RAM_DISK, os.W_OK)
    name = f"buffer-{output.absolute().parent.name}-{output.stem}"
    return Circumstances(
        shorter_side=median_shorter_side(dataset),
        num_images=num_images,
        num_cores=max(1, int(usable_cores())),
        card_bytes=min(cards, default=None),
        disk_bytes=shutil.disk_usage(existing_part(output.absolute().parent)).free,
        ram_disk=str(_RAM_DISK / name),
        ram_disk_bytes=shutil.disk_usage(_RAM_DISK).free if has_ram_disk else 0,
    )


def _with_recipe(changes: Changes, recipe: Path) -> Changes:
    """Keeps a recipe's values.

    Its learning rate is scaled to the batch size, its scheduled sizes to the crop size.
    """
    whole = read_config(recipe)  # Checks it.
    own = tomli.loads(recipe.read_text(encoding="utf-8-sig"))
    own.pop("base", None)
    merged = {name: dict(values) for name, values in changes.items()}
    for name, values in own.items():
        kept = {k: v for k, v in values.items() if k not in _NOT_FROM_RECIPES}
        merged.setdefault(name, {}).update(kept)
    train = merged["train"]
    scale = train["batch_size"] / whole.train.batch_size
    train["learning_rate"] = round(whole.train.learning_rate * scale, 6)
    steps, crop_size = merged["augmentation"], whole.augmentation.crop_size
    for step in steps.get("crop_size_schedule", []):
        size = step[1] * steps["crop_size"] / crop_size
        step[1] = max(32, round(size / 32) * 32)
    say(
        f"{recipe}: its values are kept; learning_rate = {train['learning_rate']} for "
        f"batches of {train['batch_size']}, epochs = {whole.train.epochs}"
    )
    return merged


def _computed_statistics(config: Config, num_workers: int) -> dict[str, list[float]]:
    """[dataset] channel_mean and channel_std of the training images."""
    dataset = open_training_set(config.dataset, None)
    with (
        worker_pool(num_workers) as pool,
        progress_bar(total=dataset.num_images, unit=" images") as bar,
    ):
        exact = statistics_of(sum_dataset(dataset, pool, bar.update))
    if min(exact.std) == 0:
        raise DatasetError(f"{dataset.folder}: a channel is the same in all images")
    return {
        f"channel_{name}": [round(value, 6) for value in values]
        for name, values in exact._asdict().items()
    }


def write_as_shipped(config: Path) -> None:
    """Writes config.txt, and recipes/ next to it.

    Raises:
        ConfigError: One exists, or cannot be written.
    """
    recipes = config.with_name("recipes")
    _require_new([config, recipes])
    command_line.make_folder(recipes, "--output")
    try:
        for source in sorted(_RECIPES.glob("*.txt")):
            write_changed(source, recipes / source.name, {})
        write_changed(_TEMPLATE, config, {})
    except BaseException:
        shutil.rmtree(recipes, ignore_errors=True)
        raise


def main() -> None:
    """Writes the configuration."""
    args = parse_arguments()
    if args.folder is None:
        write_as_shipped(Path(args.output))
        print(f"{args.output}: written, with recipes/ next to it")
        print("Set training_images and validation_images in it. Then check them:")
        print(f"    {command_line.command_for('doctor', args)}")
        _print_programs(args)
        return
    folder, files = Path(args.folder).absolute(), _Files.beside(Path(args.output))
    _require_new(files)
    try:
        _write(args, folder, files)
    except BaseException:
        for path in files:  # All of them are new.
            path.unlink(missing_ok=True)
        raise
    _print_commands(args, read_config(files.config))


def _print_commands(args, config: Config) -> None:
    """Says how to continue."""
    is_tuned = config.model.trainable != "all" or config.train.backbone_rate_factor < 1
    flags: dict[str, None] = {}
    print(f"{args.output}: written")
    if is_tuned:
        command = "weights import FILE.safetensors"
        print("Import the weights to start from:")
        print(f"    {command_line.command_for(command, args, run_folder=_RUN)}")
        flags["resume"] = None
    _print_programs(args, **flags)


def _print_programs(args, **flags) -> None:
    """Prints the commands that start the two programs."""
    print("Start the two programs, in two terminals:")
    print(f"    {command_line.command_for('preprocess', args)}")
    print(f"    {command_line.command_for('train', args, run_folder=_RUN, **flags)}")


def _write(args, folder: Path, files: _Files) -> None:
    """Writes the configuration for the images in a folder, and their two lists."""
    keys, num_images = _images_of(folder, files, args)
    # A first version, with which the images are opened as the programs will.
    write_changed(_TEMPLATE, files.config, {"dataset": keys})
    dataset_config = read_config(files.config).dataset
    dataset = open_training_set(dataset_config, None)
    validation = open_validation_set(dataset_config, dataset.class_names, None)
    say(f"{dataset.num_classes:,} classes, {validation.num_images:,} images validate")
    changes, lines = choose_values(_circumstances(dataset, num_images, files.config))
    changes["dataset"] = keys
    if args.recipe:
        changes = _with_recipe(changes, args.recipe)
    for key, line in lines.items():
        if not (args.recipe and key in ("epochs", "learning_rate")):
            say(line)
    write_changed(_TEMPLATE, files.config, changes)
    config = read_config(files.config)
    if "channel_mean" not in changes["dataset"]:
        workers = config.runtime_preprocessing.num_workers
        changes["dataset"] |= _computed_statistics(config, workers)
        write_changed(_TEMPLATE, files.config, changes)
