"""Reads text files that give the images' labels and what the classes are called.

Caffe's lists (one ``relative/path label`` per line), Kaggle's LOC_val_solution.csv, and
LOC_synset_mapping.txt or Caffe's synset_words.txt (``n01440764 tench, Tinca tinca``).
devkit.py reads the development kit's ground truth.
"""

import os
from pathlib import Path

import numpy as np

from resnet50.dataset import devkit
from resnet50.dataset.images import Dataset, DatasetError, class_ranks
from resnet50.input_file import read_regular

_SOLUTION_HEADER = b"ImageId,PredictionString"
_SOLUTION_FILE, _CAFFE_FILE = "LOC_val_solution.csv", "val.txt"
_WORDS_FILES = ("LOC_synset_mapping.txt", "synset_words.txt")

# A list of ImageNet's training images has 50 MB.
_MAX_BYTES = 2**28

# Kaggle's ILSVRC/Data/CLS-LOC/val is four folders below the tree's text files.
_MAX_LEVELS_UP = 4


def _parse_line(line: bytes, where: str, num_classes: int) -> tuple[str, int]:
    """Parses a line of Caffe's list: the image and its label."""
    parts = line.rsplit(maxsplit=1)
    if len(parts) != 2 or not parts[1].isdigit() or len(parts[1]) > 9:
        raise DatasetError(
            f"{where}: {os.fsdecode(line)[:80]!r} (expected 'relative/path label', the "
            "label a whole number from 0)"
        )
    name, label = os.fsdecode(parts[0].strip()), int(parts[1])
    if name.startswith("/") or ".." in Path(name).parts or "\0" in name:
        raise DatasetError(
            f"{where}: {name[:80]!r} points outside the images' folder (paths in the "
            "list must be relative and inside it)"
        )
    if num_classes and label >= num_classes:
        raise DatasetError(
            f"{where}: label {label}, but the training images have the labels 0 to "
            f"{num_classes - 1}"
        )
    return name, label


def _parse_solution(line: bytes, where: str) -> tuple[str, str]:
    """Parses a line of Kaggle's list: an image, and groups of a class and 4 numbers."""
    image, _, prediction = line.partition(b",")
    words = prediction.split()
    if not image or b"/" in image or b"\0" in image or not words:
        raise DatasetError(
            f"{where}: {os.fsdecode(line)[:80]!r} (expected 'image,class ...')"
        )
    return f"{os.fsdecode(image)}.JPEG", os.fsdecode(words[0])


def _numbered_lines(path: Path) -> list[tuple[str, bytes]]:
    """Returns each line that is not empty, after its file and number."""
    try:
        content = read_regular(path, _MAX_BYTES)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    lines = content.removeprefix(b"\xef\xbb\xbf").splitlines()
    return [(f"{path}, line {i}", x) for i, x in enumerate(lines, 1) if x.strip()]


def _class_names_of(images: list[tuple[str, int]], path: Path) -> tuple[str, ...]:
    """Returns the classes of a training list: its folders if they are the classes.

    They are if each label has its own folder and both have the same order: the last
    folder of its paths, or the first if the classes have folders inside.
    """
    used = np.unique([label for _, label in images])
    if len(used) != used[-1] + 1:
        gap = int(np.argmax(used != np.arange(len(used))))
        raise DatasetError(
            f"{path}: no image has label {gap}, but the highest is {used[-1]} "
            "(labels must be 0, 1, 2, ... without a gap)"
        )
    for end in (None, 2):
        pairs = {
            (label, ("", *name.split("/")[:-1])[:end][-1]) for name, label in images
        }
        folders = [folder for _, folder in sorted(pairs)]
        is_ranked = folders == sorted(set(folders), key=os.fsencode) and all(folders)
        if is_ranked and len(folders) == len(used):
            return tuple(folders)
    return tuple(str(label) for label in used)


