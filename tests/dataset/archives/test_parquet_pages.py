"""Proves that damaged numbers in Parquet pages are refused, and soon."""

import pytest

from resnet50.dataset.archives.parquet_pages import _Reader


def test_runs_and_groups_by_hand():
    # A run of three fives; then one group of eight numbers of three bits, 0 to 7.
    groups = bytes([3, 0x88, 0xC6, 0xFA])
    data = bytes([3 << 1, 5]) + groups
    assert _Reader(data).hybrid(3, 11) == [5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7]
    assert _Reader(data).hybrid(3, 5) == [5, 5, 5, 0, 1]


def test_many_groups_take_a_time_that_is_proportional():
    """A million numbers of one bit; a shift of all bits for each takes minutes."""
    num_groups = 2**17
    head = num_groups << 1 | 1
    varint = bytes([head & 127 | 128, head >> 7 & 127 | 128, head >> 14])
    found = _Reader(varint + b"\xaa" * num_groups).hybrid(1, 8 * num_groups)
    assert found == [0, 1] * (4 * num_groups)


def test_a_number_that_does_not_end_is_refused():
    with pytest.raises(ValueError, match="too many bytes"):
        _Reader(b"\x80" * 1_000_000 + b"\0").varint()
