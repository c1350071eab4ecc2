"""Text files that say which image has which label, and what the classes are called.

Caffe's lists (``relative/path label`` a line), Kaggle's LOC_val_solution.csv (the
development kit's ground truth is devkit.py's), and LOC_synset_mapping.txt or Caffe's
synset_words.txt (``n01440764 tench, Tinca tinca``).
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resnet50.dataset import devkit
from resnet50.dataset.images import (
    Dataset,
    DatasetError,
    PackedNames,
    class_ranks,
    sort_key,
)

_SOLUTION_HEADER = b"ImageId,PredictionString"
_SOLUTION_FILE, _CAFFE_FILE = "LOC_val_solution.csv", "val.txt"
_WORDS_FILES = ("LOC_synset_mapping.txt", "synset_words.txt")

# Kaggle's ILSVRC/Data/CLS-LOC/val is four folders below the tree's text files.
_MAX_LEVELS_UP = 4


def _parse_line(line: bytes, where: str) -> tuple[str, int]:
    parts = line.rsplit(maxsplit=1)
    if len(parts) != 2 or not parts[1].isdigit() or len(parts[1]) > 9:
        raise DatasetError(
            f"{where}: {os.fsdecode(line)[:80]!r} (expected 'relative/path label', the "
            "label a whole number from 0)"
        )
    name = os.fsdecode(parts[0].strip())
    if name.startswith("/") or ".." in Path(name).parts or "\0" in name:
        raise DatasetError(
            f"{where}: {name[:80]!r} points outside the images' folder (paths in the "
            "list must be relative and inside it)"
        )
    return name, int(parts[1])


def _parse_solution(line: bytes, where: str) -> tuple[str, str]:
    """A line of Kaggle's list: the image, and groups of a class and four numbers."""
    image, _, prediction = line.partition(b",")
    words = prediction.split()
    if not image or b"/" in image or b"\0" in image or not words:
        raise DatasetError(
            f"{where}: {os.fsdecode(line)[:80]!r} (expected 'image,class ...')"
        )
    return f"{os.fsdecode(image)}.JPEG", os.fsdecode(words[0])


def _numbered_lines(path: Path) -> list[tuple[str, bytes]]:
    """Each line that is not empty, and where it stands."""
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    return [(f"{path}, line {i}", x) for i, x in enumerate(lines, 1) if x.strip()]


def _class_names_of(
    names: Sequence[str], labels: np.ndarray, path: Path
) -> tuple[str, ...]:
    """The classes of a training list: its folders if they are the classes.

    They are if each label has a folder of its own, and both are in the same order.
    """
    used = np.unique(labels)
    if len(used) != used[-1] + 1:
        gap = int(np.argmax(used != np.arange(len(used))))
        raise DatasetError(
            f"{path}: no image has label {gap}, but the highest is {used[-1]} "
            "(labels must be 0, 1, 2, ... without a gap)"
        )
    pairs = {
        (label, name.rpartition("/")[0].rpartition("/")[2])
        for name, label in zip(names, labels.tolist())
    }
    folders = [folder for _, folder in sorted(pairs)]
    is_ranked = folders == sorted(set(folders), key=os.fsencode) and all(folders)
    if is_ranked and len(folders) == len(used):
        return tuple(folders)
    return tuple(str(label) for label in used)


def _labelled_classes(list_path: Path) -> list[tuple[str, str]] | None:
    """Images and classes of Kaggle's list or of the kit; None if it is Caffe's."""
    if list_path.name in (devkit.ARCHIVE, devkit.TRUTH):
        return devkit.read_devkit(list_path)
    lines = _numbered_lines(list_path)
    if not lines or lines[0][1].strip() != _SOLUTION_HEADER:
        return None
    return [_parse_solution(line, where) for where, line in lines[1:]]


