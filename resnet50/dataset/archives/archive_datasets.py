"""Datasets of images in tar archives and in Parquet shards, read in place.

The images get the names and the order that class folders would give them, so that the
same images make the same batches.
"""

import array
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from resnet50.dataset.archives.parquet_index import read_shard
from resnet50.dataset.archives.tar_index import tar_files
from resnet50.dataset.images import (
    Dataset,
    DatasetError,
    FolderWalk,
    PackedNames,
    class_ranks,
    sort_key,
)
from resnet50.dataset.lists import labels_beside, missing_image, read_list
from resnet50.dataset.passed_over import why_no_image
from resnet50.dataset.sources import Places

# The whole of an archive's headers, or of a shard's pages, is read.
_LOOKING = "{}: looking for the images in it, once; may take minutes"


class _Found:
    """Images in archives, in any order, as they are found."""

    def __init__(self, archives: Iterable[Path]):
        self.archives = tuple(archives)
        self.names: list[str] = []
        self._table = array.array("q")
        self._width = 3

    def add(self, name: str, archive: int, *place: int) -> None:
        """Takes an image and its place; see ``Places``."""
        self.names.append(name)
        self._width = 1 + len(place)
        self._table.extend((archive, *place))

    @property
    def places(self) -> Places:
        """The places of all of them."""
        table = np.frombuffer(self._table, np.int64).reshape(-1, self._width)
        return Places(tuple(map(str, self.archives)), table)

    def dataset(
        self, folder: Path, labels: np.ndarray, class_names: tuple[str, ...], **more
    ) -> Dataset:
        """Orders the images by label, then by name, as class folders have them."""
        keys = [(label, sort_key(n)) for label, n in zip(labels.tolist(), self.names)]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return Dataset(
            folder,
            PackedNames.pack(self.names[index] for index in order),
            labels[order].astype(np.int32),
            class_names,
            places=self.places.take(order),
            **more,
        )


def _listed_in_archive(
    found: _Found,
    list_path: Path,
    folder: Path,
    class_names: tuple[str, ...],
    layout: str,
) -> Dataset:
    """The images of a list, in archives."""
    listed = read_list(list_path, folder, class_names)
    index = {name: i for i, name in enumerate(found.names)}
    try:
        order = [index[name] for name in listed.names]
    except KeyError as error:
        raise missing_image(list_path, error.args[0], folder) from None
    return Dataset(
        folder,
        listed.names,
        listed.labels,
        listed.class_names,
        places=found.places.take(order),
        layout=f"{layout}, labels of {list_path.name}",
    )


def open_tars(
    folder: Path,
    paths: list[Path],
    list_path: Path | None,
    class_names: tuple[str, ...],
    walk: FolderWalk,
    *,
    are_classes: bool,
) -> Dataset:
    """Opens the images in tar archives.

    Args:
        folder: Holds the archives, or is the only one.
        paths: The archives.
        list_path: A list of labels, or None.
        class_names: The training set's, if this is the validation set.
        walk: Notes the archives.
        are_classes: Each archive is a class, as the inner ones of the training images.

    Raises:
        DatasetError: An archive cannot be used as it is, or the labels are not known.
    """
    walk.notify(_LOOKING.format(folder))
    found = _Found(paths)
    expected = {path.stem for path in paths if are_classes}
    for number, path in enumerate(paths):
        walk.note(path)
        prefix = f"{path.stem}/" if are_classes else ""
        for entry in tar_files(path):
            name = prefix + entry.name.removeprefix(prefix)
            if are_classes and name.endswith(".cls"):
                raise DatasetError(
                    f"{path}: holds {entry.name}, a label: it is a shard of "
                    "WebDataset, not a class (unpack all of them into class folders)"
                )
            why = why_no_image(name.rpartition("/")[2])
            if not why:
                found.add(name, number, entry.offset, entry.size)
                continue
            walk.passed_over.add_file(f"{path}/{entry.name}", why)
            if "/" in name:
                expected.add(name.partition("/")[0])
    if not found.names:
        raise DatasetError(f"{folder}: holds no images")
    layout = (
        "archives of one class each, in place" if are_classes else "archive in place"
    )
    classes = [name.partition("/")[0] if "/" in name else "" for name in found.names]
    if list_path is None and not any(classes):
        list_path = labels_beside(folder, class_names)
    if list_path is not None:
        walk.note(list_path)
        return _listed_in_archive(found, list_path, folder, class_names, layout)
    if not all(classes):
        loose = found.names[classes.index("")]
        raise DatasetError(f"{folder}: {loose} is in no class (remove it)")
    for name in sorted(expected.difference(classes)):
        raise DatasetError(
            f"{folder}: class {name} without images (add some, or remove it)"
        )
    class_names = class_names or tuple(sorted(set(classes), key=os.fsencode))
    rank = class_ranks(folder, classes, class_names)
    labels = np.array([rank[name] for name in classes])
    return found.dataset(folder, labels, class_names, layout=layout)


def _name_classes(
    where: Path, ids: dict[int, str], class_names: tuple[str, ...]
) -> dict[int, str]:
    """The name of each label: a WordNet id if the images' names tell it.

    Args:
        where: The shards, for the message.
        ids: For each label the WordNet id in its images' names, "" if there is none.
        class_names: The training set's, if this is the validation set.
    """
    labels = sorted(ids)
    if not class_names and labels != list(range(len(labels))):
        gap = next(n for n, label in enumerate(labels) if n != label)
        raise DatasetError(
            f"{where}: no image has label {gap}, but one has {labels[-1]} (are all "
            "shards there?)"
        )
    if not all(ids.values()):
        return {
            label: class_names[label] if label < len(class_names) else str(label)
            for label in labels
        }
    names = [ids[label] for label in labels]
    if names != sorted(set(names)):
        raise DatasetError(
            f"{where}: the labels are not in the order of the WordNet ids in the "
            "images' names (are these ImageNet's shards?)"
        )
    return ids


def open_shards(
    folder: Path,
    paths: list[Path],
    class_names: tuple[str, ...],
    walk: FolderWalk,
) -> Dataset:
    """Opens the images in Parquet shards.

    Args:
        folder: Holds the shards, or is the only one.
        paths: The shards.
        class_names: The training set's, if this is the validation set.
        walk: Notes the shards.

    Raises:
        DatasetError: A shard cannot be used as it is.
    """
    walk.notify(_LOOKING.format(folder))
    found, words = _Found(paths), ()
    ids: dict[int, str] = {}
    labels = array.array("q")
    for number, path in enumerate(paths):
        walk.note(path)
        shard = read_shard(path)
        words = words or shard.words
        for row in shard.rows:
            found.add(row.name, number, *row.place)
            labels.append(row.label)
            if ids.setdefault(row.label, row.class_name) != row.class_name:
                ids[row.label] = ""
    if not ids:
        raise DatasetError(f"{folder}: the shards hold no images")
    names = _name_classes(folder, ids, class_names)
    class_names = class_names or tuple(names[label] for label in sorted(names))
    rank = class_ranks(folder, names.values(), class_names)
    found.names = [f"{names[x]}/{name}" for x, name in zip(labels, found.names)]
    return found.dataset(
        folder,
        np.array([rank[names[label]] for label in labels]),
        class_names,
        layout="Hugging Face's Parquet shards, in place",
        class_words=words if len(words) == len(class_names) else (),
    )
