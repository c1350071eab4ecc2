"""The batch files in the buffer folder: names, commit order, checks.

A batch is two files, each with a checksum at its end (see npy_file):

    labels_EEEE_BBBBB.npy   int32 [N], 0 <= label < num_classes
    images_EEEE_BBBBB.npy   float16 or float32 [N, H, W, 3], RGB, normalized

with the epoch and the batch index, zero-padded to at least 4 and 5 digits. If the
images are uint8, they are not normalized, and the labels file also holds the colour
shift of each image, which the trainer adds after it has normalized:

    labels_EEEE_BBBBB.npy   (label int32, shift float32 [3]) [N]
    images_EEEE_BBBBB.npy   uint8 [N, H, W, 3], RGB

Labels are committed first and deleted last, so a reader that finds the images file has
both.

The buffer of one of several hosts may hold only some rows of each batch. Then the names
say which, such as images_0003_00017_rows_32_63.npy for the rows 32 to 63.
"""

import os
import re
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnet50.atomic_io import atomic_file
from resnet50.handoff.npy_file import (
    FOOTER_BYTES,
    BatchFileError,
    load_array,
    save_array,
)
from resnet50.handoff.progress import Position

# The files of a batch.
KINDS = frozenset({"images", "labels"})

# What follows the kind in a file's name.
_ADDRESS = re.compile(r"_([0-9]{4,})_([0-9]{5,})((?:_rows_[0-9]+_[0-9]+)?)\.npy")
_NAME = re.compile(f"(?:images|labels){_ADDRESS.pattern}")

LABELS = np.dtype("<i4")
LABELS_AND_SHIFTS = np.dtype([("label", "<i4"), ("shift", "<f4", (3,))])


class Rows(NamedTuple):
    """Some consecutive rows, which are images, of each batch."""

    first: int
    end: int  # the row after the last

    @property
    def size(self) -> int:
        """Their number."""
        return self.end - self.first


class StoredBatch(NamedTuple):
    """The arrays of a batch."""

    images: np.ndarray  # uint8, float16 or float32 [N, H, W, 3], RGB
    labels: np.ndarray  # int32 [N]
    shifts: np.ndarray | None  # float32 [N, 3]; None if the images are normalized


def has_shifts(dtype: str) -> bool:
    """Whether the trainer normalizes images of a dtype, and adds colour shifts."""
    return dtype == "uint8"


def crop_size_at(
    epoch: int, crop_size: int, schedule: Sequence[tuple[int, int]]
) -> int:
    """The side of the crops in an epoch, pixels.

    The schedule has pairs of a first epoch and the side from then on, ascending. Before
    the first of them the side is ``crop_size``.
    """
    sizes = [size for first_epoch, size in schedule if first_epoch <= epoch]
    return sizes[-1] if sizes else crop_size


class BatchSpec(NamedTuple):
    """What every batch of a buffer looks like."""

    batch_size: int  # images in a file, which may be a part of the whole batch
    crop_size: int  # pixels; see crop_size_at
    dtype: str  # of the images
    num_classes: int
    crop_size_schedule: tuple[tuple[int, int], ...] = ()

    @property
    def labels_dtype(self) -> np.dtype:
        """The dtype of the labels file."""
        return LABELS_AND_SHIFTS if has_shifts(self.dtype) else LABELS

    @property
    def batch_bytes(self) -> int:
        """Size of the largest batch on disk, with two headers of 128 bytes."""
        first = crop_size_at(0, self.crop_size, self.crop_size_schedule)
        largest = max([first, *(size for _, size in self.crop_size_schedule)])
        image_bytes = largest**2 * 3 * np.dtype(self.dtype).itemsize
        return self.batch_size * (image_bytes + self.labels_dtype.itemsize) + 2 * (
            128 + FOOTER_BYTES
        )


def _digits(position: Position) -> str:
    return f"{position.epoch:04d}_{position.batch_index:05d}"


