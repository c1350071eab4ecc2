"""Proves that the fused six steps are the six steps.

A slow reference does one step after the other on the whole image. The random choices
have the designed ranges and frequencies.
"""

import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image

from resnet50.config.toml_file import read_config
from resnet50.dataset.decoding import decode_rgb
from resnet50.dataset.sources import ImageSource
from resnet50.pixels import pillow_numpy, resampling
from resnet50.pixels.augmentation import (
    AugmentationParams,
    ChannelStatistics,
    colour_shift,
    crop_corner,
    normalization_table,
    principal_axes,
    sample_params,
)
from resnet50.pixels.resampling import resized_size
from tests.config.test_settings import SHIPPED
from tests.images import make_image_kinds, photograph
from tests.pixels.whole_images import augment_whole, resize_and_crop
from tests.preprocessing.batch_settings import AUGMENTATION, STATISTICS


@pytest.fixture(autouse=True, params=["numba", "Pillow and numpy"])
def implementation(request, monkeypatch):
    """Runs every test with each of the two implementations."""
    if request.param == "Pillow and numpy":
        monkeypatch.setattr(resampling, "pixel_loops", lambda: pillow_numpy)
    elif resampling.pixel_loops() is pillow_numpy:
        pytest.skip("numba is absent or switched off")


CROP_SIZE = AUGMENTATION.crop_size
SIZES = [(50, 41), (41, 50), (64, 64), (200, 37), (20, 31), (1, 1), (1, 700), (700, 1)]


def reference_crop(
    image: Image.Image, params: AugmentationParams, crop_size: int
) -> np.ndarray:
    """Steps 2 and 3, one after the other: resizes the whole image, then crops.

    First along x, then along y, as Pillow did in one call before version 13, which may
    reverse the order and so round differently.
    """
    shorter, longer = sorted(image.size)
    longer = longer * params.shorter_side // shorter
    size = (params.shorter_side, longer)
    if image.width > image.height:
        size = size[::-1]
    wide = image.resize((size[0], image.height), Image.Resampling.BILINEAR)
    resized = np.asarray(wide.resize(size, Image.Resampling.BILINEAR))
    down, right = params.crop_fractions
    top = int(down * (size[1] - crop_size + 1))
    left = int(right * (size[0] - crop_size + 1))
    return resized[top : top + crop_size, left : left + crop_size]


def reference_finish(
    crop: np.ndarray, params: AugmentationParams, statistics
) -> np.ndarray:
    """Steps 4, 5 and 6 in float64, with numpy's own population covariance."""
    image = (crop / 255 - statistics.mean) / statistics.std
    if params.is_flipped:
        image = np.fliplr(image)
    covariance = np.cov(image.reshape(-1, 3), rowvar=False, bias=True)
    eigenvalues, axes = np.linalg.eigh(covariance)
    for eigenvalue, axis, weight in zip(eigenvalues, axes.T, params.colour_weights):
        if axis[np.abs(axis).argmax()] < 0:
            axis = -axis
        image = image + weight * eigenvalue * axis
    return image


def run_augment(image, params, statistics=STATISTICS, dtype="float32") -> np.ndarray:
    out = np.full((CROP_SIZE, CROP_SIZE, 3), np.nan, dtype)
    augment_whole(image, params, statistics, out)
    return out


def draw_many(number, seed=0, settings=AUGMENTATION) -> list[AugmentationParams]:
    rng = np.random.default_rng(seed)
    return [sample_params(rng, settings) for _ in range(number)]


def assert_agrees(image: Image.Image, params: AugmentationParams) -> float:
    """Compares with the reference; returns the share of equal crop values."""
    crop = resize_and_crop(image, params._replace(is_flipped=False), CROP_SIZE)
    expected = reference_crop(image, params, CROP_SIZE)
    assert crop.dtype == np.uint8
    assert crop.shape == expected.shape == (CROP_SIZE, CROP_SIZE, 3)
    assert np.abs(crop.astype(int) - expected).max() <= 2
    np.testing.assert_allclose(
        run_augment(image, params),
        reference_finish(crop, params, STATISTICS),
        rtol=0,
        atol=1e-5,
    )
    return (crop == expected).mean()


