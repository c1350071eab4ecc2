"""Finds out how the images of a dataset are laid out, and lists them.

| found in [dataset] training_images or validation_images | layout |
|---|---|
| one folder for each class | class folders |
| ILSVRC/Data/CLS-LOC, or folders train and val | Kaggle's tree; its train or val |
| ILSVRC2012_img_train.tar or _val.tar; or the path of a .tar | archives, in place |
| n01440764.tar, or cat.tar and dog.tar | archives of one class each, in place |
| train-0000.tar, train-0001.tar | shards: class folders, or WebDataset's .cls |
| a URL | any of these archives, on a server |
| .parquet files, here or in data/ | Hugging Face's shards, in place |
| image files without folders, here or in an archive | with a list of their labels |

The list is the one named in the settings, or LOC_val_solution.csv or Caffe's val.txt
beside or above the images.
"""

import functools
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from resnet50.dataset.archives.archive_datasets import (
    LISTING,
    TarArchive,
    local_tars,
    open_shards,
    open_tars,
)
from resnet50.dataset.archives.tar_index import Entry
from resnet50.dataset.class_folders import FolderWalk, is_folder, list_class_folders
from resnet50.dataset.images import Dataset, DatasetError
from resnet50.dataset.lists import labels_beside, missing_image, read_list
from resnet50.dataset.remote.archives import listed, stamp_of_archives
from resnet50.dataset.remote.image_cache import CacheSettings
from resnet50.dataset.remote.store import ObjectInfo
from resnet50.urls import shown_url, stem_of

_TREES = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", ".")
_WORDNET_ID = re.compile(r"n\d{8}$")

# Stems of archives that are no class: ImageNet's own, and those of whole sets.
_NO_CLASS = re.compile(
    r"(ILSVRC.*|images?|data(set)?|(.*[-_])?(train(ing)?|val(id|idation)?|test(ing)?)"
    r"([-_]\d+)?)$",
    re.IGNORECASE,
)
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_IMAGE_SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


class _Content:
    """The contents of a folder of images, or of the path of one archive."""

    def __init__(self, path: Path, split: str, walk: FolderWalk):
        self.folders: set[str] = set()
        self.has_images = False
        self.shards: list[Path] = []
        self.tars: list[Path] = []  # of one class each
        self.numbered: list[Path] = []  # possibly shards, with all classes in each
        self.archive: Path | None = None  # holding all images
        self.other_archives: list[Path] = []
        if path.is_file():
            self.archive = path if path.suffix == ".tar" else None
            self.shards = _ending(".parquet", [path])
            self.other_archives = _ending(_COMPRESSED, [path])
            return
        entries = walk.entries(str(path))
        self.folders = folders = {e.name for e in entries if is_folder(e)}
        files = [path / entry.name for entry in entries if entry.name not in folders]
        self.has_images = any(file.suffix.lower() in _IMAGE_SUFFIXES for file in files)
        tars = [f for f in _ending(".tar", files) if not _NO_CLASS.match(f.stem)]
        self.numbered = _numbered(_of_split(_ending(".tar", files), split))
        # If some are named by WordNet ids, no other is a class.
        self.tars = [tar for tar in tars if _WORDNET_ID.match(tar.stem)] or tars
        self.other_archives = [
            file
            for file in _ending((".tar", *_COMPRESSED), files)
            if file not in self.tars and not file.name.startswith("ILSVRC")
        ]
        if any(map(_WORDNET_ID.match, folders)):
            return
        official = path / f"ILSVRC2012_img_{split}.tar"
        self.archive = official if official in files else None
        if folders == {"data"}:
            files += [path / "data" / e.name for e in walk.entries(f"{path}/data")]
        if folders <= {"data"}:
            self.shards = _of_split(_ending(".parquet", files), split)


def _ending(suffixes: str | tuple[str, ...], files: list[Path]) -> list[Path]:
    return [file for file in files if file.name.endswith(suffixes)]


