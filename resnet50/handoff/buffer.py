"""The batch files in the buffer folder: names, commit order, checks.

A batch is two files, written by numpy.save:

    labels_EEEE_BBBBB.npy   int32 [N], 0 <= label < num_classes
    images_EEEE_BBBBB.npy   float16 or float32 [N, H, W, 3], RGB, normalized

with the epoch and the batch index, zero-padded to at least 4 and 5 digits. Images may
also be uint8, not normalized; then the other file holds for each image a record of its
label and of its colour's shift, which the trainer adds after it has normalized:

    labels_EEEE_BBBBB.npy   (label int32, shift float32 [3]) [N]
    images_EEEE_BBBBB.npy   uint8 [N, H, W, 3], RGB

Labels are
committed first and deleted last, so a reader that finds the images file has both.
"""

import functools
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from resnet50.atomic_io import atomic_file
from resnet50.errors import UserError
from resnet50.handoff.progress import Position

# Files of a batch, labels and images.
NUM_KINDS = 2

_NAME = re.compile(r"(images|labels)_([0-9]{4,})_([0-9]{5,})\.npy")


class BatchFileError(UserError):
    """A batch file is not what the settings say that it must be."""


LABELS = np.dtype("<i4")
LABELS_AND_SHIFTS = np.dtype([("label", "<i4"), ("shift", "<f4", (3,))])


class StoredBatch(NamedTuple):
    """The arrays of a batch; see the module for their shapes and dtypes."""

    images: np.ndarray
    labels: np.ndarray  # int32 [N]
    shifts: np.ndarray | None  # float32 [N, 3], with uint8 images only


def crop_size_at(
    epoch: int, crop_size: int, schedule: Sequence[tuple[int, int]]
) -> int:
    """The side of the crops in an epoch, pixels.

    Args:
        epoch: From 0.
        crop_size: Where the schedule says nothing.
        schedule: Pairs of the first epoch and the size from then on, ascending.
    """
    sizes = [size for first_epoch, size in schedule if first_epoch <= epoch]
    return sizes[-1] if sizes else crop_size


class BatchSpec(NamedTuple):
    """What every batch of a buffer looks like."""

    batch_size: int
    crop_size: int  # where the schedule says nothing
    dtype: str
    num_classes: int
    crop_size_schedule: tuple[tuple[int, int], ...] = ()  # see crop_size_at

    @property
    def labels_dtype(self) -> np.dtype:
        """What a labels file holds for each image."""
        return LABELS_AND_SHIFTS if self.dtype == "uint8" else LABELS

    @property
    def batch_bytes(self) -> int:
        """Size on disk of the largest: values, labels, two headers of 128 bytes."""
        first = crop_size_at(0, self.crop_size, self.crop_size_schedule)
        largest = max([first, *(size for _, size in self.crop_size_schedule)])
        image_bytes = largest**2 * 3 * np.dtype(self.dtype).itemsize
        return self.batch_size * (image_bytes + self.labels_dtype.itemsize) + 256


def _file_name(kind: str, position: Position) -> str:
    return f"{kind}_{position.epoch:04d}_{position.batch_index:05d}.npy"


# Where the values that are not finite begin: infinities and what is not a number have
# all exponent bits 1. As signed whole numbers these are the largest positive floats, as
# unsigned ones the largest of all, below zero. Two maxima are many times faster than
# numpy.isfinite on float16.
_NOT_FINITE = {
    "float16": ((np.int16, 0x7C00), (np.uint16, 0xFC00)),
    "float32": ((np.int32, 0x7F800000), (np.uint32, 0xFF800000)),
}

# Read and looked at together, so that they are still in the processor's cache.
_BYTES_AT_ONCE = 2**18


def _is_finite(values: np.ndarray, dtype: str) -> bool:
    """Whether all values are; uint8 [bytes], of a dtype of images."""
    limits = _NOT_FINITE.get(dtype, ())
    return all(np.maximum.reduce(values.view(kind)) < least for kind, least in limits)


