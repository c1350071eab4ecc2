"""Text files that say which image has which label, and what the classes are called.

Caffe's lists (``relative/path label`` a line), Kaggle's LOC_val_solution.csv, and
LOC_synset_mapping.txt or Caffe's synset_words.txt (``n01440764 tench, Tinca tinca``).
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resnet50.preprocessing.imagenet import (
    Dataset,
    DatasetError,
    PackedNames,
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


def _parse_solution(line: bytes, where: str, rank: dict[bytes, int]) -> tuple[str, int]:
    """A line of Kaggle's list: the image, and groups of a class and four numbers."""
    image, _, prediction = line.partition(b",")
    words = prediction.split()
    if not image or b"/" in image or b"\0" in image or not words:
        raise DatasetError(
            f"{where}: {os.fsdecode(line)[:80]!r} (expected 'image,class ...')"
        )
    if words[0] not in rank:
        raise DatasetError(
            f"{where}: class {os.fsdecode(words[0])[:80]} is not among the "
            f"{len(rank)} classes of the training images"
        )
    return f"{os.fsdecode(image)}.JPEG", rank[words[0]]


def _numbered_lines(path: Path) -> list[tuple[str, bytes]]:
    """Each line that is not empty, and where it stands."""
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    return [(f"{path}, line {i}", x) for i, x in enumerate(lines, 1) if x.strip()]


def _class_names_of(names: Sequence[str], labels: np.ndarray, path: Path) -> tuple:
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
    pairs = {(int(x), Path(name).parent.name) for name, x in zip(names, labels)}
    folders = [folder for _, folder in sorted(pairs)]
    is_ranked = folders == sorted(set(folders), key=os.fsencode) and all(folders)
    if is_ranked and len(folders) == len(used):
        return tuple(folders)
    return tuple(str(label) for label in used)


def read_list(
    list_path: Path, folder: Path, class_names: tuple[str, ...] = ()
) -> Dataset:
    """Reads a list file: ``relative/path label`` a line, labels from 0, or Kaggle's.

    Args:
        list_path: The text file. Empty lines are ignored; a path may hold spaces.
        folder: What its paths are relative to.
        class_names: The training set's, if this is the validation set.

    Returns:
        The images by label, then by path, whatever the order of the list.

    Raises:
        DatasetError: The file or a line is unusable, a label is out of range, or (in a
            training list) a label between 0 and the highest one has no image.
    """
    lines = _numbered_lines(list_path)
    if lines and lines[0][1].strip() == _SOLUTION_HEADER:
        rank = {os.fsencode(name): label for label, name in enumerate(class_names)}
        parsed = [_parse_solution(line, where, rank) for where, line in lines[1:]]
    else:
        parsed = [_parse_line(line, where) for where, line in lines]
    if not parsed:
        raise DatasetError(f"{list_path}: lists no images")
    labels = np.array([label for _, label in parsed], np.int64)
    if class_names and labels.max() >= len(class_names):
        raise DatasetError(
            f"{lines[int(labels.argmax())][0]}: label {labels.max()}, but the training "
            f"images have the labels 0 to {len(class_names) - 1}"
        )
    class_names = class_names or _class_names_of(
        [n for n, _ in parsed], labels, list_path
    )
    parsed.sort(key=lambda entry: (entry[1], sort_key(entry[0])))
    return Dataset(
        folder,
        PackedNames.pack(name for name, _ in parsed),
        np.array([label for _, label in parsed], np.int32),
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
    folder = path if path.is_dir() else path.parent
    if class_names:
        for found in (
            find_upwards(folder, _SOLUTION_FILE),
            folder / _CAFFE_FILE,
            folder.parent / _CAFFE_FILE,
        ):
            if found is not None and found.is_file():
                return found
    raise DatasetError(
        f"{path}: images without class folders, and no list of their labels (put "
        f"{_SOLUTION_FILE} or Caffe's {_CAFFE_FILE} beside them, or name a list in "
        "[dataset] of config.txt; the development kit's numbers are not labels)"
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
