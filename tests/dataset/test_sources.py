"""Proves what a place says about its image: the bytes, or why they cannot be read."""

import errno
import os
import pickle

import numpy as np
import pytest

from resnet50.dataset.sources import (
    ImageFile,
    Places,
    ShardImage,
    SnappyRange,
    TarMember,
)


def test_places_become_sources_of_their_kind():
    table = np.array([[1, 512, 7], [0, 1024, 9]])
    tars = Places(("a.tar", "b.tar"), table)
    assert tars.source(0, "c/x.png") == TarMember("b.tar", "c/x.png", 512, 7)
    snappy = np.array([[30, 2, 5], [0, 0, 0]])
    shards = Places(("a.parquet", "b.parquet"), np.hstack([table, snappy]))
    first, second = shards.source(0, "x"), shards.take([1, 0]).source(0, "y")
    assert first == ShardImage("b.parquet", "x", 512, 7, SnappyRange(30, 2, 5))
    assert second == ShardImage("a.parquet", "y", 1024, 9, None)
    assert [str(s) for s in (first, second)] == ["b.parquet/x", "a.parquet/y"]


@pytest.mark.parametrize(
    "source",
    [
        ImageFile("a/b.png"),
        TarMember("a.tar", "b.png", 512, 7),
        ShardImage("a.parquet", "b.png", 4, 7, SnappyRange(30, 2, 5)),
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


def test_what_cannot_be_read_has_a_reason(tmp_path):
    path = tmp_path / "image"
    assert error_of(ImageFile(str(path)))[0] == errno.ENOENT
    assert error_of(ImageFile(str(tmp_path))) == (
        errno.EINVAL,
        "is not a regular file",
    )
    os.mkfifo(path)
    assert error_of(ImageFile(str(path)))[1] == "is not a regular file"
    path.unlink()
    path.touch()
    os.truncate(path, 2**30 + 1)
    too_large = (errno.EFBIG, "has 1,073,741,825 bytes, more than a GiB")
    assert error_of(ImageFile(str(path))) == too_large
    assert error_of(TarMember(str(path), "x", 0, 2**30 + 1)) == too_large
    assert error_of(TarMember(str(path), "x", 2**30, 2))[0] == errno.ENODATA
    assert TarMember(str(path), "x", 2**30, 1).read() == b"\0"