def test_agrees_with_the_reference_on_every_kind_of_image(tmp_path):
    shares = []
    for index, path in enumerate(make_image_kinds(tmp_path).values()):
        for params in draw_many(3, seed=index):
            shares.append(assert_agrees(decode_rgb(ImageSource(str(path))), params))
    assert np.mean(shares) >= 0.95


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_agrees_with_the_reference_at_every_size(width, height):
    """95 % of the values exactly; noise in few pixels is rounded differently."""
    image = Image.fromarray(photograph(width, height))
    shares = [assert_agrees(image, params) for params in draw_many(20)]
    assert np.mean(shares) >= 0.95


@pytest.mark.parametrize(
    ("width", "height"), [(500, 375), (375, 500), (60, 80), (2000, 250)]
)
def test_agrees_with_the_reference_with_the_shipped_settings(width, height):
    """99 % of the values exactly, as resample_crop says of photographs."""
    settings = read_config(SHIPPED).augmentation
    image = Image.fromarray(photograph(width, height))
    shares = []
    for params in draw_many(4, settings=settings):
        params = params._replace(is_flipped=False)
        crop = resize_and_crop(image, params, settings.crop_size).astype(int)
        expected = reference_crop(image, params, settings.crop_size)
        assert np.abs(crop - expected).max() <= 2
        shares.append((crop == expected).mean())
    assert np.mean(shares) >= 0.99


@pytest.mark.parametrize("fraction", [0.0, 0.5, np.nextafter(1, 0)])
def test_agrees_with_the_reference_in_the_corners(fraction):
    image = Image.fromarray(photograph(333, 250))
    for side in (36, 50, 64):
        params = AugmentationParams(side, (fraction, fraction), True, (0.1, -0.2, 0.3))
        assert assert_agrees(image, params) >= 0.98


def test_resized_size_keeps_the_aspect_and_rounds_down():
    assert resized_size(500, 375, 256) == (341, 256)  # 341.33
    assert resized_size(375, 500, 256) == (256, 341)
    assert resized_size(300, 300, 480) == (480, 480)
    assert resized_size(1, 5000, 256) == (256, 1_280_000)
    assert resized_size(299, 400, 256) == (256, 342)  # 342.47


def test_crop_is_always_inside():
    rng = np.random.default_rng(1)
    last = float(np.nextafter(1, 0))
    for _ in range(2_000):
        crop_size = int(rng.integers(1, 300))
        width, height = (crop_size + rng.integers(0, 3_000, 2)).tolist()
        fractions = rng.choice([0.0, last, rng.random()], 2).tolist()
        left, top = crop_corner(width, height, crop_size, fractions)
        assert 0 <= left <= width - crop_size
        assert 0 <= top <= height - crop_size


def test_crop_fractions_are_down_and_right():
    assert crop_corner(CROP_SIZE + 9, CROP_SIZE, CROP_SIZE, (0.99, 0.0)) == (0, 0)
    assert crop_corner(CROP_SIZE + 9, CROP_SIZE, CROP_SIZE, (0.0, 0.99)) == (9, 0)
    assert crop_corner(CROP_SIZE, CROP_SIZE + 9, CROP_SIZE, (0.99, 0.0)) == (0, 9)


def test_table_is_float64_normalization():
    table = normalization_table(STATISTICS)
    assert table.dtype == np.float64
    assert table.shape == (3, 256)
    for channel, (mean, std) in enumerate(zip(STATISTICS.mean, STATISTICS.std)):
        expected = [(level / 255 - mean) / std for level in range(256)]
        assert table[channel].tolist() == expected


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_without_jitter_every_value_is_the_rounded_normalization(dtype):
    levels = np.arange(CROP_SIZE * CROP_SIZE * 3) % 256
    pixels = levels.astype(np.uint8).reshape(CROP_SIZE, CROP_SIZE, 3)
    params = AugmentationParams(CROP_SIZE, (0.0, 0.0), False, (0.0, 0.0, 0.0))
    out = run_augment(Image.fromarray(pixels), params, dtype=dtype)
    expected = ((pixels / 255 - STATISTICS.mean) / STATISTICS.std).astype(dtype)
    assert out.dtype == dtype
    assert out.tobytes() == expected.tobytes()


def test_flip_is_the_mirror_image():
    image = Image.fromarray(photograph(90, 70))
    for params in draw_many(10):
        plain = run_augment(image, params._replace(is_flipped=False))
        mirrored = run_augment(image, params._replace(is_flipped=True))
        np.testing.assert_array_equal(mirrored, plain[:, ::-1])
        assert (mirrored != plain).any()


