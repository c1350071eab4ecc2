"""The images of a dataset with their labels, and each epoch's order of them.

Here is the layout of class folders (``n01440764/n01440764_10026.JPEG``; a class's label
is the rank of its folder's name); layouts.py has the others. In each of them the images
are ordered by class, then by name, so that the same images make the same batches.
"""

import array
import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from resnet50.dataset.passed_over import PassedOver, why_no_image
from resnet50.dataset.sources import ImageFile, ImageSource, Places
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


def sort_key(name: str) -> bytes:
    """What sorts relative paths as folders are listed: a folder's files together."""
    return os.fsencode(name).replace(b"/", b"\0")


class Dataset:
    """Where the images are, and their labels.

    Attributes:
        folder: What the paths are relative to, or the archive that holds the images.
        names: Relative paths; in archives, those that class folders would have.
        labels: int32 [num_images], 0 <= label < num_classes.
        class_names: One for each label.
        places: Where the images lie in archives; None: each is a file.
        layout: What was found, for messages.
        remarks: What was passed over, a line each, for messages.
        class_words: What the classes are called; their names where it is not known.
        fingerprint: Changes with any relative path, label or class name.
    """

    def __init__(
        self,
        folder: Path,
        names: PackedNames,
        labels: np.ndarray,
        class_names: tuple[str, ...],
        *,
        places: Places | None = None,
        layout: str = "class folders",
        class_words: tuple[str, ...] = (),
    ):
        """Stores what a listing has found; see the class for the arguments."""
        self.folder = folder
        self.names = names
        self.labels = labels
        self.class_names = class_names
        self.places = places
        self.layout = layout
        self.remarks: tuple[str, ...] = ()
        self.class_words = class_words or class_names
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
        pairs = zip(self.class_names, self.class_words)
        return tuple(
            name if words == name else f"{name} {words}" for name, words in pairs
        )

    @property
    def summary(self) -> str:
        """Where the images are, in which layout, and how many; for a message."""
        return (
            f"{self.folder}: {self.layout}, {self.num_images:,} images of "
            f"{self.num_classes:,} classes"
        )

    def sources(self, indices: Iterable[int]) -> list[ImageSource]:
        """Where some images are."""
        if self.places is None:
            return [ImageFile(f"{self.folder}/{self.names[i]}") for i in indices]
        return [self.places.source(i, self.names[i]) for i in indices]

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


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """A file's or folder's time of modification, nanoseconds, and a file's size."""
    return status.st_mtime_ns, 0 if stat.S_ISDIR(status.st_mode) else status.st_size


