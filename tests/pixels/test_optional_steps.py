"""Proves that the optional steps are torchvision's, and that their draws are designed.

torchvision_steps.py has made the vectors.
"""

import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from resnet50.pixels import pillow_numpy, resampling
from resnet50.pixels.augmentation import (
    AugmentationParams,
    crop_footprint,
    sample_params,
)
from resnet50.pixels.optional_steps import OptionalParams, sample_optional
from resnet50.pixels.random_boxes import BoxDraw, area_box, erased_box
from resnet50.pixels.trivial_augment import (
    OPERATIONS,
    SIGNED,
    Operation,
    apply_operation,
)
from tests.images import photograph
from tests.pixels.torchvision_steps import (
    AREAS,
    CROP_SIZE,
    RATIOS,
    RESIZED,
    VECTORS,
    box_draws,
)
from tests.pixels.whole_images import augment_whole, resize_and_crop
from tests.preprocessing.batch_settings import AUGMENTATION, STATISTICS

ALL = dataclasses.replace(
    AUGMENTATION,
    crop_method="random_area",
    crop_area=AREAS,
    crop_ratio=RATIOS,
    trivial_augment=True,
    erasing_probability=0.4,
)
BOTH_LOOPS = (resampling.pixel_loops(), pillow_numpy)


def params_with(**choices):
    optional = OptionalParams(**choices)
    return AugmentationParams(40, (0.0, 0.0), False, (0.0, 0.0, 0.0), optional)


@pytest.fixture(scope="module")
def vectors():
    with np.load(VECTORS) as arrays:
        return dict(arrays)


def test_operations_are_those_of_torchvision(vectors):
    cases = [name for name in vectors if name.split()[0] in OPERATIONS]
    assert {name.split()[0] for name in cases} == set(OPERATIONS)
    for case in cases:
        name, level = case.split()
        crop = photograph(CROP_SIZE, CROP_SIZE)
        apply_operation(crop, Operation(name, int(level)))
        difference = np.abs(crop.astype(int) - vectors[case])
        is_blend = name in ("Brightness", "Color", "Contrast", "Sharpness")
        assert difference.max() <= is_blend, case
        assert (difference > 0).mean() < 0.1, case


@pytest.mark.parametrize("name", ["Brightness", "Color", "Contrast", "Sharpness"])
def test_blends_are_those_of_pillow_at_each_level(name):
    image = Image.fromarray(photograph(50, 41))
    for level in range(-30, 31):
        crop = np.array(image)
        apply_operation(crop, Operation(name, level))
        enhanced = getattr(ImageEnhance, name)(image).enhance(1 + 0.033 * level)
        assert np.abs(crop.astype(int) - enhanced).max() <= 1, level
        if level == 0:
            np.testing.assert_array_equal(crop, image)


def test_boxes_of_crops_are_those_of_torchvision(vectors):
    cases, _ = box_draws()
    boxes = [area_box(size, draw) for size, draw in cases]
    np.testing.assert_array_equal(boxes, vectors["crop boxes"])
    # Some have fallen back to the centre.
    assert len({box for box, (size, _) in zip(boxes, cases) if size == (600, 10)}) == 1


@pytest.mark.parametrize("loops", BOTH_LOOPS)
def test_crops_of_random_areas_are_those_of_torchvision(vectors, loops, monkeypatch):
    monkeypatch.setattr(resampling, "pixel_loops", lambda: loops)
    for (size, draw), expected in zip(box_draws()[0], vectors["crops"], strict=True):
        image = photograph(*size)
        crop = resize_and_crop(image, params_with(area_crop=draw), RESIZED)
        # Rounded twice, once along each axis, and torchvision in another order.
        assert np.abs(crop.astype(int) - expected).max() <= 1, size


def test_erased_boxes_are_those_of_torchvision(vectors):
    boxes = [erased_box(CROP_SIZE, draw) or (0, 0, 0, 0) for draw in box_draws()[1]]
    np.testing.assert_array_equal(boxes, vectors["erased boxes"])
    assert (0, 0, 0, 0) in boxes


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_an_erased_box_is_zero_or_the_mean(dtype):
    draw = BoxDraw([0.25] * 10, [1.0] * 10, (1.0, 1.0), (0.0, 0.5))
    plain, erased = np.empty((2, 32, 32, 3), dtype)
    image = photograph(50, 41)
    augment_whole(image, params_with(), STATISTICS, plain)
    augment_whole(image, params_with(erasing=draw), STATISTICS, erased)
    box = (slice(0, 16), slice(8, 24))
    expected = [115, 128, 102] if dtype == "uint8" else [0, 0, 0]
    assert (erased[box] == expected).all()
    plain[box] = erased[box]
    np.testing.assert_array_equal(erased, plain)


