"""Proves which images a dataset has, with which labels, and in which order of an epoch.

Both layouts; faults in them name the file, the line and the remedy.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from resnet50.dataset.class_folders import list_class_folders
from resnet50.dataset.images import EPOCH_ORDER, DatasetError, epoch_order
from resnet50.dataset.listing import open_dataset
from resnet50.dataset.lists import read_list
from resnet50.dataset.sources import ImageSource


def touch(folder: Path, *names: str | bytes) -> None:
    for name in names:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def relative_paths(dataset) -> list[str]:
    prefix = f"{dataset.folder}/"
    paths = [str(source) for source in dataset.sources(range(dataset.num_images))]
    assert all(path.startswith(prefix) for path in paths)
    return [path.removeprefix(prefix) for path in paths]


def list_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "list.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def message_of(function, *args) -> str:
    with pytest.raises(DatasetError) as caught:
        function(*args)
    return str(caught.value)


def test_class_folders_give_labels_by_rank_of_name(tmp_path):
    touch(tmp_path, "n02/b.JPEG", "n02/a.JPEG", "n10/c.JPEG", "n01/z.JPEG", "N03/d.png")
    dataset = list_class_folders(tmp_path)
    # Sorted by bytes: upper case before lower.
    assert dataset.class_names == ("N03", "n01", "n02", "n10")
    assert relative_paths(dataset) == [
        "N03/d.png",
        "n01/z.JPEG",
        "n02/a.JPEG",
        "n02/b.JPEG",
        "n10/c.JPEG",
    ]
    assert dataset.labels.tolist() == [0, 1, 2, 2, 3]
    assert dataset.labels.dtype == np.int32
    assert (dataset.num_images, dataset.num_classes) == (5, 4)


def test_hidden_and_loose_files_are_ignored_and_inner_folders_followed(tmp_path):
    touch(tmp_path, "a/1.JPEG", "a/sub/2.JPEG", "b/3.JPEG")
    touch(tmp_path, ".git/x", "readme.txt", "a/.DS_Store", "a/.thumbs/y.JPEG")
    dataset = list_class_folders(tmp_path)
    assert relative_paths(dataset) == ["a/1.JPEG", "a/sub/2.JPEG", "b/3.JPEG"]


def test_sources_of_any_indices(tmp_path):
    touch(tmp_path, *(f"class/{i:02d}.JPEG" for i in range(20)))
    dataset = list_class_folders(tmp_path)
    assert dataset.sources([13, 0, 13]) == [
        ImageSource(f"{tmp_path}/class/13.JPEG"),
        ImageSource(f"{tmp_path}/class/00.JPEG"),
        ImageSource(f"{tmp_path}/class/13.JPEG"),
    ]
    assert dataset.sources(np.array([19])) == [ImageSource(f"{tmp_path}/class/19.JPEG")]


def remarks_on(folder):
    said = []
    dataset = open_dataset(folder, None, notify=said.append)
    assert dataset.remarks == tuple(said)
    return dataset, said


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "inner", "/"])
def test_a_link_that_leads_back_up_is_passed_over_and_named(tmp_path, target):
    folder = tmp_path / "images" / "train"
    touch(folder, "a/1.JPEG", "a/inner/2.JPEG", "b/3.JPEG")
    (folder / "a" / "loop").symlink_to(target)
    dataset, said = remarks_on(folder)
    assert relative_paths(dataset) == ["a/1.JPEG", "a/inner/2.JPEG", "b/3.JPEG"]
    assert said == [
        "folders that links lead to again: 1 passed over; the first is "
        f"{folder / 'a' / 'loop'}"
    ]


def test_a_class_that_is_a_link_back_up_is_no_class(tmp_path):
    touch(tmp_path / "train", "a/1.JPEG", "b/2.JPEG")
    (tmp_path / "train" / "c").symlink_to("..")
    dataset, said = remarks_on(tmp_path / "train")
    assert dataset.class_names == ("a", "b")
    assert said[0].endswith(f"; the first is {tmp_path / 'train' / 'c'}")


def test_links_that_do_not_lead_back_are_followed(tmp_path):
    """To files, to folders elsewhere, and to those of another class."""
    touch(tmp_path / "elsewhere", "x/1.JPEG", "deep/2.JPEG")
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to("..")
    touch(tmp_path / "train", "a/3.JPEG", "b/4.JPEG")
    (tmp_path / "train" / "a" / "other").symlink_to(tmp_path / "train" / "b")
    (tmp_path / "train" / "b" / "3.JPEG").symlink_to("../a/3.JPEG")
    (tmp_path / "train" / "c").symlink_to(tmp_path / "elsewhere" / "x")
    dataset, said = remarks_on(tmp_path / "train")
    names = ["a/3.JPEG", "a/other/3.JPEG", "a/other/4.JPEG", "b/3.JPEG", "b/4.JPEG"]
    assert relative_paths(dataset) == [*names, "c/1.JPEG"]
    assert said == []
    # Reached by a link, a folder that leads up does so to what counts already.
    (tmp_path / "train" / "c").unlink()
    (tmp_path / "train" / "c").symlink_to(tmp_path / "elsewhere" / "deep")
    dataset, said = remarks_on(tmp_path / "train")
    assert relative_paths(dataset) == [*names, "c/2.JPEG"]
    assert len(said) == 1


def test_files_that_nobody_takes_for_images_are_passed_over(tmp_path):
    images = ["a/1.JPEG", "a/2.JPEG_2", "a/3", "a/4.bin", "a/txt", "b/5.jpg", "b/x.PNG"]
    others = ["a/notes.txt", "a/Thumbs.db", "a/deep/label.JSON", "a/pic.svg", "b/t.csv"]
    touch(tmp_path, *images, *others, "b/desktop.ini", "b/._5.jpg", "b/.DS_Store")
    dataset, said = remarks_on(tmp_path)
    assert relative_paths(dataset) == images
    first = tmp_path / "a" / "Thumbs.db"
    assert said == [
        f"files that are no images: 8 passed over; the first is {first} (a table, "
        "labels or settings)"
    ]
    touch(tmp_path, "c/notes.txt", "c/.DS_Store")
    assert message_of(open_dataset, tmp_path, None) == (
        f"{tmp_path / 'c'}: class folder without images (add some, or remove it)"
    )


def test_one_stat_for_each_folder_and_none_for_a_file(tmp_path, monkeypatch):
    touch(tmp_path, *(f"{c}/{i}.JPEG" for c in "abc" for i in range(20)))
    stats, real = [], os.stat
    monkeypatch.setattr(os, "stat", lambda *a, **k: stats.append(a) or real(*a, **k))
    assert list_class_folders(tmp_path).num_images == 60
    assert len(stats) == 4


def test_names_with_spaces_and_any_bytes_can_be_opened(tmp_path):
    names = [b"a b/c  d.JPEG", b"caf\xe9/\xff\xfe.JPEG", "größe/日本.JPEG".encode()]
    touch(tmp_path, *names)
    dataset = list_class_folders(tmp_path)
    assert relative_paths(dataset) == [os.fsdecode(name) for name in names]
    assert all(source.read() == b"" for source in dataset.sources(range(3)))

    listed = b"".join(name + b" %d\n" % i for i, name in enumerate(names))
    dataset = read_list(list_file(tmp_path, listed), tmp_path)
    assert relative_paths(dataset) == [os.fsdecode(name) for name in names]


def test_validation_has_the_training_classes(tmp_path):
    touch(tmp_path / "train", "a/1", "b/1", "c/1")
    touch(tmp_path / "val", "c/7", "a/8")
    names = list_class_folders(tmp_path / "train").class_names
    dataset = list_class_folders(tmp_path / "val", names)
    assert relative_paths(dataset) == ["a/8", "c/7"]
    assert dataset.labels.tolist() == [0, 2]
    assert dataset.num_classes == 3

    touch(tmp_path / "val", "d/9")
    assert message_of(list_class_folders, tmp_path / "val", names) == (
        f"{tmp_path / 'val'}: class d is not among the 3 classes of the training images"
    )


def test_faults_of_class_folders(tmp_path):
    absent = tmp_path / "absent"
    assert message_of(list_class_folders, absent) == (
        f"{absent}: cannot be read: No such file or directory (see [dataset] in "
        "config.txt)"
    )
    (tmp_path / "loose.JPEG").touch()
    assert message_of(list_class_folders, tmp_path) == (
        f"{tmp_path}: holds no class folders (expected one folder of images for each "
        "class; see [dataset] in config.txt)"
    )
    touch(tmp_path, "a/1.JPEG", "b/.hidden")
    assert message_of(list_class_folders, tmp_path) == (
        f"{tmp_path / 'b'}: class folder without images (add some, or remove it)"
    )


def test_list_is_sorted_by_label_and_keeps_the_labels(tmp_path):
    path = list_file(tmp_path, "z.JPEG 1\n\n  sub/a b.JPEG\t0  \r\nz.JPEG2 2\n   \n")
    dataset = read_list(path, tmp_path / "images")
    assert relative_paths(dataset) == ["sub/a b.JPEG", "z.JPEG", "z.JPEG2"]
    assert dataset.labels.tolist() == [0, 1, 2]
    assert dataset.labels.dtype == np.int32
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.folder == tmp_path / "images"


EXPECTED = "(expected 'relative/path label', the label a whole number from 0)"
OUTSIDE = (
    "points outside the images' folder (paths in the list must be relative and inside "
    "it)"
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a 0\nb\n", f", line 2: 'b' {EXPECTED}"),
        ("a 0\n\nb one\n", f", line 3: 'b one' {EXPECTED}"),
        ("a 0\nb -1\n", f", line 2: 'b -1' {EXPECTED}"),
        ("a 0\nb 1.0\n", f", line 2: 'b 1.0' {EXPECTED}"),
        ("a 0\nb ²\n", f", line 2: 'b ²' {EXPECTED}"),
        ("a 0\nb 1000000000\n", f", line 2: 'b 1000000000' {EXPECTED}"),
        ("a,0\n", f", line 1: 'a,0' {EXPECTED}"),
        ("a 0\n/etc/b 1\n", f", line 2: '/etc/b' {OUTSIDE}"),
        ("a 0\nb/../../c 1\n", f", line 2: 'b/../../c' {OUTSIDE}"),
        ("a 0\nb\0c 1\n", f", line 2: 'b\\x00c' {OUTSIDE}"),
        ("", ": lists no images"),
        (" \n\n", ": lists no images"),
        (
            "a 0\nb 3\nc 1\n",
            ": no image has label 2, but the highest is 3 (labels must be 0, 1, 2, "
            "... without a gap)",
        ),
        (
            "a 1\n",
            ": no image has label 0, but the highest is 1 (labels must be 0, 1, 2, "
            "... without a gap)",
        ),
    ],
)
def test_faults_of_a_list_name_the_line(tmp_path, content, expected):
    path = list_file(tmp_path, content)
    assert message_of(read_list, path, tmp_path) == f"{path}{expected}"


def test_missing_list(tmp_path):
    path = tmp_path / "absent.txt"
    assert message_of(read_list, path, tmp_path) == (
        f"{path}: cannot be read: No such file or directory"
    )


def test_validation_list_may_lack_a_class_but_have_no_new_one(tmp_path):
    path = list_file(tmp_path, "a 2\nb 0\n")
    dataset = read_list(path, tmp_path, ("x", "y", "z"))
    assert dataset.labels.tolist() == [0, 2]
    assert relative_paths(dataset) == ["b", "a"]
    assert dataset.class_names == ("x", "y", "z")
    path = list_file(tmp_path, "a 0\n\nb 3\nc 1\n")
    assert message_of(read_list, path, tmp_path, ("x", "y", "z")) == (
        f"{path}, line 3: label 3, but the training images have the labels 0 to 2"
    )


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


def test_fingerprint_is_that_of_runs_which_began_with_older_code(tmp_path):
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


def test_epoch_order_is_of_the_designed_stream():
    expected = np.random.default_rng([7, EPOCH_ORDER, 3]).permutation(50)
    np.testing.assert_array_equal(epoch_order(50, 7, 3), expected)


def test_classes_are_sorted_by_their_bytes(tmp_path):
    """Not by characters: "\uff5e" is below "\U0001f600", but a lone byte is above."""
    names = ["z", "\uff5e", "\U0001f600", os.fsdecode(b"\xff")]
    touch(tmp_path, *(f"{name}/1" for name in reversed(names)))
    assert list_class_folders(tmp_path).class_names == tuple(names)
    assert sorted(names) != names
