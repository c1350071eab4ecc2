"""Proves that a curve in text shows the values, in the room that there is."""

import math

import pytest

from resnet50.reports.live.text_curve import draw_curve


def test_values_become_columns():
    assert draw_curve([3.0, 2.0, 1.0, 1.0], 18, 2, is_ascii=False) == [
        "3.000 ███▁▁▁",
        "1.000 ██████▁▁▁▁▁▁",
    ]


def test_with_ascii_characters_only():
    assert draw_curve([3.0, 2.0, 1.0], 12, 2, is_ascii=True) == [
        "3.000 ##",
        "1.000 ####..",
    ]


def test_more_values_than_columns_are_averaged():
    values = [4.0, 2.0, 1.0, 3.0, 0.0, 0.0]  # The means of two are 3, 2 and 0.
    assert draw_curve(values, 9, 2, is_ascii=True) == ["4.000 :", "0.000 ##."]


def test_equal_values_are_a_flat_line():
    assert draw_curve([2.0, 2.0], 8, 2, is_ascii=True) == ["2.000", "2.000 .."]


@pytest.mark.parametrize(
    ("values", "width"),
    [([], 80), ([1.0], 80), ([1.0, math.nan], 80), ([math.inf, 1.0], 80), ([1, 2], 7)],
)
def test_without_two_values_or_room_there_is_no_curve(values, width):
    assert draw_curve(values, width, 5, is_ascii=False) == []


@pytest.mark.parametrize("width", [8, 20, 79, 200])
@pytest.mark.parametrize("num_values", [2, 3, 90, 1000])
@pytest.mark.parametrize("is_ascii", [False, True])
def test_a_curve_fits(width, num_values, is_ascii):
    values = [math.sin(x) for x in range(num_values)]
    lines = draw_curve(values, width, 6, is_ascii=is_ascii)
    assert len(lines) <= 6
    assert all(len(line) <= width for line in lines)
    assert not is_ascii or "".join(lines).isascii()
