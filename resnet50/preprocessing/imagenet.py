"""The images of a dataset with their labels, and each epoch's order of them.

Two layouts: class folders (``n01440764/n01440764_10026.JPEG``; a class's label is the
rank of its folder's name), and a list file with ``relative/path label`` a line.
"""

import array
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from resnet50.errors import UserError

# Purpose tag of the order's random stream. Without it default_rng([7, 2]) and
# default_rng([7, 2, 0]) would be the same stream.
EPOCH_ORDER = 1


class DatasetError(UserError):
    """The images of config.txt's [dataset] cannot be used as they are."""


class PackedNames:
    """Many file names in one block of bytes; 1.28 million take about 50 MB."""

    def __init__(self, block: bytes, ends: np.ndarray):
        """Takes names that are packed already.

        Args:
            block: All names, encoded as the file system has them, one after the other.
            ends: int64 [len + 1]; name i is block[ends[i] : ends[i + 1]].
        """
        self.block = block
        self.ends = ends

    @classmethod
    def pack(cls, names: Iterable[str]) -> "PackedNames":
        """Packs names one by one, so that they need never be in memory together."""
        block, ends = bytearray(), array.array("q", [0])
        for name in names:
            block += os.fsencode(name)
            ends.append(len(block))
        return cls(bytes(block), np.frombuffer(ends, np.int64))

    def __len__(self) -> int:
        """How many names there are."""
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> str:
        """One name."""
        return os.fsdecode(self.block[self.ends[index] : self.ends[index + 1]])


class Dataset:
    """Image paths and labels.

    Attributes:
        folder: What the paths are relative to.
        names: Relative paths.
        labels: int32 [num_images], 0 <= label < num_classes.
        class_names: One for each label.
        fingerprint: Changes with any relative path, label or class name.
        class_words: What each class is in words, "tench, Tinca tinca", where the
            dataset says it; otherwise empty.
    """

    class_words: tuple[str, ...] = ()

    def __init__(
        self,
        folder: Path,
        names: PackedNames,
        labels: np.ndarray,
        class_names: tuple[str, ...],
    ):
        """Stores what a listing has found; see the class for the arguments."""
        self.folder = folder
        self.names = names
        self.labels = labels
        self.class_names = class_names
        digest = hashlib.sha256()
        for part in (
            "\0".join(class_names).encode("utf-8", "surrogateescape"),
            names.block,
            names.ends.astype("<i8").tobytes(),
            labels.astype("<i4").tobytes(),
        ):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        self.fingerprint = digest.hexdigest()[:16]

    @property
    def num_images(self) -> int:
        """How many images there are."""
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def class_titles(self) -> tuple[str, ...]:
        """Name and words of each class, for people."""
        if not self.class_words:
            return self.class_names
        pairs = zip(self.class_names, self.class_words)
        return tuple(f"{name} {words}" for name, words in pairs)

    def paths(self, indices: Iterable[int]) -> list[str]:
        """Absolute paths of some images."""
        return [f"{self.folder}/{self.names[index]}" for index in indices]

    def batches_per_epoch(self, batch_size: int) -> int:
        """Whole batches in an epoch; the incomplete last one is dropped.

        Raises:
            DatasetError: There are fewer images than one batch takes.
        """
        if self.num_images < batch_size:
            raise DatasetError(
                f"{self.folder}: {self.num_images} images, but --batch_size is "
                f"{batch_size} (lower it, or add images)"
            )
        return self.num_images // batch_size