def test_input_is_not_modified():
    pixels = photograph(90, 70)
    image = Image.fromarray(pixels)
    run_augment(image, draw_many(1)[0])
    np.testing.assert_array_equal(np.asarray(image), pixels)
    crop = photograph(CROP_SIZE, CROP_SIZE)
    before = crop.copy()
    colour_shift(crop, STATISTICS.std, (0.1, 0.2, 0.3))
    np.testing.assert_array_equal(crop, before)


def test_same_params_same_bytes():
    image = Image.fromarray(photograph(90, 70))
    params = draw_many(1)[0]
    assert run_augment(image, params).tobytes() == run_augment(image, params).tobytes()


def test_colour_shift_of_two_colours_by_hand():
    """Half the pixels 0.6 apart in red, 0.8 in green: one axis, (0.6, 0.8, 0).

    The variance along it is (1 / 2)^2 = 0.25, so a weight of 0.2 moves 0.05 along it.
    """
    crop = np.zeros((2, 4, 3), np.uint8)
    crop[:, :2] = (153, 204, 77)  # 0.6 and 0.8 of 255
    crop[:, 2:] = (0, 0, 77)
    shift = colour_shift(crop, (1.0, 1.0, 1.0), (9.0, 9.0, 0.2))
    assert shift.dtype == np.float32
    np.testing.assert_allclose(shift, [0.03, 0.04, 0], atol=1e-7)
    # With standard deviations (0.6, 0.4, 1) the colours are 1 and 2 apart; the axis
    # is (1, 2, 0) / sqrt(5) and the variance 5 / 4, in all 0.2 * sqrt(5) / 4 * (1, 2).
    shift = colour_shift(crop, (0.6, 0.4, 1.0), (9.0, 9.0, 0.2))
    expected = 0.2 * 5**0.5 / 4 * np.array([1, 2, 0])
    np.testing.assert_allclose(shift, expected, atol=1e-6)


def test_weights_go_with_the_axes_from_the_smallest_on():
    """Independent channels: the axes are red, green and blue themselves."""
    levels = np.array(np.meshgrid([0, 51], [0, 102], [0, 153])).reshape(3, -1)
    crop = levels.T.astype(np.uint8).reshape(2, 4, 3)
    # Variances (0.2 / 2)^2, (0.4 / 2)^2 and (0.6 / 2)^2.
    shift = colour_shift(crop, (1.0, 1.0, 1.0), (1.0, 10.0, 100.0))
    np.testing.assert_allclose(shift, [0.01, 0.4, 9.0], rtol=1e-6)


def test_sign_of_an_axis_is_its_largest_component_s():
    """A positive weight on the main axis brightens the channel that varies most.

    If two vary alike, rounding decides between them, as for seed 10.
    """
    for seed in range(20):
        colours = np.random.default_rng(seed).integers(0, 256, (2, 3))
        crop = np.repeat(colours[None], 3, axis=0).astype(np.uint8)
        shift = colour_shift(crop, (1.0, 1.0, 1.0), (0.0, 0.0, 1.0))
        assert shift.max() == pytest.approx(np.abs(shift).max(), rel=1e-6)


def random_covariances(number: int) -> np.ndarray:
    """Whole numbers below 2**53, so that every processor gets the same ones."""
    rng = np.random.default_rng(5)
    factors = rng.integers(-1000, 1001, (number, 3, 3)).astype(np.float64)
    factors[::5, :, 2] = factors[::5, :, 1]  # One eigenvalue is 0.
    factors[::7] = factors[::7, :, :1]  # As in a grey image: two are 0.
    return np.einsum("nij,nik->njk", factors, factors)


def test_principal_axes_are_lapacks():
    for matrix in (*random_covariances(500), np.zeros((3, 3)), np.eye(3)):
        values, axes = (np.array(part) for part in zip(*principal_axes(matrix)))
        size = np.linalg.norm(matrix)
        np.testing.assert_allclose(
            values, np.linalg.eigvalsh(matrix), rtol=0, atol=1e-14 * size
        )
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-14)
        np.testing.assert_allclose(
            (axes.T * values) @ axes, matrix, rtol=0, atol=1e-14 * size
        )


def test_principal_axes_have_the_same_bits_on_every_processor():
    """LAPACK's bits differ with and without AVX for three quarters of these."""
    found = [principal_axes(matrix.tolist()) for matrix in random_covariances(500)]
    digest = hashlib.sha256(repr(found).encode()).hexdigest()
    assert digest[:16] == "6611d9a6142594f8"


