"""Weights files: safetensors with metadata about the network.

``torchvision_names`` describes the tensors. The metadata's entries are the fields of
Origin, as JSON, and "sha256", a checksum of these and the tensors. A file without them
is assumed to be a published one; see PUBLISHED.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from resnet50.atomic_io import atomic_file
from resnet50.errors import UserError
from resnet50.input_file import require_regular
from resnet50.installation import install_command
from resnet50.network.model import ResNet50
from resnet50.network.torchvision_names import (
    expected_shapes,
    is_counter,
    to_state_dict,
)

try:
    import safetensors
    import safetensors.numpy
except ImportError:
    safetensors = None  # type: ignore[assignment]  # is not installed

_DTYPES = ("F32", "F16", "BF16", "F64")  # safetensors' names of the accepted types


class ExchangeError(UserError):
    """A weights file cannot be read or written, or is of another network."""


class Origin(NamedTuple):
    """What a network's outputs depend on besides its weights."""

    variant: str  # one of model.VARIANTS
    epsilon: float  # added to variances in the normalizations
    channel_mean: tuple[float, ...]  # of the training images; three in 0..1
    channel_std: tuple[float, ...]  # the same
    class_names: tuple[str, ...] = ()  # one for each class; empty if unknown


# torchvision's ResNet50_Weights, and most of timm's resnet50 weights.
PUBLISHED = Origin("v1.5", 1e-5, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _require_safetensors() -> None:
    if safetensors is None:
        raise ExchangeError(
            "weights: the package safetensors is not installed "
            f"({install_command('exchange')})"
        )


def _checksum(entries: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of Origin's entries and all tensors with their names and dtypes."""
    digest = hashlib.sha256()
    for key in Origin._fields:
        digest.update(f"{key} {entries.get(key)}\n".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype}\n".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def write_weights(path: Path, model: ResNet50, origin: Origin) -> None:
    """Writes a safetensors file, whole or not at all, with origin as its metadata.

    Raises:
        ExchangeError: The file exists or cannot be written, or safetensors is missing.
    """
    _require_safetensors()
    if path.exists():
        raise ExchangeError(f"{path}: exists (move it away, or give another name)")
    entries = {key: json.dumps(value) for key, value in origin._asdict().items()}
    tensors = to_state_dict(model)
    # Hugging Face's readers need the format.
    metadata = {"format": "pt", **entries, "sha256": _checksum(entries, tensors)}
    content = safetensors.numpy.save(tensors, metadata=metadata)
    try:
        with atomic_file(path) as file:
            file.write(content)
    except OSError as error:
        raise ExchangeError(f"{path}: cannot be written: {error.strerror}") from None


class WeightsFile(NamedTuple):
    """The contents of a weights file."""

    path: Path
    tensors: dict[str, np.ndarray]  # float32, torchvision's layouts, without counters
    origin: Origin  # PUBLISHED without metadata
    is_published: bool  # whether there is no metadata

    @property
    def num_classes(self) -> int:
        """The number of classes of the head."""
        return len(self.tensors["fc.bias"])


def read_weights(path: Path, model: ResNet50) -> WeightsFile:
    """Reads a safetensors file of a ResNet-50 with any number of classes.

    The tensors must have the model's shapes, except for the head. float16, bfloat16 and
    float64 become float32.

    Raises:
        ExchangeError: The file cannot be read, is damaged, or is not of a ResNet-50;
            lists the tensors that are missing, unknown or of another shape.
    """
    _require_safetensors()
    try:
        require_regular(path.stat())
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            _verify(path, file, metadata)
            tensors = _read_tensors(path, file, model)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExchangeError(f"{path}: cannot be read: {reason}") from None
    except safetensors.SafetensorError as error:
        raise ExchangeError(
            f"{path}: is damaged or no safetensors file: {error} (a .pth file becomes "
            "one by safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
            "NEW_FILE))"
        ) from None
    return WeightsFile(path, tensors, *_read_origin(path, metadata))


def _verify(path: Path, file, metadata: dict[str, str]) -> None:
    """Compares the checksum, if the file has one."""
    if "sha256" not in metadata:
        return
    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata["sha256"] != _checksum(metadata, tensors):
        raise ExchangeError(
            f"{path}: does not have the checksum in its metadata (copy it again; a "
            "program that changes the tensors must remove the entry sha256)"
        )


def _read_tensors(path: Path, file, model: ResNet50) -> dict[str, np.ndarray]:
    """All tensors except the counters, checked, as float32."""
    views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    shapes = {name: tuple(view.get_shape()) for name, view in views.items()}
    _require_shapes(path, model, shapes)
    names = [name for name in views if not is_counter(name)]
    dtypes = {name: views[name].get_dtype() for name in names}
    odd = [f"{name} is {d}" for name, d in dtypes.items() if d not in _DTYPES]
    if odd:
        _refuse(path, f"must be one of {', '.join(_DTYPES)}", odd)
    tensors = {name: file.get_tensor(name).astype(np.float32) for name in names}
    lost = [name for name in names if not np.isfinite(tensors[name]).all()]
    if lost:
        _refuse(path, "have values that are infinite or not a number", lost)
    negative = [n for n in names if n.endswith("running_var") and tensors[n].min() < 0]
    if negative:
        _refuse(path, "have negative values", negative)
    return tensors


def _refuse(path: Path, what: str, names: list[str]) -> NoReturn:
    listed = ", ".join(sorted(names))
    raise ExchangeError(f"{path}: {len(names)} of its tensors {what}: {listed}")


def _require_shapes(
    path: Path, model: ResNet50, shapes: dict[str, tuple[int, ...]]
) -> None:
    """Raises unless all shapes are a ResNet-50's; counters may be absent."""
    expected = expected_shapes(model, (*shapes.get("fc.bias", ()), 0)[0])
    required = {name for name in expected if not is_counter(name)}
    faults = {
        "missing": sorted(required - shapes.keys()),
        "unknown": sorted(shapes.keys() - expected.keys()),
        "of another shape": [
            f"{name} {list(shape)} instead of {list(expected[name])}"
            for name, shape in sorted(shapes.items())
            if name in expected and shape != expected[name]
        ],
    }
    if any(faults.values()):
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in faults.items())
        lists = [f"{kind}: {', '.join(n)}" for kind, n in faults.items() if n]
        line = f"{path}: its tensors are not those of a ResNet-50: {counts}"
        raise ExchangeError(line, *lists)


def _read_origin(path: Path, metadata: dict[str, str]) -> tuple[Origin, bool]:
    if "variant" not in metadata:
        return PUBLISHED, True
    try:
        entries = {key: json.loads(metadata[key]) for key in Origin._fields}
        return Origin(
            str(entries["variant"]),
            float(entries["epsilon"]),
            tuple(float(x) for x in entries["channel_mean"]),
            tuple(float(x) for x in entries["channel_std"]),
            tuple(str(name) for name in entries["class_names"]),
        ), False
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ExchangeError(f"{path}: its metadata is damaged: {error!r}") from None


def require_same_network(weights: WeightsFile, variant: str, epsilon: float) -> None:
    """Raises ExchangeError if a file's network has another variant or epsilon."""
    for key, value in (("variant", variant), ("epsilon", epsilon)):
        theirs = getattr(weights.origin, key)
        if theirs != value:
            reason = " (what published ones have)" if weights.is_published else ""
            raise ExchangeError(
                f"{weights.path}: was trained with {key} = {theirs}{reason}, "
                f"config.txt has {value} (change [model] {key} there)"
            )