@functools.cache
def _usual_header(shape: tuple[int, ...], dtype: str | np.dtype) -> bytes:
    """The header that numpy.save writes."""
    file = io.BytesIO()
    description = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(
        file, {"descr": description, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def _require_header(
    file: BinaryIO, path: Path, shape: tuple[int, ...], dtype: str | np.dtype
) -> None:
    """Reads a header that says just what is expected, and nothing else."""
    usual = _usual_header(shape, dtype)
    if file.read(len(usual)) == usual:
        return
    # Parsing takes numpy 0.1 ms.
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"is .npy format {version}")
        found_shape, is_fortran, found_dtype = np.lib.format.read_array_header_1_0(file)
    # numpy's parser of a damaged header raises nearly anything.
    except Exception as error:
        reason = " ".join(str(error).split())[:100]
        raise BatchFileError(f"{path}: is no batch file: {reason}") from None
    if found_shape != shape or found_dtype != dtype or is_fortran:
        raise BatchFileError(
            f"{path}: {found_dtype} {list(found_shape)}, expected {dtype} "
            f"{list(shape)} (are --batch_size and config.txt the same in both "
            "terminals?)"
        )


def _load(
    path: Path, shape: tuple[int, ...], dtype: str | np.dtype
) -> tuple[np.ndarray, bool]:
    """Reads an array of a file; returns it and whether its values are finite.

    Not numpy.load: that believes the header, allocates what it says, and also opens
    archives and pickles.
    """
    with path.open("rb") as file:
        try:
            _require_header(file, path, shape, dtype)
            array, is_finite, num_bytes = np.empty(shape, dtype), True, 0
            values = array.reshape(-1).view(np.uint8)
            for start in range(0, len(values), _BYTES_AT_ONCE):
                piece = values[start : start + _BYTES_AT_ONCE]
                num_bytes += file.readinto(piece)
                is_finite = is_finite and _is_finite(piece, dtype)
        except OSError as error:
            raise BatchFileError(f"{path}: cannot be read: {error.strerror}") from None
        if num_bytes < array.nbytes or file.read(1):
            raise BatchFileError(
                f"{path}: {os.fstat(file.fileno()).st_size} bytes, of which the values "
                f"should be {array.nbytes} (torn?)"
            )
    return array, is_finite


class BatchBuffer:
    """The batch files of one folder. Holds no state: the folder is the state."""

    def __init__(self, folder: Path):
        self.folder = folder

    def images_path(self, position: Position) -> Path:
        """Where a batch's images are, or will be."""
        return self.folder / _file_name("images", position)

    def labels_path(self, position: Position) -> Path:
        """Where a batch's labels are, or will be."""
        return self.folder / _file_name("labels", position)

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
            with atomic_file(path) as file:
                # An open file, because np.save appends .npy to a name without it.
                np.save(file, array, allow_pickle=False)

    def confirm(self, position: Position) -> None:
        """Takes a worker's word that a batch is written.

        This folder's own listing shows it at once, so there is nothing to remember.
        """

    def read(self, position: Position, spec: BatchSpec) -> StoredBatch:
        """Reads and checks a batch.

        Raises:
            FileNotFoundError: The batch is not there (yet).
            BatchFileError: A file is damaged, or of another shape, dtype or range, or
                holds a value that is not finite.
        """
        images_path = self.images_path(position)
        labels_path = self.labels_path(position)
        size = crop_size_at(position.epoch, spec.crop_size, spec.crop_size_schedule)
        shape = spec.batch_size, size, size, 3
        images, is_finite = _load(images_path, shape, spec.dtype)
        labels, _ = _load(labels_path, (spec.batch_size,), spec.labels_dtype)
        shifts = None
        if spec.labels_dtype == LABELS_AND_SHIFTS:
            labels, shifts = labels["label"].copy(), labels["shift"].copy()
        if not (is_finite and (shifts is None or np.isfinite(shifts).all())):
            raise BatchFileError(
                f"{images_path}: has a value that is infinite or not a number (are "
                "channel_mean and channel_std in config.txt right?)"
            )
        if labels.min() < 0 or labels.max() >= spec.num_classes:
            raise BatchFileError(
                f"{labels_path}: labels from {labels.min()} to {labels.max()}, "
                f"expected 0 to {spec.num_classes - 1} (is the dataset the same in "
                "both terminals?)"
            )
        return StoredBatch(images, labels, shifts)

    def files(self) -> dict[Position, set[str]]:
        """The kinds of file, images and labels, that each position has."""
        found: dict[Position, set[str]] = {}
        for path in self.folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match:
                position = Position(int(match[2]), int(match[3]))
                found.setdefault(position, set()).add(match[1])
        return found

    def ready(self) -> set[Position]:
        """Positions of the batches that are there, both files of them."""
        return {p for p, kinds in self.files().items() if len(kinds) == NUM_KINDS}

    def present(self) -> set[Position]:
        """Positions of which any file is there."""
        return set(self.files())

    def delete(self, position: Position) -> None:
        """Removes a batch, or what there is of it."""
        self.images_path(position).unlink(missing_ok=True)
        self.labels_path(position).unlink(missing_ok=True)

    def clear(self) -> int:
        """Removes every batch; returns how many there were."""
        positions = self.present()
        for position in positions:
            self.delete(position)
        return len(positions)
