"""Proves what identifies a dataset, and the order of its images in each epoch."""

import numpy as np
import pytest

from resnet50.dataset.class_folders import list_class_folders
from resnet50.dataset.images import (
    EPOCH_ORDER,
    Dataset,
    DatasetError,
    PackedNames,
    balanced_order,
    epoch_order,
)
from resnet50.dataset.listing import open_dataset
from resnet50.dataset.lists import read_list
from resnet50.dataset.sources import ImageSource
from tests.dataset.folders import list_file, message_of, relative_paths, touch


def test_sources_of_any_indices(tmp_path):
    touch(tmp_path, *(f"class/{i:02d}.JPEG" for i in range(20)))
    dataset = list_class_folders(tmp_path)
    assert dataset.sources([13, 0, 13]) == [
        ImageSource(f"{tmp_path}/class/13.JPEG"),
        ImageSource(f"{tmp_path}/class/00.JPEG"),
        ImageSource(f"{tmp_path}/class/13.JPEG"),
    ]
    assert dataset.sources(np.array([19])) == [ImageSource(f"{tmp_path}/class/19.JPEG")]


@pytest.mark.parametrize(("num_classes", "expected"), [(2, 2), (8, 8), (20, 16)])
def test_a_sample_has_images_of_all_classes(num_classes, expected, tmp_path):
    """Of at most 16; another host's copy of the images may lack some folders."""
    touch(tmp_path, *(f"{c:02d}/{i}.png" for c in range(num_classes) for i in range(5)))
    images = list_class_folders(tmp_path).sample()
    assert len({image.path.split("/")[-2] for image in images}) == expected