_Named = TypeVar("_Named", Path, str)


def _of_split(files: list[_Named], split: str) -> list[_Named]:
    """Those of some files or URLs whose names say that they are of a split.

    If no name says so, all that are not of the other split.
    """

    def says(file: _Named, split: str) -> bool:
        return re.search(rf"(^|[-_.]){split}", stem_of(str(file))) is not None

    other = "val" if split == "train" else "train"
    return [file for file in files if says(file, split)] or [
        file for file in files if not says(file, other)
    ]


def _numbered(archives: list[_Named]) -> list[_Named]:
    """Returns the archives if their names differ only in the number at their end."""
    stems = [stem_of(str(archive)) for archive in archives]
    are_numbered = all(stem[-1:].isdigit() for stem in stems)
    one_series = len({stem.rstrip("0123456789") for stem in stems}) == 1
    is_class = any(map(_WORDNET_ID.match, stems))
    return archives if are_numbered and one_series and not is_class else []


def _is_shard(archive: TarArchive) -> bool:
    """Whether a numbered archive holds images of many classes, and is no class."""
    if _NO_CLASS.match(archive.stem):
        return True
    names = [x.name.removeprefix(f"{archive.stem}/") for x in _first(archive.entries)]
    return any("/" in name or name.endswith(".cls") for name in names)


def _first(entries: Iterable[Entry]) -> list[Entry]:
    """The first files of an archive, which show what it holds."""
    return list(itertools.islice(entries, 10))


def _split_folder(images: Path, split: str, *, is_listed: bool) -> Path:
    """Returns the folder of the training or validation images in a tree with both.

    A list's paths may begin above a plain folder "train", but never above Kaggle's.
    """
    for tree in _TREES[:2] if is_listed else _TREES:
        if all((images / tree / name).is_dir() for name in ("train", "val")):
            return images / tree / split
    return images


def _listed_files(
    list_path: Path, folder: Path, class_names: tuple[str, ...], walk: FolderWalk
) -> Dataset:
    """Reads a list, and checks that all of its files exist."""
    walk.note(list_path)
    dataset = read_list(list_path, folder, class_names)

    @functools.lru_cache(maxsize=64)
    def files_of(inner: str) -> frozenset[str]:
        path = folder / inner
        # Unlike Path.is_dir, no error for a name that is too long.
        exists = path == folder or os.path.isdir(path)  # noqa: PTH112
        entries = walk.entries(str(path)) if exists else ()
        return frozenset(entry.name for entry in entries)

    for name in dataset.names:
        inner, _, file = name.rpartition("/")
        if file not in files_of(inner):
            raise missing_image(list_path, name, folder)
    return dataset


def _are_classes(
    content: _Content, path: Path, list_path: Path | None, class_names: tuple[str, ...]
) -> bool:
    """Whether each archive in a folder is a class.

    Beside images, shards or a list, an archive without a WordNet id as its name holds
    the same images in another form.
    """
    tars = content.tars
    have_ids = bool(tars and _WORDNET_ID.match(tars[0].stem))
    if not tars or (list_path is not None and (content.folders or not have_ids)):
        return False
    if not have_ids and (content.has_images or content.shards):
        return False
    if content.folders:
        raise DatasetError(
            f"{path}: holds class folders, such as {min(content.folders)}, and "
            f"archives, such as {tars[0].name} (unpack each archive into a folder of "
            "its name, or move the archives elsewhere)"
        )
    # A single archive may be a class or hold all images.
    return have_ids or len(tars) > 1 or tars[0].stem in class_names


