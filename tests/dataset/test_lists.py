"""Proves which images and labels a list gives; faults name the line and the remedy."""

import numpy as np
import pytest

from resnet50.dataset.lists import read_list
from tests.dataset.folders import list_file, message_of, relative_paths


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
