"""Proves that the compiled loops give bit by bit what Pillow and numpy give."""

import importlib.metadata
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnet50.dataset.sources import ImageSource
from resnet50.pixels import pillow_numpy, resampling
from resnet50.pixels.augmentation import (
    AugmentationParams,
    colour_shift,
    principal_axes,
)
from resnet50.pixels.resampling import Span
from resnet50.preprocessing.channel_stats import sum_levels
from tests.images import photograph
from tests.pixels.whole_images import augment_whole, resize_and_crop
from tests.preprocessing.batch_settings import STATISTICS

if resampling.pixel_loops() is pillow_numpy:
    pytest.skip("numba is absent or switched off", allow_module_level=True)

from resnet50.pixels import kernels

SIDES = st.one_of(st.integers(1, 40), st.integers(41, 1500))
FRACTIONS = st.floats(0, 1, exclude_max=True)


def both_ways(make):
    """What a function returns with the compiled loops, and with Pillow and numpy."""
    with pytest.MonkeyPatch.context() as patch:
        fast = make()
        patch.setattr(resampling, "pixel_loops", lambda: pillow_numpy)
        return fast, make()


def weights_in_plain_python(source_size, start, end, num_outputs):
    """For each output pixel its first source pixel and the weights from there on."""
    start, end = np.float32(start), np.float32(end)  # As in Pillow.
    scale = float(end - start) / num_outputs
    support = max(scale, 1.0)
    found = []
    for pixel in range(num_outputs):
        centre = float(start) + (pixel + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        stop = min(int(centre + support + 0.5), source_size)
        triangle = [
            max(1 - abs((source - centre + 0.5) * (1 / support)), 0)
            for source in range(first, stop)
        ]
        total = 0.0  # Not sum(), which newer Pythons round otherwise.
        for value in triangle:
            total += value
        found.append((first, [int(0.5 + t / total * 2**22) for t in triangle]))
    return found


def resample_in_plain_python(levels, start, end, num_outputs):
    """Resamples one row or column of one channel, one level after the other."""
    return [
        (2**21 + sum(w * levels[first + i] for i, w in enumerate(weights))) >> 22
        for first, weights in weights_in_plain_python(
            len(levels), start, end, num_outputs
        )
    ]


@pytest.mark.parametrize("size", [(5, 4), (17, 9), (40, 23), (9, 41), (1, 1)])
@pytest.mark.parametrize("is_flipped", [False, True])
def test_packed_rows_give_the_scalar_references_levels(size, is_flipped):
    """The arithmetic of the diagram in kernels.py, two rows at a time and one."""
    width, height = size
    rng = np.random.default_rng(size)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    pixels[: height // 2] = 255  # The largest sums.
    x = Span(0.3, width - 0.1, 0, width)
    y = Span(0.2, height - 0.4, 0, height)
    out = np.empty((8, 8, 3), np.uint8)
    kernels.resample(pixels, x, y, is_flipped, out)
    for channel in range(3):
        rows = [
            resample_in_plain_python(row, x.start, x.end, 8)
            for row in pixels[:, :, channel].tolist()
        ]
        columns = [
            resample_in_plain_python(column, y.start, y.end, 8) for column in zip(*rows)
        ]
        expected = np.array(columns[::-1] if is_flipped else columns).T
        np.testing.assert_array_equal(out[:, :, channel], expected)


def test_both_implementations_have_the_same_functions():
    def functions(module):
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in vars(module).items()
            if inspect.isfunction(value) and name[0] != "_" and name != "compiled"
        }

    assert functions(kernels) == functions(pillow_numpy)
    assert importlib.metadata.version("numba") == kernels.NUMBA_VERSION


@given(
    SIDES,
    SIDES,
    st.integers(32, 300),
    st.integers(0, 200),
    FRACTIONS,
    FRACTIONS,
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_a_crop_is_pillows(width, height, crop_size, surplus, down, right, is_flipped):
    """Noise, because its neighbours differ most; every shape, shrunk and enlarged."""
    rng = np.random.default_rng([width, height])
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    params = AugmentationParams(
        crop_size + surplus, (down, right), is_flipped, (0, 0, 0)
    )
    crop, expected = both_ways(lambda: resize_and_crop(pixels, params, crop_size))
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("level", [0, 1, 254, 255])
@pytest.mark.parametrize("width", [1, 9_000])
def test_the_sums_have_room_in_half_a_number(level, width):
    """A sum above 31 bits would carry into the other row."""
    pixels = np.full((90, width, 3), level, np.uint8)
    crop, _ = both_ways(
        lambda: resize_and_crop(
            pixels, AugmentationParams(32, (0.5, 0.5), False, (0, 0, 0)), 32
        )
    )
    assert np.all(crop == level)


def test_a_read_only_pillow_image_is_accepted():
    image = Image.fromarray(photograph(90, 70))
    params = AugmentationParams(64, (0.5, 0.5), False, (0, 0, 0))
    np.testing.assert_array_equal(
        *both_ways(lambda: resize_and_crop(image, params, 48))
    )


@pytest.mark.parametrize("size", [32, 33, 224])
def test_a_colour_shift_is_numpys(size):
    crops = [
        photograph(size, size),
        np.zeros((size, size, 3), np.uint8),
        np.full((size, size, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8),
    ]
    weights = (0.1, -0.2, 0.3)
    np.testing.assert_array_equal(
        *both_ways(lambda: [colour_shift(c, STATISTICS.std, weights) for c in crops])
    )


def test_the_largest_crop_has_room_in_a_columns_sum():
    crop = np.full((10_000, 2, 3), 255, np.uint8)
    sums, products = kernels.sums_and_products(crop)
    assert sums == [20_000 * 255] * 3
    assert products == [[20_000 * 255**2] * 3] * 3


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("is_flipped", [False, True])
def test_a_whole_crop_is_numpys(dtype, is_flipped):
    image = photograph(500, 375)
    params = AugmentationParams(305, (0.3, 0.7), is_flipped, (0.1, -0.2, 0.3))

    def make():
        out = np.empty((224, 224, 3), dtype)
        return augment_whole(image, params, STATISTICS, out), out

    (shift, crop), (expected_shift, expected) = both_ways(make)
    np.testing.assert_array_equal(shift, expected_shift)
    np.testing.assert_array_equal(crop, expected)


def test_level_sums_are_those_of_pillows_histogram(tmp_path):
    for index, size in enumerate([(1, 1), (64, 3), (333, 250), (1, 40_000)]):
        image = ImageSource(str(tmp_path / f"{index}.png"))
        Image.fromarray(photograph(*size)).save(str(image))
        fast, slow = both_ways(lambda image=image: sum_levels([image]))
        assert fast.num_pixels == slow.num_pixels == size[0] * size[1]
        np.testing.assert_array_equal(fast.sums, slow.sums)
        np.testing.assert_array_equal(fast.squares, slow.squares)


def test_the_tallest_white_image_has_room_in_a_columns_sum():
    pixels = np.full((2**15 + 1, 1, 3), 255, np.uint8)
    _, squares = kernels.level_sums(pixels)
    assert squares.tolist() == [(2**15 + 1) * 255**2] * 3


# Makes a crop, in the dtype that its command line names.
MAKE_A_CROP = """
import sys
import numpy as np
from resnet50.pixels.augmentation import AugmentationParams
from tests.pixels.whole_images import augment_whole
from tests.preprocessing.batch_settings import STATISTICS
out = np.empty((32, 32, 3), sys.argv[1])
params = AugmentationParams(48, (0.5, 0.5), True, (0.1, 0.1, 0.1))
augment_whole(np.zeros((60, 70, 3), np.uint8), params, STATISTICS, out)
"""


VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e-160, -1e160]),
    st.floats(-1, 1),
    st.floats(-1e150, 1e150),
)