def test_a_digest_of_a_sample_changes_with_the_bytes_of_an_image(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    dataset = list_class_folders(tmp_path)
    path = tmp_path / "b/1.png"
    found = {dataset.sample_digest()}
    for content in b"one", b"two":
        path.write_bytes(content)
        found |= {dataset.sample_digest(), dataset.sample_digest()}
    assert len(found) == 3
    path.unlink()
    assert dataset.sample_digest() in found  # As if it were empty.


def test_open_dataset_chooses_the_layout(tmp_path):
    touch(tmp_path, "a/1", "b/2")
    assert open_dataset(tmp_path, None).class_names == ("a", "b")
    path = list_file(tmp_path, "b/2 0\na/1 1\n")
    assert relative_paths(open_dataset(tmp_path, path)) == ["b/2", "a/1"]
    assert open_dataset(tmp_path, path, ("x", "y")).class_names == ("x", "y")


def test_one_class_is_nothing_to_learn(tmp_path):
    touch(tmp_path, "a/1", "a/2")
    with pytest.raises(DatasetError, match="has one class only"):
        open_dataset(tmp_path, None)
    with pytest.raises(DatasetError, match=r"list\.txt: has one class only"):
        open_dataset(tmp_path, list_file(tmp_path, "a/1 0\na/2 0\n"))


def test_fingerprint_changes_with_any_path_label_or_class_name(tmp_path):
    def fingerprint(content, class_names=()):
        return read_list(
            list_file(tmp_path, content), tmp_path, class_names
        ).fingerprint

    fingerprints = [
        fingerprint("a 0\nb 1\nc 1\n"),
        fingerprint("a 0\nb 1\nd 1\n"),  # another path
        fingerprint("a 0\nb 0\nc 1\n"),  # another label
        fingerprint("a 0\nb 1\n"),  # fewer images
        fingerprint("ab 0\nc 1\nd 1\n"),  # the same bytes, cut otherwise
        fingerprint("a 0\nbc 1\nd 1\n"),
        fingerprint("a 0\nb 1\nc 1\n", ("0", "2")),  # another class name
        fingerprint("a 0\nb 1\nc 1\n", ("0", "1", "2")),  # one class more
    ]
    assert len(set(fingerprints)) == len(fingerprints)
    assert fingerprint("a 0\nb 1\nc 1\n") == fingerprints[0]
    assert fingerprint("c 1\na 0\nb 1\n") == fingerprints[0]  # another order
    assert fingerprint("a 0\r\n\r\nb  1\nc 1") == fingerprints[0]


def test_fingerprint_does_not_depend_on_where_the_folder_is(tmp_path):
    for name in ("one", "other"):
        touch(tmp_path / name, "a/1", "b/2")
    one, other = (list_class_folders(tmp_path / name) for name in ("one", "other"))
    assert one.fingerprint == other.fingerprint
    assert len(one.fingerprint) == 16


def test_fingerprint_is_that_of_older_runs(tmp_path):
    touch(tmp_path, "a/1.png", "a/deep/2.JPEG", "b/3")
    assert open_dataset(tmp_path, None).fingerprint == "e06c76ad1e19d3d6"


def test_last_incomplete_batch_is_dropped(tmp_path):
    touch(tmp_path, *(f"a/{i}" for i in range(10)))
    dataset = list_class_folders(tmp_path)
    sizes = {1: 10, 3: 3, 5: 2, 6: 1, 10: 1}
    assert {size: dataset.batches_per_epoch(size) for size in sizes} == sizes
    assert message_of(dataset.batches_per_epoch, 11) == (
        f"{tmp_path}: 10 images, but --batch_size is 11 (lower it, or add images)"
    )


def test_batches_of_imagenet():
    assert 1_281_167 // 64 == 20_018


def test_epoch_order_is_a_permutation_that_differs_per_epoch_and_seed():
    orders = [epoch_order(50, seed, epoch) for seed in range(4) for epoch in range(4)]
    for order in orders:
        assert order.dtype == np.int64
        assert sorted(order) == list(range(50))
    assert len({tuple(order) for order in orders}) == len(orders)
    np.testing.assert_array_equal(epoch_order(50, 2, 1), orders[9])


def test_epoch_order_comes_from_the_designed_stream():
    expected = np.random.default_rng([7, EPOCH_ORDER, 3]).permutation(50)
    np.testing.assert_array_equal(epoch_order(50, 7, 3), expected)


# Classes of 1, 0, 30, 7, 12 and 3 images.
UNEQUAL = np.repeat(np.arange(6, dtype=np.int32), [1, 0, 30, 7, 12, 3])


def test_a_balanced_order_is_a_function_of_labels_seed_and_epoch():
    orders = [balanced_order(UNEQUAL, s, e) for s in range(3) for e in range(4)]
    for order in orders:
        assert order.dtype == np.int64
        assert order.shape == UNEQUAL.shape
    assert len({tuple(order) for order in orders}) == len(orders)
    np.testing.assert_array_equal(balanced_order(UNEQUAL, 2, 1), orders[9])


@pytest.mark.parametrize(
    "labels", [UNEQUAL, UNEQUAL[1:], np.zeros(3, np.int32), UNEQUAL[::-1].copy()]
)
def test_each_class_and_each_image_of_a_class_is_drawn_equally_often(labels):
    """In each epoch and in all epochs until then, to one."""
    present = np.unique(labels)
    of_images = np.zeros(len(labels), int)
    for epoch in range(40):
        drawn = np.bincount(balanced_order(labels, 7, epoch), minlength=len(labels))
        of_images += drawn
        for counts in drawn, of_images:
            of_classes = [counts[labels == label].sum() for label in present]
            assert np.ptp(of_classes) <= 1
        assert all(np.ptp(of_images[labels == label]) <= 1 for label in present)
    assert of_images.min() > 0


def test_a_balanced_order_mixes_the_classes_and_the_images_of_a_class():
    """Neither the classes nor the images of the largest one are in blocks."""
    labels = np.repeat(np.arange(2, dtype=np.int32), [400, 100])
    order = balanced_order(labels, 0, 0)
    assert 100 < np.count_nonzero(np.diff(labels[order])) < 400
    large = np.sort(order[labels[order] == 0])
    assert len(large) == 250
    assert large[-1] > 350  # A random part of them, not the first ones.


def test_a_balanced_order_of_equal_classes_is_a_permutation():
    labels = np.repeat(np.arange(5, dtype=np.int32), 4)
    for epoch in range(3):
        assert sorted(balanced_order(labels, 1, epoch)) == list(range(20))


def test_unequal_classes_are_reported(tmp_path):
    touch(tmp_path, "a/1", "b/2")
    dataset = list_class_folders(tmp_path)
    assert dataset.imbalance is None
    touch(tmp_path, *(f"a/{i}" for i in range(2, 1300)), "b/3", "b/4")
    dataset = list_class_folders(tmp_path)
    assert dataset.class_counts.tolist() == [1299, 3]
    assert dataset.imbalance == (
        f"{tmp_path}: classes of 3 to 1,299 images; the largest has 433.0 times as "
        "many as the smallest"
    )
    labels, classes = np.zeros(1, np.int32), ("a", "b")  # As some Parquet shards have.
    dataset = Dataset(tmp_path, PackedNames.pack(["a/1"]), labels, classes)
    assert dataset.imbalance == f"{tmp_path}: classes of 0 to 1 images"