class BatchBuffer:
    """The batch files of one folder. Has no other state than the folder."""

    def __init__(self, folder: Path, rows: Rows | None = None):
        """Takes the rows of each batch that the folder holds; None: all."""
        self.folder = folder
        self._suffix = "" if rows is None else f"_rows_{rows.first}_{rows.end - 1}"

    def images_path(self, position: Position) -> Path:
        """The path of a batch's images."""
        return self.folder / f"images_{_digits(position)}{self._suffix}.npy"

    def labels_path(self, position: Position) -> Path:
        """The path of a batch's labels."""
        return self.folder / f"labels_{_digits(position)}{self._suffix}.npy"

    def write(
        self,
        position: Position,
        images: np.ndarray,
        labels: np.ndarray,
        shifts: np.ndarray | None = None,
    ) -> None:
        """Commits a batch; see StoredBatch for the arrays."""
        if shifts is not None:
            records = np.empty(len(labels), LABELS_AND_SHIFTS)
            records["label"], records["shift"] = labels, shifts
            labels = records
        # Labels first: a reader that finds the images file has both.
        for path, array in (
            (self.labels_path(position), labels),
            (self.images_path(position), images),
        ):
            # After a power cut a missing batch is made again.
            with atomic_file(path, durable=False) as file:
                save_array(file, array)

    def confirm(self, position: Position) -> None:
        """Notes that a worker has written a batch; a local folder lists it at once."""

    def read(
        self,
        position: Position,
        spec: BatchSpec,
        empty: Callable[..., np.ndarray] = np.empty,
    ) -> StoredBatch:
        """Reads and checks a batch; ``empty`` creates the array of the images.

        Raises:
            FileNotFoundError: The batch does not exist (yet).
            OSError: A file cannot be read now.
            BatchFileError: A file is damaged, or has another shape, dtype or range.
        """
        images_path = self.images_path(position)
        labels_path = self.labels_path(position)
        size = crop_size_at(position.epoch, spec.crop_size, spec.crop_size_schedule)
        shape = spec.batch_size, size, size, 3
        images = load_array(images_path, shape, spec.dtype, empty)
        labels = load_array(labels_path, (spec.batch_size,), spec.labels_dtype)
        shifts = None
        if has_shifts(spec.dtype):
            labels, shifts = labels["label"].copy(), labels["shift"].copy()
        if labels.min() < 0 or labels.max() >= spec.num_classes:
            raise BatchFileError(
                f"{labels_path}: labels from {labels.min()} to {labels.max()}, "
                f"expected 0 to {spec.num_classes - 1} (is the dataset the same in "
                "both terminals?)"
            )
        return StoredBatch(images, labels, shifts)

    def files(self) -> dict[Position, Set[str]]:
        """The kinds of file, images and labels, that exist for each position."""
        # A large buffer has 30,000 files. Path.iterdir and a match for each file would
        # take twice the time.
        names = os.listdir(self.folder)  # noqa: PTH208
        images = {name[6:] for name in names if name[:6] == "images"}
        labels = {name[6:] for name in names if name[:6] == "labels"}
        return {
            Position(int(match[1]), int(match[2])): kinds
            for addresses, kinds in (
                (images & labels, KINDS),
                (images - labels, {"images"}),
                (labels - images, {"labels"}),
            )
            for match in filter(None, map(_ADDRESS.fullmatch, addresses))
            if match[3] == self._suffix
        }

    def ready(self) -> set[Position]:
        """Positions of the batches that have both files."""
        return {p for p, kinds in self.files().items() if kinds == KINDS}

    def delete(self, position: Position) -> None:
        """Removes a batch, or whatever exists of it."""
        self.images_path(position).unlink(missing_ok=True)
        self.labels_path(position).unlink(missing_ok=True)

    def clear(self) -> int:
        """Removes every batch, also with other rows; returns how many there were."""
        positions = self.files()
        for position in positions:
            self.delete(position)
        others = [p for p in self.folder.iterdir() if _NAME.fullmatch(p.name)]
        for path in sorted(others):  # Images first, as ``delete`` does.
            path.unlink(missing_ok=True)
        names = {path.name.partition("_")[2] for path in others}
        return len(positions) + len(names)
