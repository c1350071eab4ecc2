"""Proves that a split is stratified, depends on the seed alone, and is read back."""

import numpy as np
import pytest

from resnet50.dataset.images import DatasetError
from resnet50.dataset.listing import open_dataset
from resnet50.dataset.split import choose_validation, require_divisible, write_list
from tests.images import make_class_folders


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([10, 20, 30], 0.1, [1, 2, 3]),
        ([2, 2, 5], 0.1, [1, 1, 1]),
        ([2, 3, 100], 0.9, [1, 2, 90]),
        ([2, 9], 0.999, [1, 8]),
    ],
)
def test_each_class_keeps_images_on_both_sides(counts, share, expected):
    labels = np.repeat(np.arange(len(counts)), counts)
    chosen = choose_validation(labels, share, 0)
    assert np.bincount(labels[chosen]).tolist() == expected


def test_the_choice_is_that_of_the_seed():
    labels = np.repeat([0, 1], 50)
    first, again, other = (choose_validation(labels, 0.2, s) for s in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()
    # Not the first images of each class, and not the same in both classes.
    assert np.flatnonzero(first)[:10].tolist() != list(range(10))
    assert first[:50].tolist() != first[50:].tolist()


def test_the_choice_in_a_class_does_not_depend_on_the_others():
    few, many = (np.repeat([0, 1], [count, 30]) for count in (10, 40))
    a, b = (choose_validation(labels, 0.2, 0) for labels in (few, many))
    assert a[-30:].tolist() == b[-30:].tolist()


@pytest.mark.parametrize("inner", ["", "b/", "a/x y/"])
def test_lists_are_read_back_with_the_same_classes(tmp_path, inner):
    """Also if the class folders contain folders."""
    for name in ("cat", "dog", "eel"):
        (tmp_path / "images" / name / inner).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "images" / name / inner / f"{name} {number}.png").touch()
    (tmp_path / "images/eel/loose.png").touch()
    dataset = open_dataset(tmp_path / "images", None)
    require_divisible(dataset)
    chosen = choose_validation(dataset.labels, 0.25, 0)
    write_list(tmp_path / "training.txt", dataset, ~chosen)
    write_list(tmp_path / "validation.txt", dataset, chosen)
    training = open_dataset(tmp_path / "images", tmp_path / "training.txt")
    assert training.class_names == ("cat", "dog", "eel")
    validation = open_dataset(
        tmp_path / "images", tmp_path / "validation.txt", training.class_names
    )
    assert (training.num_images, validation.num_images) == (10, 3)
    both = [
        (part.names[i], int(part.labels[i]))
        for part in (training, validation)
        for i in range(part.num_images)
    ]
    whole = [(dataset.names[i], int(dataset.labels[i])) for i in range(13)]
    assert sorted(both) == sorted(whole)


def test_what_cannot_be_divided_is_refused_in_one_line(tmp_path):
    def refused(folder, expected):
        with pytest.raises(DatasetError, match=expected) as caught:
            require_divisible(open_dataset(folder, None))
        assert "\n" not in str(caught.value)

    make_class_folders(tmp_path / "single", 2, 2)
    for name in ("cat", "dog"):
        (tmp_path / "single" / name).mkdir()
        (tmp_path / "single" / name / "1.png").touch()
    refused(tmp_path / "single", "classes with only one image: cat, dog .each class")

    make_class_folders(tmp_path / "parts/train", 2, 2)
    make_class_folders(tmp_path / "parts/valid", 2, 2)
    refused(tmp_path / "parts", "parts: train is no class .call the two folders")

    make_class_folders(tmp_path / "odd", 2, 2)
    (tmp_path / "odd/class_000/two\nlines.png").touch()
    refused(tmp_path / "odd", r"'class_000/two\\nlines.png' cannot stand in a list")