def _open(
    path: Path,
    list_path: Path | None,
    class_names: tuple[str, ...],
    walk: FolderWalk,
    split: str,
) -> Dataset:
    """Opens the images of a path; the table's first row is tried last."""
    content = _Content(path, split, walk)
    if archive := content.archive:
        tars = local_tars(archive, [archive], walk)
        return open_tars(archive, tars, list_path, class_names, walk, are_classes=False)
    shards = [] if content.folders else content.numbered
    if shards and _is_shard(*local_tars(path, shards[:1], FolderWalk())):
        tars = local_tars(path, shards, walk)
        return open_tars(path, tars, list_path, class_names, walk, are_classes=False)
    if _are_classes(content, path, list_path, class_names):
        for other in content.other_archives:
            walk.skip_file(str(other), "an archive that is no class")
        tars = local_tars(path, content.tars, walk)
        return open_tars(path, tars, list_path, class_names, walk, are_classes=True)
    if content.shards and list_path is None:
        return open_shards(path, content.shards, class_names, walk)
    if list_path is not None:
        return _listed_files(list_path, path, class_names, walk)
    if content.folders:
        return list_class_folders(path, class_names, walk)
    if content.has_images:
        return _listed_files(labels_beside(path, class_names), path, class_names, walk)
    for archive in content.tars + content.other_archives:
        key = "training_images" if split == "train" else "validation_images"
        raise DatasetError(
            f"{archive}: is no class (if all images are in it, name it as {key} "
            "in [dataset] of config.txt)"
            if archive.suffix == ".tar"
            else f"{archive}: is compressed, and none of its images can be read alone "
            "(decompress it to a .tar)"
        )
    raise DatasetError(
        f"{path}: holds no class folders, nor anything else that is known (looked for "
        f"ILSVRC/Data/CLS-LOC, ILSVRC2012_img_{split}.tar, n01440764.tar ..., "
        "*.parquet, and images with a list, not for TFRecords; see [dataset] in "
        "config.txt)"
    )


def find_images(
    images: Path, list_path: Path | None, class_names: tuple[str, ...], walk: FolderWalk
) -> Dataset:
    """Finds out the layout of a dataset, and lists its images.

    ``walk`` notes every file and folder that the result depends on. For the other
    arguments see ``listing.open_dataset``.

    Raises:
        DatasetError: There is no known layout, or the images cannot be used.
    """
    split = "val" if class_names else "train"
    path = _split_folder(images, split, is_listed=list_path is not None)
    dataset = _open(path, list_path, class_names, walk, split)
    dataset.remarks = walk.remarks()
    if path.parts[-3:-1] == ("Data", "CLS-LOC"):
        dataset.layout = f"Kaggle's ILSVRC tree, {dataset.layout}"
    return dataset


def find_remote_images(
    url: str,
    found: dict[str, ObjectInfo],
    list_path: Path | None,
    class_names: tuple[str, ...],
    walk: FolderWalk,
    cache: CacheSettings | None,
) -> Dataset:
    """Does for archives on a server what ``find_images`` does for files.

    Takes what ``find_archives`` has found.

    Raises:
        DatasetError: An archive is not there, or the images cannot be used.
        UserError: A server does not answer, or a package is missing.
    """
    split, where = "val" if class_names else "train", shown_url(url)
    walk.stamps[where] = stamp_of_archives(found)
    urls = list(found)
    classes = [x for x in urls if _WORDNET_ID.match(stem_of(x))]
    chosen = (
        [x for x in urls if stem_of(x) == f"ILSVRC2012_img_{split}"]
        or classes
        or _numbered(_of_split(urls, split))
        or urls
    )
    walk.notify(LISTING.format(where))
    with listed(where, {x: found[x] for x in chosen}, walk.notify) as archives:
        are_classes = chosen == classes or len(archives) > 1
        if _numbered(chosen):
            first = archives[0]
            entries = iter(first.entries)
            head = _first(entries)
            archives[0] = first._replace(entries=itertools.chain(head, entries))
            are_classes &= not _is_shard(first._replace(entries=head))
        dataset = open_tars(
            where,
            archives,
            list_path,
            class_names,
            walk,
            are_classes=are_classes,
            cache=cache,
        )
    dataset.remarks = walk.remarks()
    return dataset
