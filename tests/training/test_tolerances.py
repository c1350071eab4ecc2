"""Proves that the bounds hold in any order of summation, and reject a shorter type."""

import numpy as np
import pytest
import tensorflow as tf

from tests.training import halves
from tests.training.tolerances import sum_bound


@pytest.fixture
def products():
    pairs = np.random.default_rng(0).standard_normal((2, 3000)).astype(np.float32)
    return pairs[0] * pairs[1]


@pytest.mark.parametrize("order", ["as they come", "ascending", "descending"])
def test_a_float32_sum_is_within_the_bound(products, order):
    if order != "as they come":
        products = np.sort(products)[:: 1 if order == "ascending" else -1]
    one_by_one = np.cumsum(products, dtype=np.float32)[-1]
    exact = products.sum(dtype=np.float64)
    bound = sum_bound(len(products), np.abs(products).sum(dtype=np.float64))
    assert abs(one_by_one - exact) < bound


def test_a_float16_sum_is_not(products):
    products = np.abs(products)
    one_by_one = np.cumsum(products, dtype=np.float16)[-1]
    exact = products.sum(dtype=np.float64)
    assert abs(one_by_one - exact) > sum_bound(len(products), exact)


NO_PRIMITIVE = "Status: 3, message: could not create a primitive descriptor for ..."


@pytest.mark.parametrize(
    ("limit", "message", "expected"),
    [
        ("AVX2", NO_PRIMITIVE, True),
        ("AVX2", "out of memory", False),
        ("AVX2", None, False),
        (None, NO_PRIMITIVE, False),
    ],
)
def test_a_half_is_hidden_by_the_variable_alone(limit, message, expected, monkeypatch):
    """Any other failure is an error of the test that it occurs in."""
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)

    def conv2d(*arguments):
        if message:
            raise tf.errors.AbortedError(None, None, message)

    monkeypatch.setattr(tf.nn, "conv2d", conv2d)
    assert halves._is_hidden.__wrapped__("float16") == expected