class FolderWalk:
    """Lists folders, and remembers when each of them was changed before that.

    Attributes:
        stamps: Of each folder that was listed, and of each file that was read.
        notify: Takes a line for the user, before what may take minutes.
        passed_over: What is not listed.
    """

    def __init__(
        self,
        notify: Callable[[str], None] = lambda line: None,
        *,
        remedy: str = "see [dataset] in config.txt",
    ):
        """Prepares.

        Args:
            notify: See the class.
            remedy: What to do about a folder that cannot be read.
        """
        self.notify = notify
        self._remedy = remedy
        self.stamps: dict[str, tuple[int, int]] = {}
        self.passed_over = PassedOver()

    def note(self, path: str | Path) -> None:
        """Remembers the stamp of a file or folder that is about to be read."""
        try:
            self.stamps[str(path)] = stamp_of(Path(path).stat())
        except OSError as error:
            raise self._unreadable(path, error) from None

    def entries(self, folder: str) -> list[os.DirEntry]:
        """Entries of a folder but hidden ones, sorted by the bytes of their names."""
        self.note(folder)
        return [e for e in self._sorted_entries(folder) if e.name[0] != "."]

    def _sorted_entries(self, folder: str) -> list[os.DirEntry]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise self._unreadable(folder, error) from None

    def _unreadable(self, path: str | Path, error: OSError) -> DatasetError:
        return DatasetError(
            f"{path}: cannot be read: {error.strerror} ({self._remedy})"
        )

    def class_folders(self, folder: Path) -> list[str]:
        """Names of the folders in a folder, but those that lead back up."""
        found = [entry for entry in self.entries(str(folder)) if is_folder(entry)]
        links = [entry for entry in found if entry.is_symlink()]
        above = folders_above(folder / "class") if links else set()
        circles = {entry.name for entry in links if _identity(entry.stat()) in above}
        for name in sorted(circles):
            self.passed_over.add_folder(f"{folder}/{name}")
        return [entry.name for entry in found if entry.name not in circles]

    def images_below(self, folder: str | Path, prefix: str = "") -> Iterator[str]:
        """Relative paths of what may be images, in a folder and the folders in it.

        Links to folders are followed, but each real folder counts once, and those above
        do not count.

        Args:
            folder: Where they are.
            prefix: What the paths begin with.
        """
        yield from self._images_below(str(folder), prefix, _Listed(Path(folder)))

    def _images_below(
        self, folder: str, prefix: str, listed: "_Listed", *, is_link: bool = False
    ) -> Iterator[str]:
        try:
            status = os.stat(folder)  # noqa: PTH116 - half the time of Path's.
        except OSError as error:
            raise self._unreadable(folder, error) from None
        if not listed.add(status, is_link=is_link):
            self.passed_over.add_folder(folder)
            return
        self.stamps[folder] = stamp_of(status)
        for entry in self._sorted_entries(folder):
            name = entry.name
            if is_folder(entry):
                if name[0] != ".":
                    yield from self._images_below(
                        entry.path,
                        f"{prefix}{name}/",
                        listed,
                        is_link=entry.is_symlink(),
                    )
            elif why := why_no_image(name):
                self.passed_over.add_file(entry.path, why)
            else:
                yield f"{prefix}{name}"


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def folders_above(folder: Path) -> set[tuple[int, int]]:
    """Identities of the folders that a folder is in, by its path and really."""
    inside = folder.parent.resolve()
    above = {inside, *inside.parents, *folder.resolve().parents}
    identities = set()
    for path in above:
        with contextlib.suppress(OSError):  # Of a network file system, nobody may look.
            identities.add(_identity(path.stat()))
    return identities


class _Listed:
    """The folders of a class, so that none counts twice.

    Without links none can, and nothing is compared: not every file system gives each
    folder a number of its own.
    """

    def __init__(self, root: Path):
        self._root = root
        self._identities: set[tuple[int, int]] = set()
        self._has_links = False

    def add(self, status: os.stat_result, *, is_link: bool) -> bool:
        """Takes a folder; returns False if it counts already, or leads back up."""
        if is_link and not self._has_links:
            self._has_links = True
            self._identities |= folders_above(self._root)
        identity = _identity(status)
        if self._has_links and identity in self._identities:
            return False
        self._identities.add(identity)
        return True


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # A link to itself: not readable, and told when it is read.
        return False


def class_ranks(
    where: Path, found: Iterable[str], class_names: tuple[str, ...]
) -> dict[str, int]:
    """The label of each class.

    Args:
        where: The images, for the message.
        found: Classes that they have.
        class_names: The classes that they may have.

    Raises:
        DatasetError: There is another one.
    """
    unknown = sorted(set(found) - set(class_names))
    if unknown:
        raise DatasetError(
            f"{where}: class {unknown[0]} is not among the "
            f"{len(class_names)} classes of the training images"
        )
    return {name: label for label, name in enumerate(class_names)}


def list_class_folders(
    folder: Path, class_names: tuple[str, ...] = (), walk: FolderWalk | None = None
) -> Dataset:
    """Lists a folder with one subfolder of images for each class.

    Args:
        folder: Holds the class folders. Hidden entries, loose files and links back up
            are ignored; folders inside a class folder belong to the class.
        class_names: The training set's, if this is the validation set; then a class
            may be absent here, but no new one may appear.
        walk: Lists the folders, and so knows them afterwards.

    Raises:
        DatasetError: The folder is unreadable, holds no class, an empty class or an
            unknown one.
    """
    walk = walk or FolderWalk()
    found = walk.class_folders(folder)
    if not found:
        raise DatasetError(
            f"{folder}: holds no class folders (expected one folder of images for each "
            "class; see [dataset] in config.txt)"
        )
    class_names = class_names or tuple(found)
    rank = class_ranks(folder, found, class_names)
    counts: list[int] = []

    def all_files() -> Iterator[str]:
        for name in found:
            count = 0
            for file in walk.images_below(f"{folder}/{name}", f"{name}/"):
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
