"""Opens a dataset, and remembers the listing of its class folders in an index file.

Listing ImageNet's 1.28 million files takes seconds from a warm cache and minutes from a
cold disk; the index takes a fraction of a second. It holds, for each folder that was
listed, when it was last changed, and is not believed if one of them has changed since.
A lost or damaged index costs the time of a listing, nothing else.
"""

import contextlib
import hashlib
import time
from pathlib import Path

import numpy as np

from resnet50.config import DatasetConfig
from resnet50.handoff.atomic_io import atomic_file
from resnet50.preprocessing.imagenet import (
    Dataset,
    DatasetError,
    FolderWalk,
    PackedNames,
    list_class_folders,
    read_list,
)

# Raised when a change of the code lists other files, or in another order.
_FORMAT_VERSION = 1

# A folder that was changed so shortly before it was listed may be changed again without
# its time of modification showing it.
_RACY_SECONDS = 2.0


def _index_path(index_folder: Path, folder: Path, class_names: tuple[str, ...]) -> Path:
    key = "\0".join([str(_FORMAT_VERSION), str(folder), *class_names])
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    return index_folder / f"dataset_index_{digest[:16]}.npz"


def _save(path: Path, dataset: Dataset, changed_ns: dict[str, int]) -> None:
    newest = max(changed_ns.values()) / 1e9
    if newest > time.time() - _RACY_SECONDS:
        return
    arrays = {
        "labels": dataset.labels,
        "changed_ns": np.array(list(changed_ns.values()), np.int64),
        "fingerprint": np.array(dataset.fingerprint),
    }
    for name, packed in (
        ("names", dataset.names),
        ("class_names", PackedNames.pack(dataset.class_names)),
        ("folders", PackedNames.pack(changed_ns)),
    ):
        arrays[f"{name}_block"] = np.frombuffer(packed.block, np.uint8)
        arrays[f"{name}_ends"] = packed.ends
    with contextlib.suppress(OSError), atomic_file(path) as file:
        np.savez(file, **arrays)


def _load(path: Path, folder: Path) -> Dataset | None:
    """The dataset of an index; None if there is none that can be believed."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            packed = [
                PackedNames(arrays[f"{name}_block"].tobytes(), arrays[f"{name}_ends"])
                for name in ("names", "class_names", "folders")
            ]
            labels, changed_ns = arrays["labels"], arrays["changed_ns"]
            fingerprint = str(arrays["fingerprint"])
        names, class_names, folders = packed
        for index, expected in enumerate(changed_ns):
            if Path(folders[index]).stat().st_mtime_ns != expected:
                return None
        dataset = Dataset(folder, names, labels, tuple(class_names))
    # Nothing there, a folder that is gone, or a damaged file, of which numpy and
    # zipfile raise nearly anything: each time the answer is to list anew.
    except Exception:
        return None
    return dataset if dataset.fingerprint == fingerprint else None


def open_dataset(
    folder: Path,
    list_path: Path | None,
    class_names: tuple[str, ...] = (),
    *,
    index_folder: Path | None = None,
) -> Dataset:
    """Opens a dataset in whichever of the two layouts the settings name.

    Args:
        folder: [dataset] training_images or validation_images.
        list_path: [dataset] training_list or validation_list; None for class folders.
        class_names: The training set's, if this is the validation set.
        index_folder: Where the listing of class folders is remembered; None: nowhere.

    Raises:
        DatasetError: The images cannot be used as they are.
    """
    if list_path is not None:
        dataset = read_list(list_path, folder, class_names)
    else:
        dataset = _open_class_folders(folder, class_names, index_folder)
    if dataset.num_classes < 2:
        raise DatasetError(
            f"{list_path or folder}: has one class only, nothing to tell apart"
        )
    return dataset


def _open_class_folders(
    folder: Path, class_names: tuple[str, ...], index_folder: Path | None
) -> Dataset:
    if index_folder is None or not index_folder.is_dir():
        return list_class_folders(folder, class_names)
    path = _index_path(index_folder, folder, class_names)
    dataset = _load(path, folder)
    if dataset is None:
        walk = FolderWalk()
        dataset = list_class_folders(folder, class_names, walk)
        _save(path, dataset, walk.changed_ns)
    return dataset


def open_training_set(settings: DatasetConfig, index_folder: Path | None) -> Dataset:
    """Opens the training images; see ``open_dataset``."""
    return open_dataset(
        settings.training_images, settings.training_list, index_folder=index_folder
    )


def open_validation_set(
    settings: DatasetConfig, class_names: tuple[str, ...], index_folder: Path | None
) -> Dataset:
    """Opens the validation images, of the training set's classes."""
    return open_dataset(
        settings.validation_images,
        settings.validation_list,
        class_names,
        index_folder=index_folder,
    )
