"""Proves that the compiled loops give bit by bit what Pillow and numpy give."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnet50.dataset.sources import ImageFile
from resnet50.pixels import backend
from resnet50.pixels.augmentation import (
    AugmentationParams,
    augment,
    colour_shift,
    resize_and_crop,
)
from resnet50.preprocessing.channel_stats import sum_levels
from tests.images import photograph
from tests.preprocessing.batch_settings import STATISTICS

kernels = backend.kernels()
pytestmark = pytest.mark.skipif(kernels is None, reason="no numba, or switched off")

SIDES = st.one_of(st.integers(1, 40), st.integers(41, 1500))
FRACTIONS = st.floats(0, 1, exclude_max=True)


def both_ways(make):
    """What a function returns with the compiled loops, and without."""
    assert backend.kernels() is kernels
    with pytest.MonkeyPatch.context() as patch:
        fast = make()
        patch.setattr(backend, "kernels", lambda: None)
        return fast, make()


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
    """Noise, whose neighbours differ most, in every shape, shrunk and enlarged."""
    rng = np.random.default_rng([width, height])
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    choice = AugmentationParams(crop_size + surplus, (down, right), False, (0, 0, 0))

    def make():
        return resize_and_crop(pixels, choice, crop_size, is_flipped=is_flipped)

    crop, expected = both_ways(make)
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("level", [0, 1, 254, 255])
@pytest.mark.parametrize("width", [1, 9_000])
def test_the_sums_have_room_in_half_a_number(level, width):
    """A sum above 31 bits would run over into the row above."""
    pixels = np.full((90, width, 3), level, np.uint8)
    crop, _ = both_ways(
        lambda: resize_and_crop(
            pixels, AugmentationParams(32, (0.5, 0.5), False, (0, 0, 0)), 32
        )
    )
    assert np.all(crop == level)


def test_an_image_of_pillow_which_cannot_be_written_to_is_taken():
    image = Image.fromarray(photograph(90, 70))
    choice = AugmentationParams(64, (0.5, 0.5), False, (0, 0, 0))
    np.testing.assert_array_equal(
        *both_ways(lambda: resize_and_crop(image, choice, 48))
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
    rows = np.full((10_000, 6), 255, np.uint8)
    sums, squares, with_next, with_second = kernels.column_sums(rows)
    assert sums.tolist() == [2_550_000] * 6
    assert squares.tolist() == [650_250_000] * 6
    assert with_next[:5].tolist() == [650_250_000] * 4 + [650_250_000]
    assert with_second[:4].tolist() == [650_250_000] * 4


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("is_flipped", [False, True])
def test_a_whole_crop_is_numpys(dtype, is_flipped):
    image = photograph(500, 375)
    choice = AugmentationParams(305, (0.3, 0.7), is_flipped, (0.1, -0.2, 0.3))

    def make():
        out = np.empty((224, 224, 3), dtype)
        return augment(image, choice, 224, STATISTICS, out), out

    (shift, crop), (expected_shift, expected) = both_ways(make)
    np.testing.assert_array_equal(shift, expected_shift)
    np.testing.assert_array_equal(crop, expected)


def test_level_sums_are_those_of_pillows_histogram(tmp_path):
    for index, size in enumerate([(1, 1), (64, 3), (333, 250), (1, 40_000)]):
        image = ImageFile(str(tmp_path / f"{index}.png"))
        Image.fromarray(photograph(*size)).save(str(image))
        fast, slow = both_ways(lambda image=image: sum_levels([image]))
        assert fast.num_pixels == slow.num_pixels == size[0] * size[1]
        np.testing.assert_array_equal(fast.sums, slow.sums)
        np.testing.assert_array_equal(fast.squares, slow.squares)


def test_the_tallest_white_image_has_room_in_a_columns_sum():
    rows = np.full((2**15 + 1, 3), 255, np.uint8)
    _, squares = kernels.level_sums(rows)
    assert squares.tolist() == [(2**15 + 1) * 255**2] * 3


# Makes a crop, in the dtype that its command line names.
MAKE_A_CROP = """
import sys
import numpy as np
from resnet50.pixels.augmentation import AugmentationParams, augment
from tests.preprocessing.batch_settings import STATISTICS
out = np.empty((32, 32, 3), sys.argv[1])
choice = AugmentationParams(48, (0.5, 0.5), True, (0.1, 0.1, 0.1))
augment(np.zeros((60, 70, 3), np.uint8), choice, 32, STATISTICS, out)
"""


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
    assert len(whole) == 4
    for path in whole:
        path.write_bytes(b"")
    sizes()
    assert sizes() == whole


def test_only_the_loops_that_a_dtype_needs_are_compiled(tmp_path):
    """A machine's first batch waits for each of them."""
    run_python(MAKE_A_CROP, "uint8", NUMBA_CACHE_DIR=str(tmp_path))
    names = {path.name.split(".")[1].split("-")[0] for path in tmp_path.rglob("*.nbi")}
    of_crop = {"_triangle_weights", "_resample_along_x", "_resample_along_y"}
    assert names == of_crop | {"_add_columns"}


def test_scipys_linear_algebra_stays_out_of_a_worker():
    """numba, left alone, loads it for a BLAS that no loop needs."""
    pytest.importorskip("scipy")
    code = MAKE_A_CROP + "print('scipy.linalg' in sys.modules)"
    assert run_python(code, "float16") == "False\n"


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux alone tells")
def test_the_compilers_code_leaves_a_workers_memory():
    code = """
import re
text = open("/proc/self/smaps").read()
found = re.findall(r" r-xp .*libllvmlite.so\\n(?:.*\\n)*?Rss: *([0-9]+) kB", text)
print(*found)
"""
    (kibibytes,) = run_python(MAKE_A_CROP + code, "float16").split()
    assert int(kibibytes) < 10_000


def test_switched_off_numba_leaves_the_fast_way_of_numpy():
    code = "from resnet50.pixels import backend; print(backend.kernels())"
    assert run_python(code, NUMBA_DISABLE_JIT="1") == "None\n"


def test_a_numpy_that_is_too_new_for_numba_leaves_the_slow_way(tmp_path):
    (tmp_path / "numba.py").write_text('raise ImportError("Numba needs NumPy ...")')
    code = "from resnet50.pixels import backend; print(backend.kernels())"
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    assert run_python(code, PYTHONPATH=paths) == "None\n"