def test_flat_image_is_not_shifted():
    crop = np.full((CROP_SIZE, CROP_SIZE, 3), 77, np.uint8)
    shift = colour_shift(crop, STATISTICS.std, (10.0, 10.0, 10.0))
    np.testing.assert_allclose(shift, 0, atol=1e-9)


def test_grey_image_stays_grey():
    """All channels move by the same level, normalized by their own std."""
    grey = np.repeat(photograph(CROP_SIZE, CROP_SIZE)[..., :1], 3, axis=2)
    shift = colour_shift(grey, STATISTICS.std, (0.3, -0.2, 0.1))
    levels = shift * np.asarray(STATISTICS.std)
    assert abs(levels[0]) > 1e-4
    np.testing.assert_allclose(levels, levels[0], rtol=1e-5)


def test_shift_is_linear_in_the_weights():
    crop = photograph(CROP_SIZE, CROP_SIZE)
    once = colour_shift(crop, STATISTICS.std, (0.1, 0.2, 0.3))
    twice = colour_shift(crop, STATISTICS.std, (0.2, 0.4, 0.6))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


def test_draw_takes_four_uniform_and_three_normal_numbers():
    rng = np.random.default_rng(3)
    uniform, normal = rng.random(4), rng.standard_normal(3)
    params = draw_many(1, seed=3)[0]
    assert params.shorter_side == 36 + 7 * int(uniform[0] * 5)
    assert params.crop_fractions == (uniform[1], uniform[2])
    assert params.is_flipped == (uniform[3] < 0.5)
    assert params.colour_weights == tuple(normal * 0.1)


def test_sampling_always_consumes_the_same_part_of_the_stream():
    others = dataclasses.replace(
        AUGMENTATION,
        shorter_side_max=36,
        flip_probability=0.0,
        colour_jitter_stddev=0.0,
    )
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(10):
        sample_params(one, AUGMENTATION)
        sample_params(other, others)
        assert one.bit_generator.state == other.bit_generator.state


def test_frequencies_with_the_shipped_settings():
    """9,900 draws: 300 for each of 33 sides. The seed is fixed.

    Chi-square with 32 degrees of freedom has mean 32 and standard deviation 8; a count
    of 9,900 fair coins has standard deviation 50.
    """
    many_params = draw_many(9_900, settings=read_config(SHIPPED).augmentation)
    sides, counts = np.unique([c.shorter_side for c in many_params], return_counts=True)
    assert sides.tolist() == list(range(256, 481, 7))
    assert ((counts - 300) ** 2 / 300).sum() < 32 + 4 * 8
    assert abs(sum(params.is_flipped for params in many_params) - 4_950) < 4 * 50
    weights = np.array([params.colour_weights for params in many_params])
    np.testing.assert_allclose(weights.mean(axis=0), 0, atol=4 * 0.1 / 9_900**0.5)
    np.testing.assert_allclose(weights.std(axis=0), 0.1, rtol=4 / (2 * 9_900) ** 0.5)
    correlations = np.corrcoef(weights.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(correlations, 0, atol=4 / 9_900**0.5)


def test_crop_positions_are_uniform_over_the_whole_range():
    """10,000 crops at 5 x 10 corners: 200 each; 49 degrees of freedom."""
    corners = [
        crop_corner(CROP_SIZE + 4, CROP_SIZE + 9, CROP_SIZE, params.crop_fractions)
        for params in draw_many(10_000)
    ]
    found, counts = np.unique(corners, axis=0, return_counts=True)
    assert found.tolist() == [[left, top] for left in range(5) for top in range(10)]
    assert ((counts - 200) ** 2 / 200).sum() < 49 + 4 * 98**0.5


@pytest.mark.parametrize(("probability", "expected"), [(0.0, {False}), (1.0, {True})])
def test_flip_probability_at_its_ends(probability, expected):
    settings = dataclasses.replace(AUGMENTATION, flip_probability=probability)
    assert {c.is_flipped for c in draw_many(500, settings=settings)} == expected


def test_statistics_are_per_channel():
    image = Image.new("RGB", (40, 40), (255, 0, 51))
    statistics = ChannelStatistics((0.5, 0.25, 0.2), (0.25, 0.5, 0.1))
    params = AugmentationParams(40, (0.0, 0.0), False, (0.0, 0.0, 0.0))
    out = run_augment(image, params, statistics)
    np.testing.assert_allclose(out[5, 7], [2, -0.5, 0], atol=1e-6)