def _labelled_images(
    list_path: Path, class_names: tuple[str, ...]
) -> list[tuple[str, int]]:
    """Images and labels of a list of any kind, in its order."""
    classes = _labelled_classes(list_path)
    if classes is not None:
        if not class_names:
            raise DatasetError(
                f"{list_path}: lists validation images (name it as validation_list in "
                "[dataset] of config.txt)"
            )
        rank = class_ranks(list_path, (name for _, name in classes), class_names)
        return [(image, rank[name]) for image, name in classes]
    lines = _numbered_lines(list_path)
    parsed = [_parse_line(line, where) for where, line in lines]
    highest = max((label for _, label in parsed), default=0)
    if class_names and highest >= len(class_names):
        where = next(w for (w, _), (_, x) in zip(lines, parsed) if x == highest)
        raise DatasetError(
            f"{where}: label {highest}, but the training images have the labels 0 to "
            f"{len(class_names) - 1}"
        )
    return parsed


def read_list(
    list_path: Path, folder: Path, class_names: tuple[str, ...] = ()
) -> Dataset:
    """Reads a list file: ``relative/path label`` a line, labels from 0, or Kaggle's.

    Args:
        list_path: The text file, or the development kit's archive or ground truth.
            Empty lines are ignored; a path may hold spaces.
        folder: What its paths are relative to.
        class_names: The training set's, if this is the validation set.

    Returns:
        The images by label, then by path, whatever the order of the list.

    Raises:
        DatasetError: The file or a line is unusable, a label is out of range, or (in a
            training list) a label between 0 and the highest one has no image.
    """
    images = _labelled_images(list_path, class_names)
    if not images:
        raise DatasetError(f"{list_path}: lists no images")
    images.sort(key=lambda image: (image[1], sort_key(image[0])))
    labels = np.array([label for _, label in images], np.int32)
    if not class_names:
        class_names = _class_names_of([name for name, _ in images], labels, list_path)
    return Dataset(
        folder,
        PackedNames.pack(name for name, _ in images),
        labels,
        class_names,
        layout=f"the images of {list_path.name}",
    )


def find_upwards(start: Path, *names: str) -> Path | None:
    """The first file of one of these names in a folder or those above it."""
    for folder in (start, *start.parents[:_MAX_LEVELS_UP]):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def labels_beside(path: Path, class_names: tuple[str, ...]) -> Path:
    """The list that belongs to images without class folders.

    Args:
        path: Their folder or archive.
        class_names: The training set's; empty if this is the training set, which needs
            a list that the settings name.

    Raises:
        DatasetError: There is none.
    """
    if not class_names:
        raise DatasetError(
            f"{path}: holds no class folders (expected one folder of images for each "
            "class, or a list of labels as training_list in [dataset] of config.txt)"
        )
    folder = path if path.is_dir() else path.parent
    found = find_upwards(folder, _SOLUTION_FILE)
    if found is not None:
        return found
    for above in (folder, folder.parent):
        for name in (_CAFFE_FILE, *devkit.PLACES):
            if (above / name).is_file():
                return above / name
    raise DatasetError(
        f"{path}: images without class folders, and no list of their labels (put "
        f"{_SOLUTION_FILE}, Caffe's {_CAFFE_FILE} or {devkit.ARCHIVE} beside them, or "
        "name one as validation_list in [dataset] of config.txt)"
    )


def missing_image(list_path: Path, name: str, where: Path) -> DatasetError:
    """The error of a list that names an image that is not there."""
    return DatasetError(
        f"{list_path}: {name} is not in {where} (is this the list of these images?)"
    )


def class_words(start: Path, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """What the classes are called, from a file of words in or above a folder.

    Returns:
        For each class its words, or its name where its line is missing; nothing, where
        there is no such file.
    """
    path = find_upwards(start, *_WORDS_FILES)
    if path is None:
        return ()
    words = {}
    for _, line in _numbered_lines(path):
        name, _, text = os.fsdecode(line).strip().partition(" ")
        words[name] = text.strip()
    return tuple(words.get(name) or name for name in class_names)
