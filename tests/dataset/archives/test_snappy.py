"""Proves that Snappy streams inflate as with its own library."""

import numpy as np
import pytest

from resnet50.dataset.archives.snappy import inflate_snappy
from tests.dataset.layout_examples import encode, make_images
from tests.images import photograph

LITERAL = bytes([2 << 2]) + b"abc"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", b""),
        (LITERAL, b"abc"),
        (bytes([60 << 2, 99]) + b"x" * 100, b"x" * 100),
        (bytes([61 << 2, 0, 1]) + b"y" * 257, b"y" * 257),
        # Copies with offsets of one, two and four bytes; the first repeats itself.
        (LITERAL + bytes([3 << 2 | 1, 3]), b"abcabcabca"),
        (LITERAL + bytes([1 << 2 | 2, 2, 0]), b"abcbc"),
        (LITERAL + bytes([6 << 2 | 3, 1, 0, 0, 0]), b"abcccccccc"),
    ],
)
def test_elements_by_hand(stream, expected):
    assert inflate_snappy(stream) == expected


@pytest.mark.parametrize(
    "stream",
    [
        bytes([3 << 2 | 1, 3]),  # A copy from before the beginning.
        LITERAL + bytes([1 << 2 | 2, 4, 0]),
        LITERAL + bytes([3 << 2 | 1, 0]),  # A copy from nowhere.
        LITERAL + bytes([3 << 2 | 1]),  # Cut off.
        bytes([61 << 2, 9]),
        bytes([9 << 2]) + b"short",
    ],
)
def test_damaged_streams(stream):
    with pytest.raises(OSError, match="compressed bytes are damaged"):
        inflate_snappy(stream)


def test_streams_of_the_library():
    pyarrow = pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    contents = [
        *make_images().values(),
        encode(photograph(300, 200), "PNG"),
        b"a" * 100_000,
        b"".join(rng.bytes(7) * int(rng.integers(1, 30)) for _ in range(3000)),
    ]
    for content in contents:
        stream = pyarrow.compress(content, codec="snappy", asbytes=True)
        start = next(i for i, byte in enumerate(stream) if byte < 128) + 1
        assert inflate_snappy(stream[start:]) == content
