"""Datasets of images in tar archives and in Parquet shards, read in place.

The images get the names and the order that class folders would give them, so that the
same images make the same batches.
"""

import array
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnet50.dataset.archives.parquet_index import id_before, read_shard
from resnet50.dataset.archives.tar_index import Entry, tar_files
from resnet50.dataset.class_folders import FolderWalk, why_no_image
from resnet50.dataset.images import Dataset, DatasetError, class_ranks
from resnet50.dataset.lists import labels_beside, missing_image, read_list
from resnet50.dataset.remote.image_cache import CacheSettings
from resnet50.dataset.sources import Locations, Servers
from resnet50.urls import shown_url

# All headers of an archive, or all pages of a shard, are read.
LISTING = "{}: looking for the images in it, once; may take minutes"


class TarArchive(NamedTuple):
    """A tar archive and what is in it."""

    path: str  # or URL
    stem: str  # of its name
    entries: Iterable[Entry]
    server: str | None = None  # None: it is a file; else see Servers.versions


class _Found:
    """Images found in archives, in any order."""

    def __init__(self, folder: Path | str, archives: Iterable[str]):
        self.folder = folder
        self.names: list[str] = []
        self.labels = array.array("q")  # that the archives hold; -1 for none
        self._archives = tuple(archives)
        self._table = array.array("q")
        self.servers: Servers | None = None

    def add(self, name: str, *location: int) -> None:
        """Adds an image, with its row of the table of ``Locations``."""
        self.names.append(name)
        self._table.extend(location)

    def locations(self) -> Locations:
        table = np.frombuffer(self._table, np.int64).reshape(len(self.names), -1)
        return Locations(self._archives, table, self.servers)

    def with_list(
        self, list_path: Path, class_names: tuple[str, ...], layout: str
    ) -> Dataset:
        """Gives the images the labels and the order of a list."""
        dataset = read_list(list_path, self.folder, class_names)
        index = {name: i for i, name in enumerate(self.names)}
        try:
            order = [index[name] for name in dataset.names]
        except KeyError as error:
            raise missing_image(list_path, error.args[0], self.folder) from None
        dataset.locations = self.locations().in_order(order)
        dataset.layout = f"{layout}, labels of {list_path.name}"
        return dataset

    def with_labels(
        self,
        ids: dict[int, str],
        class_names: tuple[str, ...],
        layout: str,
        words: tuple[str, ...] = (),
    ) -> Dataset:
        """Gives the images the labels that the archives hold.

        ``ids`` has the WordNet id in the names of each label's images, or "".
        """
        names = _name_classes(self.folder, ids, class_names)
        class_names = class_names or tuple(names[label] for label in sorted(names))
        rank = class_ranks(self.folder, names.values(), class_names)
        # Each replaces the shorter name: there may be millions.
        self.names = [f"{names[x]}/{name}" for x, name in zip(self.labels, self.names)]
        return Dataset.in_order(
            self.folder,
            self.names,
            [rank[names[label]] for label in self.labels],
            class_names,
            self.locations(),
            layout=layout,
            class_words=words if len(words) == len(class_names) else (),
        )


def _class_of(name: str) -> str:
    """The first folder of a path; "" if it has none."""
    return name.partition("/")[0] if "/" in name else ""


def _outer_folder(names: list[str], class_names: tuple[str, ...]) -> str:
    """The folder of all class folders, such as "train/"; "" if there is none."""
    outer = _class_of(names[0]) + "/"
    inner = [name[len(outer) :] for name in names if name.startswith(outer)]
    is_outer = len(inner) == len(names) and all("/" in name for name in inner)
    return outer if is_outer and outer[:-1] not in class_names else ""


