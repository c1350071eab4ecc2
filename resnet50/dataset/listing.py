"""Opens a dataset, and remembers the listing in an index file.

Listing ImageNet's 1.28 million files takes seconds from a warm cache and minutes from a
cold disk, and so does walking through an archive; reading the index takes a fraction of
a second. The index holds when each folder and archive was last modified, and is ignored
if one of them has changed; of archives on servers it holds a digest of their sizes and
versions. Losing it, or damage to it, only costs a listing.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from resnet50.atomic_io import atomic_file
from resnet50.config.settings import DatasetConfig
from resnet50.dataset.class_folders import FolderWalk, stamp_of
from resnet50.dataset.images import Dataset, DatasetError, PackedNames
from resnet50.dataset.layouts import find_images, find_remote_images
from resnet50.dataset.lists import class_words
from resnet50.dataset.remote.archives import find_archives, stamp_of_archives
from resnet50.dataset.remote.image_cache import CacheSettings, used_bytes
from resnet50.dataset.remote.store import ObjectInfo
from resnet50.dataset.sources import Locations, Servers
from resnet50.urls import is_url, shown_url

# Raised when a change of the code lists other files, or in another order.
_FORMAT_VERSION = 4

# What was modified so shortly before it was read may be modified again without a new
# time of modification. A time in the future shows that a clock was set back; the next
# modification has an earlier one.
_RACY_SECONDS = 2.0


def _index_path(index_folder: Path, *key: object) -> Path:
    text = "\0".join(map(str, (_FORMAT_VERSION, *key)))
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return index_folder / f"dataset_index_{digest[:16]}.npz"


def _save(path: Path, dataset: Dataset, stamps: dict[str, tuple[int, int]]) -> None:
    now = time.time()
    if any(abs(now - at_ns / 1e9) < _RACY_SECONDS for at_ns, _ in stamps.values()):
        return
    locations = dataset.locations or Locations((), np.empty((0, 3), np.int64))
    servers = locations.servers
    arrays: dict[str, Any] = {
        "labels": dataset.labels,
        "stamps": np.array(list(stamps.values()), np.int64),
        "places": locations.table,
        "fingerprint": np.array(dataset.fingerprint),
    }
    texts: dict[str, Iterable[str]] = {
        "names": dataset.names,
        "class_names": dataset.class_names,
        "class_words": dataset.class_words,
        "stamped": stamps,
        "archives": map(shown_url, locations.archives),
        "versions": servers.versions if servers else (),
        "found": (str(dataset.folder), dataset.layout, *dataset.remarks),
    }
    for name, text in texts.items():
        packed = text if isinstance(text, PackedNames) else PackedNames.pack(text)
        arrays[f"{name}_block"] = np.frombuffer(packed.block, np.uint8)
        arrays[f"{name}_ends"] = packed.ends
    with contextlib.suppress(OSError), atomic_file(path, durable=False) as file:
        np.savez(file, **arrays)


def _load(
    path: Path, remote: dict[str, ObjectInfo], cache: CacheSettings | None
) -> Dataset | None:
    """Returns the dataset of an index; None if there is no valid and current one.

    Takes the archives that are on a server now, by URL.
    """
    # The index has no secrets. If two URLs differ only in these, it is of no use.
    full = {shown_url(url): url for url in remote}
    if len(full) < len(remote):
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:

            def texts(name: str) -> PackedNames:
                block = arrays[f"{name}_block"].tobytes()
                return PackedNames(block, arrays[f"{name}_ends"])

            for stamped, expected in zip(texts("stamped"), arrays["stamps"].tolist()):
                stamp = (
                    stamp_of_archives(remote)
                    if is_url(stamped)
                    else stamp_of(Path(stamped).stat())
                )
                if stamp != tuple(expected):
                    return None
            archives, versions = tuple(texts("archives")), tuple(texts("versions"))
            servers = Servers(versions, cache) if versions else None
            if servers:
                archives = tuple(full[url] for url in archives)
            folder, layout, *remarks = texts("found")
            dataset = Dataset(
                folder if is_url(folder) else Path(folder),
                texts("names"),
                arrays["labels"],
                tuple(texts("class_names")),
                Locations(archives, arrays["places"], servers) if archives else None,
                layout,
                tuple(texts("class_words")),
                tuple(remarks),
            )
            return dataset if dataset.fingerprint == arrays["fingerprint"] else None
    # No index, a folder that is gone, or a damaged file, about which numpy and zipfile
    # raise nearly anything: in each case the images are listed again.
    except Exception:
        return None


def open_dataset(
    images: Path | str,
    list_path: Path | None,
    class_names: tuple[str, ...] = (),
    index_folder: Path | None = None,
    notify: Callable[[str], None] = lambda line: None,
    cache: CacheSettings | None = None,
) -> Dataset:
    """Opens a dataset in any layout; see layouts.py.

    Args:
        images: [dataset] training_images or validation_images: a folder or an archive;
            or the URL of archives, as a text.
        list_path: [dataset] training_list or validation_list.
        class_names: Classes of the training set, if this is the validation set.
        index_folder: Where the index file is, or will be; None for no index.
        notify: Called with a line before what may take minutes, and about what was
            skipped.
        cache: Of images from a server.

    Raises:
        DatasetError: The images cannot be used.
        UserError: A server does not answer, or a package for it is missing.
    """
    walk = FolderWalk(notify)
    key = shown_url(str(images)), list_path, *class_names
    path = index_folder and _index_path(index_folder, *key)
    remote = find_archives(images) if isinstance(images, str) else {}
    dataset = _load(path, remote, cache) if path else None
    if dataset is None:
        if isinstance(images, str):
            dataset = find_remote_images(
                images, remote, list_path, class_names, walk, cache
            )
        else:
            dataset = find_images(images, list_path, class_names, walk)
        if path:
            _save(path, dataset, walk.stamps)
    if dataset.num_classes < 2:
        raise DatasetError(
            f"{list_path or dataset.folder}: has one class only, nothing to tell apart"
        )
    for remark in dataset.remarks:
        notify(remark)
    if cache and dataset.locations and dataset.locations.cache:
        used, most = used_bytes(cache.folder), cache.max_bytes
        notify(
            f"{cache.folder}: caches images, {used / 1e9:.1f} of {most / 1e9:.1f} GB"
        )
    if dataset.class_words == dataset.class_names:
        dataset.class_words = class_words(dataset.folder, dataset.class_names)
    return dataset


def _cache_of(settings: DatasetConfig) -> CacheSettings | None:
    max_bytes = int(settings.cache_gigabytes * 1e9)
    return CacheSettings(str(settings.cache_folder), max_bytes) if max_bytes else None


def open_training_set(
    settings: DatasetConfig,
    index_folder: Path | None,
    notify: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Opens the training images; see ``open_dataset``."""
    images, list_path = settings.training_images, settings.training_list
    cache = _cache_of(settings)
    return open_dataset(images, list_path, (), index_folder, notify, cache)


def open_validation_set(
    settings: DatasetConfig,
    class_names: tuple[str, ...],
    index_folder: Path | None,
    notify: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Opens the validation images, with the training set's classes."""
    images, list_path = settings.validation_images, settings.validation_list
    cache = _cache_of(settings)
    return open_dataset(images, list_path, class_names, index_folder, notify, cache)
