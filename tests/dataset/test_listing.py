"""Proves that the index gives the dataset that a listing gives, never an old one."""

import os
import time

import numpy as np
import pytest

from resnet50.dataset import listing
from resnet50.dataset.listing import open_dataset


@pytest.fixture
def folders(tmp_path):
    """A dataset, last changed an hour ago, and a folder for its index."""
    images, index = tmp_path / "images", tmp_path / "index"
    index.mkdir()
    for name in ("b/2.png", "a/1.png", "a/deep/3.png", os.fsdecode(b"a/caf\xe9.png")):
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    age(images)
    return images, index


def age(images, seconds=3600):
    """Sets the time of modification of each folder back."""
    past = time.time() - seconds
    for folder in (images, *(path for path in images.rglob("*") if path.is_dir())):
        os.utime(folder, (past, past))


def names(dataset):
    return [str(path) for path in dataset.sources(range(dataset.num_images))]


def assert_same(one, other):
    assert names(one) == names(other)
    assert one.class_names == other.class_names
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.labels.dtype == other.labels.dtype


def listing_counted(monkeypatch):
    calls, real = [], listing.find_images

    def counted(*arguments):
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(listing, "find_images", counted)
    return calls


def test_each_opening_reports_what_was_skipped(folders):
    images, index = folders
    (images / "a" / "notes.txt").touch()
    age(images)
    said = []
    for _ in range(2):
        open_dataset(images, None, index_folder=index, notify=said.append)
        (line,) = said
        assert line.endswith(f"the first is {images}/a/notes.txt (a text)")
        said.clear()
    assert len(list(index.iterdir())) == 1


def test_the_second_opening_lists_nothing(folders, monkeypatch):
    images, index = folders
    plain = open_dataset(images, None)
    calls = listing_counted(monkeypatch)
    assert_same(plain, open_dataset(images, None, index_folder=index))
    assert len(calls) == 1
    assert_same(plain, open_dataset(images, None, index_folder=index))
    assert len(calls) == 1


def test_a_clock_that_was_set_back_does_not_cost_a_listing_at_each_start(
    folders, monkeypatch
):
    images, index = folders
    age(images, seconds=-3600)
    calls = listing_counted(monkeypatch)
    for _ in range(2):
        open_dataset(images, None, index_folder=index)
    assert len(calls) == 1


def test_a_folder_changed_just_now_is_not_remembered_for_another_from_the_future(
    folders, monkeypatch
):
    images, index = folders
    age(images, seconds=0)
    os.utime(images / "b", (time.time() + 3600,) * 2)
    calls = listing_counted(monkeypatch)
    for _ in range(2):
        open_dataset(images, None, index_folder=index)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda images: (images / "a/9.png").touch(),
        lambda images: (images / "a/deep/9.png").touch(),
        lambda images: (images / "b/2.png").rename(images / "b/3.png"),
        lambda images: ((images / "c").mkdir(), (images / "c/1.png").touch()),
        lambda images: (images / "a/deep/3.png").unlink(),
    ],
    ids=["added", "added deep", "renamed", "new class", "removed"],
)
def test_a_change_is_seen(folders, change):
    images, index = folders
    before = open_dataset(images, None, index_folder=index)
    change(images)
    after = open_dataset(images, None, index_folder=index)
    assert names(after) != names(before)
    assert_same(after, open_dataset(images, None))


def test_a_recent_change_is_not_remembered(folders, monkeypatch):
    images, index = folders
    age(images, seconds=0)
    calls = listing_counted(monkeypatch)
    for _ in range(2):
        open_dataset(images, None, index_folder=index)
    assert len(calls) == 2
    assert list(index.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x93NUMPY"])
def test_a_damaged_index_costs_a_listing(folders, content):
    images, index = folders
    expected = open_dataset(images, None, index_folder=index)
    (path,) = index.iterdir()
    path.write_bytes(content)
    assert_same(expected, open_dataset(images, None, index_folder=index))
    assert path.read_bytes() != content


def test_a_flipped_byte_is_seen(folders):
    images, index = folders
    expected = open_dataset(images, None, index_folder=index)
    (path,) = index.iterdir()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"a/1.png", b"a/7.png"))
    assert path.read_bytes() != content
    assert_same(expected, open_dataset(images, None, index_folder=index))


def test_training_and_validation_have_an_index_each(folders):
    images, index = folders
    for class_names in ((), ("a", "b", "c")):
        for _ in range(2):
            dataset = open_dataset(images, None, class_names, index_folder=index)
            assert dataset.class_names == (class_names or ("a", "b"))
    assert len(list(index.iterdir())) == 2


def test_a_read_only_index_folder_is_no_obstacle(folders, monkeypatch):
    images, index = folders

    def fail(path, **settings):
        raise OSError("full")

    monkeypatch.setattr(listing, "atomic_file", fail)
    expected = open_dataset(images, None)
    assert_same(expected, open_dataset(images, None, index_folder=index))
    assert_same(expected, open_dataset(images, None, index_folder=index / "absent"))