def test_an_operation_changes_the_flipped_crop_before_its_colours():
    image, operation = photograph(50, 41), Operation("ShearX", 30)
    flipped = params_with()._replace(is_flipped=True)
    crop = resize_and_crop(image, flipped, 32)
    apply_operation(crop, operation)
    both = params_with(operation=operation)._replace(is_flipped=True)
    out = np.empty((32, 32, 3), np.uint8)
    shift = augment_whole(image, both, STATISTICS, out)
    np.testing.assert_array_equal(out, crop)
    assert shift.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("width", "height"), [(41, 50), (42, 47), (33, 32)])
def test_a_centred_crop_is_that_of_an_evaluation(width, height):
    settings = dataclasses.replace(
        AUGMENTATION, crop_method="center", shorter_side_max=36
    )
    params = sample_params(np.random.default_rng(0), settings)
    image = Image.fromarray(photograph(width, height))
    out = resize_and_crop(image, params._replace(is_flipped=False), 32)
    (view,) = resampling.views(image, shorter_side=36, crop_size=32, num_crops=1)
    np.testing.assert_array_equal(out, view)


def test_only_the_box_needs_to_be_decoded():
    draw = box_draws()[0][0][1]
    footprint = crop_footprint((90, 60), params_with(area_crop=draw), RESIZED)
    left, top, width, height = area_box((90, 60), draw)
    assert footprint.region == (left, top, left + width, top + height)


def test_choices_are_a_function_of_the_address():
    params = sample_optional(3, (5, 7), 20, ALL)
    assert params == sample_optional(3, (5, 7), 20, ALL)
    for other in (
        sample_optional(4, (5, 7), 20, ALL),
        sample_optional(3, (5, 8), 20, ALL),
    ):
        assert all(a.area_crop != b.area_crop for a, b in zip(params, other))
        assert [p.operation for p in params] != [p.operation for p in other]


@pytest.mark.parametrize("left_out", ["area_crop", "operation", "erasing"])
def test_no_step_changes_another_step_s_choices(left_out):
    shipped = {"area_crop": "crop_method", "operation": "trivial_augment"}
    key = shipped.get(left_out, "erasing_probability")
    fewer = dataclasses.replace(ALL, **{key: getattr(AUGMENTATION, key)})
    expected = [
        p._replace(**{left_out: None}) for p in sample_optional(3, (0, 0), 9, ALL)
    ]
    assert sample_optional(3, (0, 0), 9, fewer) == expected
    assert sample_optional(3, (0, 0), 9, AUGMENTATION) == [OptionalParams()] * 9


@pytest.mark.parametrize("loops", BOTH_LOOPS)
def test_all_steps_have_the_same_bytes_everywhere(loops, monkeypatch):
    """With numba and without, on every processor."""
    monkeypatch.setattr(resampling, "pixel_loops", lambda: loops)
    y, x, channel = np.indices((90, 120, 3))
    image = ((x * y // 8 + 40 * channel + 3 * x) % 256).astype(np.uint8)
    crops = np.empty((200, 32, 32, 3), np.uint8)
    for choices, crop in zip(sample_optional(2, (0, 0), len(crops), ALL), crops):
        params = params_with()._replace(optional=choices)
        augment_whole(image, params, STATISTICS, crop)
    assert hashlib.sha256(crops).hexdigest()[:16] == "44dca2a56c0bb916"


def test_frequencies_and_ranges():
    """2,800 draws; the seed is fixed."""
    params = sample_optional(1, (0, 0), 2800, ALL)
    names = [p.operation.name for p in params]
    assert all(150 < names.count(name) < 250 for name in OPERATIONS)
    levels = [p.operation.level for p in params if p.operation.name in SIGNED]
    assert set(levels) == set(range(-30, 31))
    assert np.mean([level < 0 for level in levels]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([p.erasing is not None for p in params]) == pytest.approx(
        0.4, abs=0.03
    )
    areas, logarithms = (
        np.ravel(values)
        for values in (
            [p.area_crop.areas for p in params],
            np.log([p.area_crop.ratios for p in params]),
        )
    )
    for values, (low, high) in ((areas, AREAS), (logarithms, np.log(RATIOS))):
        assert low <= values.min() < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.01)
        assert values.std() == pytest.approx((high - low) / 12**0.5, rel=0.02)


def test_ratios_are_powers():
    draw = box_draws()[0][0][1]
    uniform = np.random.default_rng(5).random((40, 22))[0]
    expected = RATIOS[0] * (RATIOS[1] / RATIOS[0]) ** uniform[10:20]
    assert draw.ratios == pytest.approx(expected, rel=1e-7)
    assert draw.fractions == tuple(uniform[20:])