def epoch_order(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits the images.

    Returns:
        int64 [num_images], a permutation; a pure function of the arguments.
    """
    return np.random.default_rng([seed, EPOCH_ORDER, epoch]).permutation(num_images)


class FolderWalk:
    """Lists folders, and remembers when each of them was changed before that.

    Attributes:
        changed_ns: For each folder that was listed, its time of modification.
    """

    def __init__(self):
        self.changed_ns: dict[str, int] = {}

    def entries(self, folder: str) -> list[os.DirEntry]:
        """Entries of a folder but hidden ones, sorted by the bytes of their names."""
        try:
            self.changed_ns[folder] = Path(folder).stat().st_mtime_ns
            with os.scandir(folder) as entries:
                visible = [entry for entry in entries if entry.name[0] != "."]
        except OSError as error:
            raise DatasetError(
                f"{folder}: cannot be read: {error.strerror} (see [dataset] in "
                "config.txt)"
            ) from None
        return sorted(visible, key=lambda entry: os.fsencode(entry.name))

    def files_below(self, folder: str, relative: str) -> Iterator[str]:
        """Relative paths of all files of a folder and the folders in it."""
        for entry in self.entries(folder):
            name = f"{relative}/{entry.name}"
            if _is_folder(entry):
                yield from self.files_below(entry.path, name)
            else:
                yield name


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself: not readable, and told when it is read.
        return False


def list_class_folders(
    folder: Path, class_names: tuple[str, ...] = (), walk: FolderWalk | None = None
) -> Dataset:
    """Lists a folder with one subfolder of images for each class.

    Args:
        folder: Holds the class folders. Hidden entries and loose files are ignored;
            folders inside a class folder belong to the class.
        class_names: The training set's, if this is the validation set; then a class
            may be absent here, but no new one may appear.
        walk: Lists the folders, and so knows them afterwards.

    Raises:
        DatasetError: The folder is unreadable, holds no class, an empty class or an
            unknown one.
    """
    walk = walk or FolderWalk()
    found = [e.name for e in walk.entries(str(folder)) if _is_folder(e)]
    if not found:
        raise DatasetError(
            f"{folder}: holds no class folders (expected one folder of images for each "
            "class; see [dataset] in config.txt)"
        )
    unknown = sorted(set(found) - set(class_names)) if class_names else []
    if unknown:
        raise DatasetError(
            f"{folder}: class folder {unknown[0]} is not among the "
            f"{len(class_names)} classes of the training images"
        )
    class_names = class_names or tuple(found)
    rank = {name: label for label, name in enumerate(class_names)}
    counts: list[int] = []

    def all_files() -> Iterator[str]:
        for name in found:
            count = 0
            for file in walk.files_below(f"{folder}/{name}", name):
                count += 1
                yield file
            if not count:
                raise DatasetError(
                    f"{folder / name}: class folder without images (add some, or "
                    "remove it)"
                )
            counts.append(count)

    names = PackedNames.pack(all_files())
    labels = np.repeat([rank[name] for name in found], counts).astype(np.int32)
    return Dataset(folder, names, labels, class_names)


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


def read_list(
    list_path: Path, folder: Path, class_names: tuple[str, ...] = ()
) -> Dataset:
    """Reads a list file: ``relative/path label`` a line, labels from 0.

    Args:
        list_path: The text file. Empty lines are ignored; a path may hold spaces.
        folder: What its paths are relative to.
        class_names: The training set's, if this is the validation set.

    Raises:
        DatasetError: The file or a line is unusable, a label is out of range, or (in a
            training list) a label between 0 and the highest one has no image.
    """
    try:
        lines = list_path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise DatasetError(f"{list_path}: cannot be read: {error.strerror}") from None
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise DatasetError(f"{list_path}: lists no images")
    parsed = [_parse_line(line, f"{list_path}, line {i}") for i, line in numbered]
    labels = np.array([label for _, label in parsed], np.int64)
    if class_names and labels.max() >= len(class_names):
        number = numbered[int(labels.argmax())][0]
        raise DatasetError(
            f"{list_path}, line {number}: label {labels.max()}, but the training "
            f"images have the labels 0 to {len(class_names) - 1}"
        )
    if not class_names:
        used = np.unique(labels)
        if len(used) != used[-1] + 1:
            gap = int(np.argmax(used != np.arange(len(used))))
            raise DatasetError(
                f"{list_path}: no image has label {gap}, but the highest is {used[-1]} "
                "(labels must be 0, 1, 2, ... without a gap)"
            )
        class_names = tuple(str(label) for label in used)
    names = PackedNames.pack(name for name, _ in parsed)
    return Dataset(folder, names, labels.astype(np.int32), class_names)
