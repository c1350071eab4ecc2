"""Proves which images class folders hold, their labels, and which files are skipped."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet50.dataset import class_folders
from resnet50.dataset.class_folders import FolderWalk, list_class_folders, why_no_image
from resnet50.dataset.decoding import UndecodableImageError, decode_pixels
from resnet50.dataset.listing import open_dataset
from resnet50.dataset.lists import read_list
from tests.dataset.folders import list_file, message_of, relative_paths, touch


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


def remarks_on(folder):
    said = []
    dataset = open_dataset(folder, None, notify=said.append)
    assert dataset.remarks == tuple(said)
    return dataset, said


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "inner", "/"])
def test_a_link_that_leads_back_up_is_skipped_and_named(tmp_path, target):
    folder = tmp_path / "images" / "train"
    touch(folder, "a/1.JPEG", "a/inner/2.JPEG", "b/3.JPEG")
    (folder / "a" / "loop").symlink_to(target)
    dataset, said = remarks_on(folder)
    assert relative_paths(dataset) == ["a/1.JPEG", "a/inner/2.JPEG", "b/3.JPEG"]
    assert said == [
        "folders that links lead to again: 1 skipped; the first is "
        f"{folder / 'a' / 'loop'}"
    ]


def test_a_class_that_is_a_link_back_up_is_no_class(tmp_path):
    touch(tmp_path / "train", "a/1.JPEG", "b/2.JPEG")
    (tmp_path / "train" / "c").symlink_to("..")
    dataset, said = remarks_on(tmp_path / "train")
    assert dataset.class_names == ("a", "b")
    assert said[0].endswith(f"; the first is {tmp_path / 'train' / 'c'}")


def test_links_that_do_not_lead_back_are_followed(tmp_path):
    """Links to files, to folders elsewhere, and to another class's folders."""
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
    # A link up from a folder that is itself reached by a link.
    (tmp_path / "train" / "c").unlink()
    (tmp_path / "train" / "c").symlink_to(tmp_path / "elsewhere" / "deep")
    dataset, said = remarks_on(tmp_path / "train")
    assert relative_paths(dataset) == [*names, "c/2.JPEG"]
    assert len(said) == 1


def test_files_that_are_no_images_are_skipped(tmp_path):
    images = ["a/1.JPEG", "a/2.JPEG_2", "a/3", "a/4.bin", "a/txt", "b/5.jpg", "b/x.PNG"]
    others = ["a/notes.txt", "a/Thumbs.db", "a/deep/label.JSON", "a/pic.svg", "b/t.csv"]
    touch(tmp_path, *images, *others, "b/desktop.ini", "b/._5.jpg", "b/.DS_Store")
    dataset, said = remarks_on(tmp_path)
    assert relative_paths(dataset) == images
    first = tmp_path / "a" / "Thumbs.db"
    assert said == [
        f"files that are no images: 8 skipped; the first is {first} (a table, "
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


def test_classes_are_sorted_by_their_bytes(tmp_path):
    """Not by characters: "\uff5e" is below "\U0001f600", but a lone byte is above."""
    names = ["z", "\uff5e", "\U0001f600", os.fsdecode(b"\xff")]
    touch(tmp_path, *(f"{name}/1" for name in reversed(names)))
    assert list_class_folders(tmp_path).class_names == tuple(names)
    assert sorted(names) != names


def test_whatever_pillow_reads_is_taken():
    endings = Image.registered_extensions()
    assert endings[".jpg"] in Image.OPEN
    readable = {ending for ending, kind in endings.items() if kind in Image.OPEN}
    assert not readable & set(class_folders._KIND_OF)


def test_every_ending_has_a_dot_and_is_lower_case():
    endings = class_folders._KIND_OF
    assert ".txt" in endings
    assert all(e[0] == "." and e == e.lower() and e.count(".") == 1 for e in endings)


def test_reasons_to_skip_a_file():
    assert why_no_image("notes.TXT") == "a text"
    assert why_no_image("a.jpg.txt") == "a text"
    assert why_no_image("._photo.jpg") == "hidden"
    names = "a.jpg a.txt.jpg a txt a. a.JPEG_2 a.bin a.tif a.jpg~"
    assert not any(map(why_no_image, names.split()))


def test_remarks_count_and_name_the_first(tmp_path):
    walk = FolderWalk()
    assert walk.remarks() == ()
    for index in range(1_234):
        walk.skip_file(f"{index}.txt", "a text")
    touch(tmp_path, "1.JPEG")
    (tmp_path / "loop").symlink_to(".")
    assert list(walk.images_below(tmp_path)) == ["1.JPEG"]
    assert walk.remarks() == (
        "files that are no images: 1,234 skipped; the first is 0.txt (a text)",
        f"folders that links lead to again: 1 skipped; the first is {tmp_path}/loop",
    )


def test_folders_may_be_nested_more_deeply_than_python_s_calls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    depth = sys.getrecursionlimit() + 200
    for _ in range(depth):
        os.mkdir("d")  # noqa: PTH102 - the whole path would soon be too long.
        os.chdir("d")
    Path("1.JPEG").touch()
    monkeypatch.chdir(tmp_path)
    try:
        assert list(FolderWalk().images_below(".")) == [depth * "d/" + "1.JPEG"]
    finally:  # pytest cannot delete them.
        subprocess.run(["rm", "-r", "d"], check=True)


def special_files(folder):
    """Makes files named .JPEG that are none; returns how many may be listed."""
    os.mkfifo(folder / "pipe.JPEG")
    (folder / "device.JPEG").symlink_to("/dev/zero")
    (folder / "kernel.JPEG").symlink_to("/proc/self/pagemap")
    (folder / "nowhere.JPEG").symlink_to("nowhere")
    (folder / "circle.JPEG").symlink_to("circle.JPEG")
    (folder / "round.JPEG").symlink_to("trip.JPEG")
    (folder / "trip.JPEG").symlink_to("round.JPEG")
    (folder / "outside.JPEG").symlink_to("/etc/hostname")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")  # Its path must be short.
    Path("socket").rename(folder / "socket.JPEG")
    (folder / "folder.JPEG").mkdir()
    (folder / "up.JPEG").symlink_to("..")
    return 9


def test_special_files_are_unreadable_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "train", "a/1.JPEG", "b/2.JPEG")
    count = special_files(tmp_path / "train" / "a")
    dataset, said = remarks_on(tmp_path / "train")
    assert dataset.num_images == count + 2
    assert len(said) == 1  # about the link back up
    for source in dataset.sources(range(count + 1)):
        with pytest.raises(UndecodableImageError) as caught:
            decode_pixels(source)
        assert str(caught.value).isprintable()


def test_odd_names_are_shown_in_one_line(tmp_path):
    names = ["a\nb.txt", "\x1b[2J.txt", "x" * 240 + ".txt", os.fsdecode(b"\xff.txt")]
    for number, name in enumerate(names):
        touch(tmp_path / str(number), f"a/{name}", "a/1.JPEG", "b/2\n.JPEG")
        dataset, (line,) = remarks_on(tmp_path / str(number))
        assert dataset.num_images == 2
        assert line.isprintable()
    touch(tmp_path / "val", "new\nline/1.JPEG")
    message = message_of(list_class_folders, tmp_path / "val", ("a", "b"))
    assert r"class new\nline is not among the 2 classes" in message
    assert message.isprintable()
