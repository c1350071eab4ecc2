"""Proves that the statistics are exact, over all pixels of all images.

They depend neither on the order of the images nor on the number of workers.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet50.dataset.class_folders import list_class_folders
from resnet50.dataset.decoding import decode_rgb
from resnet50.preprocessing import channel_stats
from resnet50.preprocessing.channel_stats import (
    LevelSums,
    statistics_of,
    sum_dataset,
    sum_levels,
)
from resnet50.preprocessing.process_pool import worker_pool
from tests.images import make_image_kinds, photograph


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Images of all modes and of different sizes, in chunks of 4."""
    monkeypatch.setattr(channel_stats, "_CHUNK_SIZE", 4)
    make_image_kinds(tmp_path / "kinds")
    (tmp_path / "photographs").mkdir()
    for index in range(5):
        image = Image.fromarray(photograph(100 - 9 * index, 20 + 30 * index, index))
        image.save(tmp_path / "photographs" / f"{index}.png")
    return list_class_folders(tmp_path)


def assert_same_sums(one: LevelSums, other: LevelSums):
    assert one.num_pixels == other.num_pixels
    np.testing.assert_array_equal(one.sums, other.sums)
    np.testing.assert_array_equal(one.squares, other.squares)


def count(dataset, num_workers):
    advances = []
    with worker_pool(num_workers) as pool:
        result = sum_dataset(dataset, pool, advances.append)
    assert sum(advances) == result.num_images == dataset.num_images
    assert max(advances) == 4
    return result


def test_equals_numpy_over_all_pixels(dataset):
    paths = dataset.sources(range(dataset.num_images))
    pixels = np.concatenate([np.asarray(decode_rgb(p)).reshape(-1, 3) for p in paths])
    found = statistics_of(sum_levels(paths))
    np.testing.assert_allclose(found.mean, (pixels / 255).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.std, (pixels / 255).std(axis=0), rtol=1e-12)


def test_one_worker_or_three_count_the_same_and_list_the_unreadable(dataset):
    paths = dataset.sources(range(dataset.num_images))
    broken = [paths[index] for index in (2, 9, 10)]
    for path in broken:
        Path(str(path)).write_bytes(b"not an image")
    one, three = count(dataset, 1), count(dataset, 3)
    assert_same_sums(one, three)
    assert one.unreadable == three.unreadable
    assert [path for path, _ in one.unreadable] == [*map(str, broken)]
    assert all("no image" in reason for _, reason in one.unreadable)
    readable = [path for path in paths if path not in broken]
    backwards = sum_levels(readable[::-1])
    assert_same_sums(one, backwards)
    assert backwards.unreadable == []


def test_statistics_by_hand():
    """Red half 0 and half 255, green all 51, blue two thirds 0 and one third 255."""
    sums = np.array([3 * 255, 6 * 51, 2 * 255])
    squares = np.array([3 * 255**2, 6 * 51**2, 2 * 255**2])
    found = statistics_of(LevelSums(1, 6, sums, squares, []))
    assert found.mean == (0.5, 0.2, 1 / 3)
    assert found.std[:2] == (0.5, 0.0)
    assert found.std[2] == pytest.approx((2 / 9) ** 0.5, rel=1e-15)


def test_sums_of_imagenets_size_are_exact():
    """2e12 pixels, half a level around 200.5: a float would lose the variance."""
    sums = np.full(3, (200 + 201) * 10**12)
    squares = np.full(3, (200**2 + 201**2) * 10**12)
    found = statistics_of(LevelSums(10**7, 2 * 10**12, sums, squares, []))
    assert found.mean == pytest.approx((200.5 / 255,) * 3, rel=1e-15)
    assert found.std == pytest.approx((0.5 / 255,) * 3, rel=1e-15)
