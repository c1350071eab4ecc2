"""Flips bits in files that are read back: each is noticed, or changes nothing.

A batch's images have no checksum; docs/reliability.md has the reason.
"""

import json
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_dataset
from resnet50.demo.pictures import make_images
from resnet50.handoff.manifest import differences, read_manifest, write_manifest
from resnet50.handoff.progress import (
    FILE_NAME,
    Position,
    ProgressError,
    read_progress,
    write_progress,
)
from resnet50.network.weights_file import (
    PUBLISHED,
    ExchangeError,
    read_weights,
    write_weights,
)
from resnet50.training import checkpoint
from resnet50.training.checkpoint import DamagedCheckpointError
from tests.network.networks import create_resnet
from tests.training.tiny import TinyTraining

DESCRIPTION = {"batch_size": 4, "precision": "float32", "class_names": ["a", "b"]}


def flipped(path: Path, positions: Iterable[int]) -> Iterable[int]:
    """Flips a bit of a file, at each position in turn, and each time mends it."""
    content, rng = path.read_bytes(), random.Random(0)
    for position in positions:
        rotten = bytearray(content)
        rotten[position] ^= 1 << rng.randrange(8)
        path.write_bytes(rotten)
        yield position
    path.write_bytes(content)


def positions_in(path: Path, count: int) -> list[int]:
    """All positions of a small file, some of a large one."""
    size = path.stat().st_size
    return sorted(random.Random(1).sample(range(size), min(size, count)))


def read_or_none(read: Callable, *errors: type[Exception]):
    try:
        return read()
    except errors:
        return None


def fields_of(dataset: Dataset) -> tuple:
    return (
        dataset.fingerprint,
        list(dataset.names),
        dataset.labels.tolist(),
        dataset.class_names,
        dataset.class_words,
        dataset.folder,
        dataset.layout,
        dataset.remarks,
    )


@pytest.fixture
def saved(tmp_path):
    return checkpoint.save(TinyTraining(), tmp_path, Position(1, 0), DESCRIPTION)


def test_checkpoint(saved):
    original = checkpoint.read_description(saved)
    for path in saved.iterdir():
        found = [
            read_or_none(
                lambda: checkpoint.read_description(saved), DamagedCheckpointError
            )
            for _ in flipped(path, positions_in(path, 2000))
        ]
        assert all(description in (None, original) for description in found)
        assert found.count(None) > len(found) / 2
    assert checkpoint.read_description(saved) == original


def test_an_old_checkpoint_without_a_checksum_of_its_state_is_read(saved):
    path = saved / "state.json"
    state = json.loads(path.read_text())
    del state["state_sha256"]
    path.write_text(json.dumps(state))
    assert checkpoint.read_description(saved) == DESCRIPTION


def test_manifest(tmp_path):
    original = {"format_version": 1, "seed": 12, "mean": [0.25, 0.5], "name": "a b"}
    write_manifest(tmp_path, original)
    path = tmp_path / "manifest.json"
    for _ in flipped(path, positions_in(path, 2000)):
        found = read_manifest(tmp_path)
        assert found == original or differences(found, original)


def test_progress_is_at_worst_another_position(tmp_path):
    """The trainer replaces it at each step; the preprocessor refills elsewhere."""
    write_progress(tmp_path, Position(3, 17))
    path = tmp_path / FILE_NAME
    steps = [
        read_or_none(lambda: read_progress(tmp_path, 100, 9000), ProgressError)
        for _ in flipped(path, positions_in(path, 100))
    ]
    assert all(step is None or 0 <= step <= 9000 for step in steps)


def test_index_of_the_images(tmp_path):
    folder = tmp_path / "images"
    make_images(folder, 3, seed=0, with_odd_files=False)
    for path in (folder, *folder.iterdir()):
        os.utime(path, (1e9, 1e9))  # What has just changed is not remembered.
    original = open_dataset(folder, None, index_folder=tmp_path)
    [path] = tmp_path.glob("dataset_index_*.npz")
    for _ in flipped(path, positions_in(path, 500)):
        dataset = open_dataset(folder, None, index_folder=tmp_path)
        assert fields_of(dataset) == fields_of(original)


def test_weights_file(tmp_path):
    model = create_resnet(2, seed=0)
    path = tmp_path / "weights.safetensors"
    origin = PUBLISHED._replace(class_names=("a", "b"))
    write_weights(path, model, origin)
    header = int.from_bytes(path.read_bytes()[:8], "little")
    positions = [*range(8, header, header // 5), *positions_in(path, 2)]
    for _ in flipped(path, positions):
        found = read_or_none(lambda: read_weights(path, model), ExchangeError)
        assert found is None or found.origin == origin
    assert found is None
