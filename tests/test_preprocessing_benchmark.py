"""Proves that the variants of benchmarks/preprocessing.py do what the table says.

Ours make the same batch. Each of a peer's images must be a crop of the photograph that
Pillow has resized to one of the shorter sides, perhaps mirrored, normalized.
"""

import numpy as np
import pytest
from PIL import Image

from benchmarks.peers import BARE, PEERS, make_bare_decoding
from benchmarks.peers.workload import Workload
from benchmarks.photographs import find_images, make_photographs, photograph
from benchmarks.preprocessing import (
    OURS,
    OURS_NO_WRITE,
    OURS_UINT8,
    PLAIN,
    our_variants,
    peer_variants,
)
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import Position
from resnet50.pixels.augmentation import normalize_crops
from resnet50.pixels.resampling import resized_size
from tests.preprocessing.batch_settings import STATISTICS, make_settings


def test_photographs_go_into_a_new_folder(tmp_path):
    make_photographs(tmp_path / "new" / "photographs", 1)
    assert len(find_images(tmp_path)) == 1


def test_our_variants_make_the_same_batch(tmp_path):
    pytest.importorskip("numba")
    pytest.importorskip("simplejpeg")
    make_photographs(tmp_path, 4)
    workload = Workload([find_images(tmp_path)], make_settings(), tmp_path)
    variants = our_variants(workload)
    expected = variants[OURS_NO_WRITE](0, 0)
    assert len(expected.images) == 4
    buffer, position = BatchBuffer(tmp_path), Position(0, 0)
    written = buffer.images_path(position)
    for name in (OURS, PLAIN):
        variants[name](0, 0)
        np.testing.assert_array_equal(np.load(written), expected.images)
        written.unlink()
    variants[OURS_UINT8](0, 0)
    shifts = np.load(buffer.labels_path(position))["shift"]
    images = normalize_crops(np.load(written), shifts, STATISTICS)
    np.testing.assert_allclose(images, expected.images, atol=1e-5)
    make_bare_decoding(workload)(0, 0)


def test_a_text_chooses_peers(tmp_path, capsys):
    workload = Workload([[]], make_settings(), tmp_path)
    assert list(peer_variants(workload, ["no such program"])) == [BARE]
    assert capsys.readouterr().out == ""


SIZES = [(160, 120), (96, 128), (120, 120), (240, 100)]  # width, height
SETTINGS = make_settings(
    batch_size=12,
    shorter_side_min=64,
    shorter_side_max=160,
    shorter_side_step=96,  # 64, which shrinks, and 160, which enlarges
    crop_size=48,
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    paths = [folder / f"{index:02d}.jpg" for index in range(SETTINGS.batch_size)]
    for index, path in enumerate(paths):
        size = SIZES[index % len(SIZES)]
        image = photograph(*size, np.random.default_rng(index))
        subsampling = "4:2:0" if index % 3 == 0 else "4:4:4"
        Image.fromarray(image).save(path, quality=92, subsampling=subsampling)
    return paths


def as_levels(batch) -> np.ndarray:
    """A peer's batch as float32 [N, H, W, 3], not normalized: 0..255."""
    if hasattr(batch, "as_array"):  # DALI's
        batch = batch.as_array()
    batch = np.asarray(batch)
    assert batch.dtype == np.float32
    if batch.shape[1] == 3:
        batch = batch.transpose(0, 2, 3, 1)
    size = SETTINGS.augmentation.crop_size
    assert batch.shape == (SETTINGS.batch_size, size, size, 3)
    return 255 * (batch * np.float32(STATISTICS.std) + np.float32(STATISTICS.mean))


def find_crop(crop: np.ndarray, image: Image.Image, side: int) -> tuple:
    """The most similar crop of the image resized to a side.

    Returns the mean difference in levels, the side, whether it is mirrored, and where
    it is, from 0 to 1: down and right.
    """
    resized = image.resize(resized_size(*image.size, side), Image.Resampling.BILINEAR)
    # [rows, columns, 3, H, W]
    crops = np.lib.stride_tricks.sliding_window_view(
        np.asarray(resized, np.float32), crop.shape[:2], axis=(0, 1)
    )
    found = []
    for is_flipped in False, True:
        seen = (crop[:, ::-1] if is_flipped else crop).transpose(2, 0, 1)
        # Every eighth pixel finds the place.
        few = crops[..., ::8, ::8] - seen[:, ::8, ::8]
        distances = np.abs(few).mean(axis=(2, 3, 4))
        place = np.unravel_index(distances.argmin(), distances.shape)
        distance = np.abs(crops[place] - seen).mean()
        down, right = place / np.maximum(np.array(distances.shape) - 1, 1)
        found.append((distance, side, is_flipped, down, right))
    return min(found)


@pytest.mark.parametrize("peer", PEERS[1:], ids=lambda peer: peer.name)
def test_a_peer_makes_crops_of_the_resized_photographs(peer, paths, tmp_path):
    workload = Workload([paths], SETTINGS, tmp_path)
    try:
        make_batch = peer.make(workload)
    except ImportError as error:
        pytest.skip(str(error))
    found = []
    for crop, path in zip(as_levels(make_batch(0, 0)), paths):
        with Image.open(path) as image:
            image = image.convert("RGB")
        found.append(min(find_crop(crop, image, side) for side in workload.sides))
    distances, sides, flips, down, right = map(np.array, zip(*found))
    # Aliased crops differ by 3 to 5 levels, and those of other photographs by 30.
    for side in workload.sides:
        assert np.median(distances[sides == side]) < (12 if peer.note else 2.5)
    assert set(flips) == {False, True}
    for places in down, right:
        assert np.ptp(places) > 0.5