@settings(max_examples=500, deadline=None)
@given(st.tuples(*[VALUES] * 6))
def test_principal_axes_have_the_same_bits(values):
    xx, yy, zz, yz, xz, xy = values
    matrix = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
    compiled, plain = both_ways(lambda: repr(principal_axes(matrix)))
    assert compiled == plain


def run_python(code, *arguments, **environment) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_damage_to_the_cache_does_no_harm(tmp_path):
    """After a power cut the newest files may be there, and empty."""

    def sizes():
        run_python(MAKE_A_CROP, "uint8", NUMBA_CACHE_DIR=str(tmp_path))
        return {path: path.stat().st_size for path in tmp_path.rglob("*.nbi")}

    whole = sizes()
    assert len(whole) == 5
    for path in whole:
        path.write_bytes(b"")
    sizes()
    assert sizes() == whole


def test_only_the_loops_that_a_dtype_needs_are_compiled(tmp_path):
    """A machine's first batch waits for each compilation."""
    run_python(MAKE_A_CROP, "uint8", NUMBA_CACHE_DIR=str(tmp_path))
    names = {path.name.split(".")[1].split("-")[0] for path in tmp_path.rglob("*.nbi")}
    of_crop = {"_triangle_weights", "_resample_along_x", "_resample_along_y"}
    assert names == of_crop | {"_add_products", "diagonalize"}


def test_scipys_linear_algebra_stays_out_of_a_worker():
    """Numba would load it for a BLAS that no loop needs."""
    pytest.importorskip("scipy")
    code = MAKE_A_CROP + "print('scipy.linalg' in sys.modules)"
    assert run_python(code, "float16") == "False\n"


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux has it")
def test_the_compilers_code_leaves_a_workers_memory():
    code = """
import re
text = open("/proc/self/smaps").read()
found = re.findall(r" r-xp .*libllvmlite.so\\n(?:.*\\n)*?Rss: *([0-9]+) kB", text)
print(*found)
"""
    (kibibytes,) = run_python(MAKE_A_CROP + code, "float16").split()
    assert int(kibibytes) < 10_000


WHICH = (
    "from resnet50.pixels import resampling; print(resampling.pixel_loops().__name__)"
)


def test_switched_off_numba_leaves_pillow_and_numpy():
    name = run_python(WHICH, NUMBA_DISABLE_JIT="1")
    assert name == "resnet50.pixels.pillow_numpy\n"


def test_a_numpy_that_is_too_new_for_numba_leaves_pillow_and_numpy(tmp_path):
    (tmp_path / "numba.py").write_text('raise ImportError("Numba needs NumPy ...")')
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    name = run_python(WHICH, PYTHONPATH=paths)
    assert name == "resnet50.pixels.pillow_numpy\n"
