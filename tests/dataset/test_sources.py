"""Proves what a source says about its image: the bytes, or why they cannot be read."""

import errno
import os
import pickle

import numpy as np
import pytest

from resnet50.dataset.sources import ImageSource, Locations, SnappyRange


def test_locations_become_sources():
    table = np.array([[1, 512, 7], [0, 1024, 9]])
    tars = Locations(("a.tar", "b.tar"), table)
    assert tars.source(0, "c/x.png") == ImageSource("b.tar", "c/x.png", 512, 7)
    snappy = np.array([[30, 2, 5], [0, 0, 0]])
    shards = Locations(("a.parquet", "b.parquet"), np.hstack([table, snappy]))
    first, second = shards.source(0, "x"), shards.source(1, "y")
    assert first == ImageSource("b.parquet", "x", 512, 7, SnappyRange(30, 2, 5))
    assert second == ImageSource("a.parquet", "y", 1024, 9)
    names = [str(source) for source in (ImageSource("a/b.png"), first, second)]
    assert names == ["a/b.png", "b.parquet/x", "a.parquet/y"]


@pytest.mark.parametrize(
    "source",
    [
        ImageSource("a/b.png"),
        ImageSource("a.tar", "b.png", 512, 7),
        ImageSource("a.parquet", "b.png", 4, 7, SnappyRange(30, 2, 5)),
    ],
)
def test_a_source_is_a_value_that_can_be_sent(source):
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert hash(copy) == hash(source)


def error_of(source):
    with pytest.raises(OSError) as caught:
        source.read()
    return caught.value.errno, caught.value.strerror


def test_an_unreadable_image_has_a_reason(tmp_path):
    path = tmp_path / "image"
    assert error_of(ImageSource(str(path)))[0] == errno.ENOENT
    assert error_of(ImageSource(str(tmp_path))) == (
        errno.EISDIR,
        "Is a directory",
    )
    os.mkfifo(path)
    assert error_of(ImageSource(str(path)))[1] == "is not a regular file"
    path.unlink()
    path.touch()
    os.truncate(path, 2**30 + 1)
    too_large = (errno.EFBIG, "has 1,073,741,825 bytes, more than 1,073,741,824")
    assert error_of(ImageSource(str(path))) == too_large
    assert error_of(ImageSource(str(path), "x", 0, 2**30 + 1)) == too_large
    assert error_of(ImageSource(str(path), "x", 2**30, 2))[0] == errno.ENODATA
    assert ImageSource(str(path), "x", 2**30, 1).read() == b"\0"
