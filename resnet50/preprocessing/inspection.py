"""Whether a worker on another host makes the same bytes, in the same place.

The settings travel with each batch's order. What must be equal besides is the code, the
libraries that decide the pixels, the buffer folder and the images' paths.
"""

import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import NamedTuple

import numpy as np

import resnet50
from resnet50.handoff.manifest import differences
from resnet50.handoff.shared_folder import SharedBuffer
from resnet50.preprocessing import compiled
from resnet50.preprocessing.decoding import decoder_versions


def _code_digest() -> str:
    """Changes with any module that a worker runs."""
    digest = hashlib.sha256()
    package = Path(resnet50.__file__).parent
    for room in "handoff", "preprocessing":
        for path in sorted((package / room).glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def versions() -> dict[str, str]:
    """Of all that decides the bytes of a batch here, or carries its order here."""
    has_numba = compiled.kernels() is not None
    return {
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "numpy_version": np.__version__,
        **decoder_versions(),
        "numba_version": importlib.metadata.version("numba") if has_numba else "absent",
        "distributed_version": importlib.metadata.version("distributed"),
        "resnet50_code": _code_digest(),
    }


class Inspection(NamedTuple):
    """What a worker has found out about itself."""

    versions: dict[str, str]
    complaint: str  # "" for none
    probe: Path | None  # a file that it has written into the buffer folder


def _can_read_any(image_paths: list[str]) -> bool:
    for path in image_paths:
        try:
            with Path(path).open("rb") as file:
                file.read(1)
            return True
        except OSError:
            continue
    return False


def inspect(buffer: SharedBuffer, image_paths: list[str]) -> Inspection:
    """Looks at versions, images and folder. Runs in a worker.

    Args:
        buffer: Where it would write.
        image_paths: Of which it must be able to read one.
    """
    if not _can_read_any(image_paths):
        complaint = f"cannot read {image_paths[0]} (images need the same path there)"
        return Inspection(versions(), complaint, None)
    try:
        return Inspection(versions(), "", buffer.leave_probe())
    except OSError as error:
        return Inspection(versions(), str(error), None)


def complaint_about(found: Inspection, buffer: SharedBuffer) -> str:
    """Why the worker is of no use, for the preprocessor's user; "" if it is of use."""
    probe_is_here = found.probe is None or buffer.find_probe(found.probe)
    unequal = differences(found.versions, versions())
    if unequal:
        return f"{unequal[0]} (install the same versions on every host)"
    if not probe_is_here:
        return (
            f"what it writes into {buffer.folder} does not appear here (every host "
            "must mount the same folder at this path)"
        )
    return found.complaint