def _labelled_images(
    list_path: Path, class_names: tuple[str, ...]
) -> list[tuple[str, int]]:
    """Returns images and labels of a list of any kind, in its order."""
    if list_path.name in (devkit.ARCHIVE, devkit.TRUTH):
        classes = devkit.read_devkit(list_path)
    else:
        lines = _numbered_lines(list_path)
        if not lines or lines[0][1].strip() != _SOLUTION_HEADER:
            return [_parse_line(line, at, len(class_names)) for at, line in lines]
        classes = [_parse_solution(line, where) for where, line in lines[1:]]
    if not class_names:
        raise DatasetError(
            f"{list_path}: lists validation images (name it as validation_list in "
            "[dataset] of config.txt)"
        )
    rank = class_ranks(list_path, (name for _, name in classes), class_names)
    return [(image, rank[name]) for image, name in classes]


def read_list(
    list_path: Path, folder: Path | str, class_names: tuple[str, ...] = ()
) -> Dataset:
    """Reads a list of any kind; returns its images by label, then by path.

    Args:
        list_path: The text file, or the development kit's archive or ground truth.
            Empty lines are ignored; a path may hold spaces.
        folder: Folder that the list's paths are relative to.
        class_names: Classes of the training set, if this is the validation set.

    Raises:
        DatasetError: The file or a line is unusable, a label is out of range, or (in a
            training list) a label between 0 and the highest one has no image.
    """
    images = _labelled_images(list_path, class_names)
    if not images:
        raise DatasetError(f"{list_path}: lists no images")
    names, labels = zip(*images)
    class_names = class_names or _class_names_of(images, list_path)
    layout = f"the images of {list_path.name}"
    return Dataset.in_order(folder, names, labels, class_names, layout=layout)


def _find_above(start: Path, *names: str, levels: int = _MAX_LEVELS_UP) -> Path | None:
    """Returns the first file with one of the names in a folder or those above it."""
    folders = (start, *start.parents[:levels])
    candidates = (folder / name for folder in folders for name in names)
    return next((path for path in candidates if path.is_file()), None)


def labels_beside(path: Path | str, class_names: tuple[str, ...]) -> Path:
    """Finds the list of the labels of a folder or archive without class folders.

    Raises:
        DatasetError: There is none, or these are training images (``class_names`` is
            empty), whose list must be named in the settings.
    """
    if not class_names:
        raise DatasetError(
            f"{path}: holds no class folders (expected one folder of images for each "
            "class, or a list of labels as training_list in [dataset] of config.txt)"
        )
    if isinstance(path, str):
        raise DatasetError(
            f"{path}: images without class folders (name the list of their labels as "
            "validation_list in [dataset] of config.txt)"
        )
    folder = path if path.is_dir() else path.parent
    names = (_CAFFE_FILE, *devkit.CANDIDATES)
    found = _find_above(folder, _SOLUTION_FILE) or _find_above(folder, *names, levels=1)
    if found:
        return found
    raise DatasetError(
        f"{path}: images without class folders, and no list of their labels (put "
        f"{_SOLUTION_FILE}, Caffe's {_CAFFE_FILE} or {devkit.ARCHIVE} beside them, or "
        "name one as validation_list in [dataset] of config.txt)"
    )


def missing_image(list_path: Path, name: str, where: Path | str) -> DatasetError:
    """Returns the error for a list that names an image that does not exist."""
    return DatasetError(
        f"{list_path}: {name} is not in {where} (is this the list of these images?)"
    )


def class_words(start: Path | str, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Reads what the classes are called from a file in or above a folder.

    Returns a class's own name if the file has no line for it, or if there is no file.
    A URL has none.
    """
    path = _find_above(start, *_WORDS_FILES) if isinstance(start, Path) else None
    if path is None:
        return class_names
    lines = [os.fsdecode(line).strip() for _, line in _numbered_lines(path)]
    words = {name: text.strip() for name, _, text in (x.partition(" ") for x in lines)}
    return tuple(words.get(name) or name for name in class_names)
