"""Proves that the variants of benchmarks/preprocessing.py make the same batch."""

import numpy as np
import pytest

from benchmarks.peers import Workload, make_bare_decoding
from benchmarks.photographs import find_images, make_photographs
from benchmarks.preprocessing import OURS, OURS_NO_WRITE, PLAIN, our_variants
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import Position
from tests.preprocessing.batch_settings import make_settings


def test_our_variants_make_the_same_batch(tmp_path):
    pytest.importorskip("numba")
    pytest.importorskip("simplejpeg")
    make_photographs(tmp_path, 4)
    workload = Workload([find_images(tmp_path)], make_settings(), tmp_path)
    variants = our_variants(workload)
    expected = variants[OURS_NO_WRITE](0, 0)
    assert len(expected.images) == 4
    written = BatchBuffer(tmp_path).images_path(Position(0, 0))
    for name in (OURS, PLAIN):
        variants[name](0, 0)
        np.testing.assert_array_equal(np.load(written), expected.images)
        written.unlink()
    make_bare_decoding(workload)(0, 0)
