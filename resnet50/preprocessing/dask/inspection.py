"""Whether a worker on another host makes the same bytes, in the same place.

The settings travel with each batch's order. What must be equal besides is the code, the
libraries that decide the pixels, the buffer folder, and the images at their places.
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
from resnet50.dataset.sources import ImageSource
from resnet50.handoff.manifest import differences
from resnet50.handoff.shared_folder import SharedBuffer
from resnet50.pixels import backend


def code_digest(package: Path) -> str:
    """Changes with the name or content of any module below a folder."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        for part in (path.relative_to(package).as_posix().encode(), path.read_bytes()):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:12]


@functools.cache
def worker_versions() -> dict[str, str]:
    """Of all that decides the bytes of a batch here, or carries its order here."""
    return {
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "numpy_version": np.__version__,
        **decoder_versions(),
        "numba_version": backend.get().NUMBA_VERSION,
        "distributed_version": importlib.metadata.version("distributed"),
        "resnet50_code": code_digest(Path(resnet50.__file__).parent),
    }


class Inspection(NamedTuple):
    """What a worker has found out about itself."""

    versions: dict[str, str]
    complaint: str  # "" for none
    probe: Path | None  # a file that it has written into the buffer folder
    digests: list[str]  # of the images; "" for one that it cannot read


def _digest(source: ImageSource) -> str:
    try:
        return hashlib.sha256(read_image(source)).hexdigest()
    except UndecodableImageError:
        return ""


def inspect(buffer: SharedBuffer, images: list[ImageSource]) -> Inspection:
    """Looks at versions, images and folder. Runs in a worker.

    Args:
        buffer: Where it would write.
        images: It must be able to read one of these.
    """
    digests = [_digest(source) for source in images]
    if not any(digests):
        complaint = f"cannot read {images[0]} (images need the same path there)"
        return Inspection(worker_versions(), complaint, None, digests)
    try:
        return Inspection(worker_versions(), "", buffer.leave_probe(), digests)
    except OSError as error:
        return Inspection(worker_versions(), str(error), None, digests)


def _differing_image(found: Inspection, images: list[ImageSource]) -> str:
    """The name of an image that is another one there; "" if there is none."""
    for source, there in zip(images, found.digests):
        here = _digest(source)
        if here and there and here != there:
            return str(source)
    return ""


def complaint_about(
    found: Inspection, buffer: SharedBuffer, images: list[ImageSource]
) -> str:
    """Why a worker is of no use, for the preprocessor's user; "" if it is of use.

    Args:
        found: By the worker.
        buffer: Where it would write.
        images: Those that it has read.
    """
    probe_is_here = found.probe is None or buffer.find_probe(found.probe)
    unequal = differences(found.versions, worker_versions())
    if unequal:
        return f"{unequal[0]} (install the same versions on every host)"
    if not probe_is_here:
        return (
            f"what it writes into {buffer.folder} does not appear here (every host "
            "must mount the same folder at this path)"
        )
    differing = _differing_image(found, images)
    if differing:
        return (
            f"{differing} has other bytes there (every host must have the same images)"
        )
    return found.complaint
