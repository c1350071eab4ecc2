"""Checks whether a worker on another host makes the same bytes.

Each task carries the settings. The hosts must also have the same code, the same
versions of the libraries that affect pixels, and the same images at the same paths;
and the same buffer folder, if the workers write into it.
"""

import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import NamedTuple

import numpy as np

import resnet50
from resnet50.dataset.decoding import (
    UndecodableImageError,
    decoder_versions,
    read_image,
)
from resnet50.dataset.remote.store import StoreAwayError
from resnet50.dataset.sources import ImageSource
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import differences
from resnet50.handoff.shared_folder import SharedBuffer
from resnet50.pixels import resampling


def code_digest(package: Path) -> str:
    """A digest of the names and contents of all modules below a folder."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        for part in (path.relative_to(package).as_posix().encode(), path.read_bytes()):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:12]


@functools.cache
def worker_versions() -> dict[str, str]:
    """Versions of everything that affects a batch's bytes or transports its task."""
    return {
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "numpy_version": np.__version__,
        **decoder_versions(),
        "numba_version": resampling.pixel_loops().NUMBA_VERSION,
        "distributed_version": importlib.metadata.version("distributed"),
        "resnet50_code": code_digest(Path(resnet50.__file__).parent),
    }


class Inspection(NamedTuple):
    """What a worker has found out about itself."""

    versions: dict[str, str]
    complaint: str  # "" for none
    probe: Path | None  # file that the worker has written into a shared buffer folder
    digests: list[str]  # of the images; "" for one that the worker cannot read


def _digest(source: ImageSource) -> str:
    try:
        return hashlib.sha256(read_image(source)).hexdigest()
    except (UndecodableImageError, StoreAwayError):
        return ""


def _cannot_read(source: ImageSource) -> str:
    return f"cannot read {source} (images need the same path there)"


def inspect(buffer: BatchBuffer, images: list[ImageSource]) -> Inspection:
    """Inspects versions, images and a shared folder. Runs in a worker."""
    digests = [_digest(source) for source in images]
    if not any(digests):
        return Inspection(worker_versions(), _cannot_read(images[0]), None, digests)
    try:
        probe = buffer.leave_probe() if isinstance(buffer, SharedBuffer) else None
        return Inspection(worker_versions(), "", probe, digests)
    except OSError as error:
        return Inspection(worker_versions(), str(error), None, digests)


def complaint_about(
    found: Inspection, buffer: BatchBuffer, images: list[ImageSource]
) -> str:
    """Why a worker cannot be used, for the preprocessor's user; "" if it can.

    Takes what ``inspect`` has found with the same buffer and images.
    """
    # In any case, because this deletes the probe.
    probe_is_here = True
    if isinstance(buffer, SharedBuffer) and found.probe:
        probe_is_here = buffer.find_probe(found.probe)
    unequal = differences(found.versions, worker_versions())
    if unequal:
        return f"{unequal[0]} (install the same versions on every host)"
    if not probe_is_here:
        return (
            f"what it writes into {buffer.folder} does not appear here (every host "
            "must mount the same folder at this path)"
        )
    for source, there in zip(images, found.digests):
        here = _digest(source)
        if here and not there:
            return _cannot_read(source)
        if here not in ("", there):
            return (
                f"{source} has other bytes there (every host must have the same images)"
            )
    return found.complaint
