"""Proves the judgements of datasets, and of channel statistics by a sample."""

import dataclasses

import pytest
from PIL import Image

from resnet50.checks import data
from resnet50.checks.findings import OK, PROBLEM, WARNING
from resnet50.dataset.class_folders import list_class_folders
from resnet50.dataset.images import DatasetError
from resnet50.dataset.listing import open_dataset
from tests.images import make_class_folders, photograph
from tests.settings import SETTINGS


def test_counts(tmp_path):
    make_class_folders(tmp_path, 3, 4)
    (tmp_path / "class_002" / "image_0011.png").unlink()
    dataset = list_class_folders(tmp_path)
    finding = data.check_training_set(dataset, 5)
    assert finding.status == OK
    assert "11 of 3 classes (3 to 4 each), 2 batches of 5 an epoch" in finding.what
    with pytest.raises(DatasetError):
        data.check_training_set(dataset, 12)


def test_files_that_are_no_images_are_named(tmp_path):
    make_class_folders(tmp_path, 2, 1)
    assert list(data.check_skipped(open_dataset(tmp_path, None))) == []
    (tmp_path / "class_000" / "notes.txt").touch()
    (finding,) = data.check_skipped(open_dataset(tmp_path, None))
    assert finding.status == OK
    assert "files that are no images: 1 skipped; the first is" in finding.what


def test_a_class_without_validation_images_is_a_warning(tmp_path):
    make_class_folders(tmp_path, 2, 1)
    names = ("class_000", "class_001")
    assert data.check_validation_set(list_class_folders(tmp_path, names)).status == OK
    more = list_class_folders(tmp_path, (*names, "class_002"))
    finding = data.check_validation_set(more)
    assert finding.status == WARNING
    assert "2 of 2 classes, but the training images have 3" in finding.what


def photographs(folder, number, *, broken=0):
    for index in range(number):
        path = folder / f"class_{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index < broken:
            path.write_bytes(b"no image")
        else:
            Image.fromarray(photograph(40, 30, index)).save(path)
    return list_class_folders(folder)


def judge(dataset, **changes):
    settings = dataclasses.replace(SETTINGS.dataset, **changes)
    return list(data.check_sample(data.read_sample(dataset), settings))


def test_a_sample_is_spread_and_read(tmp_path):
    sample = data.read_sample(photographs(tmp_path, 70))
    assert sample.num_images == 64
    assert sample.num_pixels == 64 * 40 * 30


def test_unreadable_images(tmp_path):
    reading, _ = judge(photographs(tmp_path / "some", 6, broken=1))
    assert reading.status == WARNING
    assert "5 of 6 images could be read" in reading.what
    assert "0.png: is no image" in reading.what
    (reading,) = judge(photographs(tmp_path / "all", 6, broken=6))
    assert reading.status == PROBLEM


def test_statistics_of_other_images_are_a_warning(tmp_path):
    dataset = photographs(tmp_path, 6)
    exact = data.statistics_of(data.read_sample(dataset))
    right = {"channel_mean": exact.mean, "channel_std": exact.std}
    assert judge(dataset, **right)[1].status == OK
    for wrong in (
        {"channel_mean": tuple(255 * value for value in exact.mean)},
        {"channel_mean": tuple(value - 0.2 for value in exact.mean)},
        {"channel_std": tuple(2 * value for value in exact.std)},
        {"channel_std": tuple(value / 255 for value in exact.std)},
    ):
        finding = judge(dataset, **{**right, **wrong})[1]
        assert finding.status == WARNING
        assert "compute_channel_stats.py --write" in finding.remedy
