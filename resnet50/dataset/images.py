"""The images of a dataset with their labels, and their order in each epoch.

In every layout the images are ordered by class, then by name, so that the same images
make the same batches.
"""

import array
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnet50.dataset.remote.store import StoreAwayError
from resnet50.dataset.sources import ImageSource, Locations
from resnet50.errors import UserError

# Purpose tag of the order's random stream. Without it default_rng([7, 2]) and
# default_rng([7, 2, 0]) would be the same stream.
EPOCH_ORDER = 1

# The same for the order of each class's images, with sampling = "balanced".
CLASS_ORDER = 8


class DatasetError(UserError):
    """The images of config.txt's [dataset] cannot be used."""


@dataclasses.dataclass(frozen=True, eq=False)
class PackedNames:
    """Many file names in one block of bytes; 1.28 million take about 50 MB."""

    block: bytes  # in the file system's encoding, one after the other
    ends: np.ndarray  # int64 [len + 1]; name i is block[ends[i] : ends[i + 1]]

    @classmethod
    def pack(cls, names: Iterable[str]) -> "PackedNames":
        """Packs names one by one, so they need not all be in memory."""
        block, ends = bytearray(), array.array("q", [0])
        for name in names:
            block += os.fsencode(name)
            ends.append(len(block))
        return cls(bytes(block), np.frombuffer(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self.block[self.ends[index] : self.ends[index + 1]])

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


def _class_order(names: Sequence[str], labels: Sequence[int]) -> list[int]:
    # A folder's files stay together.
    paths = [os.fsencode(name).replace(b"/", b"\0") for name in names]
    keys = list(zip(labels, paths))
    return sorted(range(len(keys)), key=keys.__getitem__)


@dataclasses.dataclass(eq=False)
class Dataset:
    """Where the images are, and their labels.

    Attributes:
        folder: The folder that the names are relative to, or the archive that holds the
            images. A text is a URL, as messages show it.
        names: Relative paths. In archives, the paths that class folders would have.
        labels: int32 [num_images], 0 <= label < num_classes.
        class_names: Name of each class, by label.
        locations: Where the images are in archives; None if each is a file.
        layout: How the images are laid out, for messages.
        class_words: What each class is called; its name if that is unknown.
        remarks: What was skipped, one line each, for messages.
        fingerprint: Changes with any relative path, label or class name.
    """

    folder: Path | str
    names: PackedNames
    labels: np.ndarray
    class_names: tuple[str, ...]
    locations: Locations | None = None
    layout: str = "class folders"
    class_words: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    fingerprint: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.class_words = self.class_words or self.class_names
        digest = hashlib.sha256()
        for part in (
            "\0".join(self.class_names).encode("utf-8", "surrogateescape"),
            self.names.block,
            self.names.ends.astype("<i8").tobytes(),
            self.labels.astype("<i4").tobytes(),
        ):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        self.fingerprint = digest.hexdigest()[:16]

    @classmethod
    def in_order(
        cls,
        folder: Path | str,
        names: Sequence[str],
        labels: Sequence[int],
        class_names: tuple[str, ...],
        locations: Locations | None = None,
        **more: Any,
    ) -> "Dataset":
        """Sorts images by label, then by name as folders are listed."""
        order = _class_order(names, labels)
        return cls(
            folder,
            PackedNames.pack(names[index] for index in order),
            np.array([labels[index] for index in order], np.int32),
            class_names,
            locations and locations.in_order(order),
            **more,
        )

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def class_counts(self) -> np.ndarray:
        """The number of images of each class, int64 [num_classes]."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @property
    def imbalance(self) -> str | None:
        """How unequal the classes are, for a message; None if they are equal."""
        least, most = self.class_counts.min(), self.class_counts.max()
        if least == most:
            return None
        line = f"{self.folder}: classes of {least:,} to {most:,} images"
        if least:
            ratio = most / least
            line += f"; the largest has {ratio:,.1f} times as many as the smallest"
        return line

    @property
    def class_titles(self) -> tuple[str, ...]:
        """Name and words of each class, for people."""
        pairs = zip(self.class_names, self.class_words)
        return tuple(n if words == n else f"{n} {words}" for n, words in pairs)

    @property
    def summary(self) -> str:
        """Where the images are, their layout and their number, for a message."""
        return (
            f"{self.folder}: {self.layout}, {self.num_images:,} images of "
            f"{self.num_classes:,} classes"
        )

    def sources(self, indices: Iterable[int]) -> list[ImageSource]:
        """Returns where some images are."""
        if self.locations is None:
            return [ImageSource(f"{self.folder}/{self.names[i]}") for i in indices]
        return [self.locations.source(i, self.names[i]) for i in indices]

    def sample(self) -> list[ImageSource]:
        """Up to 16 images from all parts of the dataset, of different classes."""
        last = self.num_images - 1
        return self.sources(np.linspace(0, last, min(16, last + 1), dtype=int))

    def sample_digest(self) -> str:
        """A digest of the bytes of ``sample``; an unreadable image counts as empty.

        Raises:
            StoreAwayError: The server with the images does not answer.
        """
        digest = hashlib.sha256()
        for source in self.sample():
            data = b""
            try:
                data = source.read()
            except StoreAwayError:
                raise
            except OSError:
                pass  # Another host may have the image, and then differs.
            digest.update(hashlib.sha256(data).digest())
        return digest.hexdigest()[:16]

    def batches_per_epoch(self, batch_size: int) -> int:
        """Returns the number of whole batches; an incomplete last one is dropped.

        Raises:
            DatasetError: There are fewer images than one batch needs.
        """
        if self.num_images < batch_size:
            raise DatasetError(
                f"{self.folder}: {self.num_images} images, but --batch_size is "
                f"{batch_size} (lower it, or add images)"
            )
        return self.num_images // batch_size


def epoch_order(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """Returns an epoch's order of the images: int64 [num_images], a permutation."""
    return np.random.default_rng([seed, EPOCH_ORDER, epoch]).permutation(num_images)


def images_of_classes(labels: np.ndarray) -> list[np.ndarray]:
    """Returns for each class the indices of its images, ascending: int64 arrays."""
    ends = np.cumsum(np.bincount(labels))
    return np.split(np.argsort(labels, kind="stable"), ends[:-1])


def balanced_order(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Returns an epoch's order with as many images of each class: int64 [num_images].

    The numbers of two classes differ by at most one, in an epoch and in all epochs
    together, and so do those of two images of a class. Each class has an endless
    sequence, a random permutation of its images and then the next; an epoch takes as
    many as it needs from where the last epoch ended. Classes without images are left
    out.

    Args:
        labels: int32 [num_images].
        seed: Of the training.
        epoch: 0 or more.
    """
    counts = np.bincount(labels)
    classes, num_images = np.flatnonzero(counts), len(labels)
    share, rest = divmod(num_images, len(classes))
    images_of = images_of_classes(labels)

    def num_drawn(rank: int, epoch: int) -> int:
        """How many images of a class all epochs before this one take."""
        # The classes take turns with the rest of the epochs.
        return epoch * share + (epoch * rest - rank + len(classes) - 1) // len(classes)

    def permuted(label: int, round_index: int) -> np.ndarray:
        rng = np.random.default_rng([seed, CLASS_ORDER, label, round_index])
        return rng.permutation(images_of[label])

    chosen: list[np.ndarray] = []
    for rank, label in enumerate(classes.tolist()):
        size = int(counts[label])
        first, skipped = divmod(num_drawn(rank, epoch), size)
        last, taken = divmod(num_drawn(rank, epoch + 1), size)
        if first == last:
            chosen.append(permuted(label, first)[skipped:taken])
            continue
        # Whole rounds in between need no permutation: the epoch is permuted anyway.
        chosen.append(permuted(label, first)[skipped:])
        chosen.append(np.tile(images_of[label], last - first - 1))
        chosen.append(permuted(label, last)[:taken])
    order: np.ndarray = np.concatenate(chosen)[epoch_order(num_images, seed, epoch)]
    return order


def class_ranks(
    where: Path | str, found: Iterable[str], class_names: tuple[str, ...]
) -> dict[str, int]:
    """Returns the label of each class.

    Raises:
        DatasetError: A class that was found is not among ``class_names``.
    """
    unknown = sorted(set(found) - set(class_names))
    if unknown:
        raise DatasetError(
            f"{where}: class {unknown[0]} is not among the "
            f"{len(class_names)} classes of the training images"
        )
    return {name: label for label, name in enumerate(class_names)}