def _key_of(name: str) -> str:
    """What WebDataset's files of one image have in common: all before the ending."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label_of(where: str, entry: Entry) -> int:
    text = entry.label.strip()
    if not text.isdigit() or len(text) > 9:
        raise DatasetError(
            f"{where}: {entry.name} holds {text[:20]!r} (expected a label, a whole "
            "number from 0)"
        )
    return int(text)


def _add_tar(
    found: _Found, index: int, archive: TarArchive, walk: FolderWalk, *, is_class: bool
) -> set[str]:
    """Adds the images of an archive; returns the folders of its other files."""
    others = set()
    labels: dict[str, int] = {}
    first = len(found.names)
    where = shown_url(archive.path)
    prefix = f"{archive.stem}/" if is_class else ""
    for entry in archive.entries:
        name = prefix + entry.name.removeprefix(prefix)
        if is_class and name.endswith(".cls"):
            raise DatasetError(
                f"{where}: holds {entry.name}, a label: it is a shard of "
                "WebDataset, not a class (unpack all of them into class folders, or "
                "number the shards at the end of their names: train-0000.tar)"
            )
        if entry.label:
            labels[_key_of(name)] = _label_of(where, entry)
        elif why := why_no_image(name.rpartition("/")[2]):
            walk.skip_file(f"{where}/{entry.name}", why)
            others.add(name[: name.rfind("/") + 1])
        else:
            found.add(name, index, *entry.location)
    if labels:
        found.labels.extend([-1] * (first - len(found.labels)))
        found.labels.extend(labels.get(_key_of(n), -1) for n in found.names[first:])
    return others


def local_tars(
    folder: Path, paths: Iterable[Path], walk: FolderWalk
) -> list[TarArchive]:
    """Describes archives on the disk, which are read one by one."""
    walk.notify(LISTING.format(folder))
    for path in paths:
        walk.note(path)
    return [TarArchive(str(path), path.stem, tar_files(path)) for path in paths]


def open_tars(
    folder: Path | str,
    archives: list[TarArchive],
    list_path: Path | None,
    class_names: tuple[str, ...],
    walk: FolderWalk,
    *,
    are_classes: bool,
    cache: CacheSettings | None = None,
) -> Dataset:
    """Opens the images in tar archives, which ``folder`` holds or is the only one of.

    If ``are_classes``, each archive is a class, like those in ILSVRC2012_img_train.tar.
    Otherwise all together hold class folders, or WebDataset's files of labels.
    ``cache`` is for archives on servers.

    Raises:
        DatasetError: An archive cannot be used, or the labels are unknown.
    """
    found = _Found(folder, (archive.path for archive in archives))
    versions = [x.server for x in archives if x.server is not None]
    if versions:
        found.servers = Servers(tuple(versions), cache)
    folders = {f"{archive.stem}/" for archive in archives if are_classes}
    for index, archive in enumerate(archives):
        folders |= _add_tar(found, index, archive, walk, is_class=are_classes)
    if not found.names:
        raise DatasetError(f"{folder}: holds no images")
    layout, outer = "archives of one class each, in place", ""
    if not are_classes:
        layout = f"archive{'s' * (len(archives) > 1)} in place"
        outer = _outer_folder(found.names, class_names)
    classes = [_class_of(name.removeprefix(outer)) for name in found.names]
    if list_path is None and found.labels and not all(classes):
        return _with_own_labels(found, class_names)
    if list_path is None and not any(classes):
        list_path = labels_beside(folder, class_names)
    if list_path is not None:
        walk.note(list_path)
        return found.with_list(list_path, class_names, layout)
    if not all(classes):
        loose = found.names[classes.index("")]
        raise DatasetError(f"{folder}: {loose} is in no class (remove it)")
    expected = {_class_of(name.removeprefix(outer)) for name in folders}
    for name in sorted(expected.difference(classes, {""})):
        raise DatasetError(
            f"{folder}: class {name} without images (add some, or remove it)"
        )
    class_names = class_names or tuple(sorted(set(classes), key=os.fsencode))
    rank = class_ranks(folder, classes, class_names)
    labels, locations = [rank[name] for name in classes], found.locations()
    return Dataset.in_order(
        folder, found.names, labels, class_names, locations, layout=layout
    )


def _with_own_labels(found: _Found, class_names: tuple[str, ...]) -> Dataset:
    """Gives the images the labels of WebDataset's .cls files."""
    ids: dict[int, str] = {}
    found.labels.extend([-1] * (len(found.names) - len(found.labels)))
    for name, label in zip(found.names, found.labels):
        if label < 0:
            raise DatasetError(
                f"{found.folder}: {name} has no label (expected a file "
                f"{_key_of(name)}.cls in the same archive)"
            )
        if ids.setdefault(label, id_before(name)) != id_before(name):
            ids[label] = ""
    return found.with_labels(ids, class_names, "WebDataset's shards, in place")


def _name_classes(
    where: Path | str, ids: dict[int, str], class_names: tuple[str, ...]
) -> dict[int, str]:
    """Returns the name of each label: a WordNet id if the images' names hold it.

    ``ids`` has the WordNet id in the names of each label's images, or "".
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
    folder: Path, paths: list[Path], class_names: tuple[str, ...], walk: FolderWalk
) -> Dataset:
    """Opens the images in Parquet shards; see ``open_tars``.

    Raises:
        DatasetError: A shard cannot be used.
    """
    walk.notify(LISTING.format(folder))
    found = _Found(folder, map(str, paths))
    words: tuple[str, ...] = ()
    ids: dict[int, str] = {}
    for index, path in enumerate(paths):
        walk.note(path)
        rows, class_words = read_shard(path)
        words = words or tuple(class_words)
        for row in rows:
            found.add(row.name, index, *row.location)
            found.labels.append(row.label)
            if ids.setdefault(row.label, row.class_name) != row.class_name:
                ids[row.label] = ""
    if not ids:
        raise DatasetError(f"{folder}: the shards hold no images")
    layout = "Hugging Face's Parquet shards, in place"
    return found.with_labels(ids, class_names, layout, words)
