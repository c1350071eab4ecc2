"""Proves that each layer computes what its docstring says, forward and backward.

Convolutions equal a loop over pixels in float64 and their gradients equal numeric ones,
within the rounding of products and sums in any order. Images are normalized on the
device as in the preprocessor.
"""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.network.layers import (
    Convolution,
    Dense,
    max_pool,
    normalize_on_device,
)
from resnet50.pixels import augmentation
from tests.training.tolerances import sum_bound

STATISTICS = augmentation.ChannelStatistics((0.48, 0.45, 0.40), (0.27, 0.26, 0.28))
# Of normalized images: eight roundings of numbers up to 4.
BOUND = sum_bound(8, 4)


def convolve_by_loop(x, kernel, stride):
    """Convolves in float64, pixel by pixel, padded by kernel_size // 2 all around."""
    kernel_size, _, _, out_channels = kernel.shape
    margin = kernel_size // 2
    padded = np.pad(
        x.astype(np.float64), [(0, 0), (margin, margin), (margin, margin), (0, 0)]
    )
    num_images, height, width, _ = x.shape
    rows, columns = range(0, height, stride), range(0, width, stride)
    y = np.empty((num_images, len(rows), len(columns), out_channels))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            patch = padded[:, top : top + kernel_size, left : left + kernel_size]
            y[:, i, j] = np.tensordot(patch, kernel, axes=3)
    return y


def assert_equal_sums(found, expected, num_terms, magnitudes):
    """Compares sums of products, each of which may have its own bound."""
    errors = np.abs(np.asarray(found, np.float64) - expected)
    assert np.all(errors <= sum_bound(num_terms, magnitudes)), errors.max()


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (9, 9), (10, 10)])
@pytest.mark.parametrize(
    ("kernel_size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)]
)
@pytest.mark.parametrize("pads_in_op", [False, True])
def test_convolution_equals_a_loop_over_pixels(size, kernel_size, stride, pads_in_op):
    rng = np.random.default_rng(1)
    convolution = Convolution(
        3, 4, kernel_size, stride, rng=rng, pads_in_op=pads_in_op, name="convolution"
    )
    x = rng.standard_normal((2, *size, 3), dtype=np.float32)
    kernel = convolution.kernel.numpy()
    expected = convolve_by_loop(x, kernel, stride)
    magnitudes = convolve_by_loop(np.abs(x), np.abs(kernel), stride)
    assert_equal_sums(convolution(x), expected, kernel_size**2 * 3, magnitudes)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("pads_in_op", [False, True])
def test_convolution_gradients_equal_numeric_ones(
    size, kernel_size, stride, pads_in_op
):
    # The loss is linear in x and in the kernel, so that a large difference quotient is
    # exact: for each single input, loss(x + unit) - loss(x), from the loop in float64.
    # Of 8 channels, as the network's numbers are multiples of 8: for others, oneDNN on
    # processors with AVX2 alone computes wrong gradients of 1x1 kernels at stride 2.
    channels = 8
    rng = np.random.default_rng(2)
    convolution = Convolution(
        channels,
        channels,
        kernel_size,
        stride,
        rng=rng,
        pads_in_op=pads_in_op,
        name="convolution",
    )
    kernel = convolution.kernel.numpy()
    x = rng.standard_normal((1, size, size, channels), dtype=np.float32)
    cotangent = rng.standard_normal(convolution(x).shape, dtype=np.float32)

    with tf.GradientTape() as tape:
        tape.watch(inputs := tf.constant(x))
        loss = tf.reduce_sum(convolution(inputs) * cotangent)
    x_gradient, kernel_gradient = tape.gradient(loss, [inputs, convolution.kernel])

    for position in rng.choice(x.size, 20, replace=False):
        unit = np.zeros(x.size)
        unit[position] = 1
        products = cotangent * convolve_by_loop(unit.reshape(x.shape), kernel, stride)
        assert_equal_sums(
            x_gradient.numpy().flat[position],
            products.sum(),
            kernel_size**2 * channels,
            np.abs(products).sum(),
        )
    for position in rng.choice(kernel.size, 20, replace=False):
        unit = np.zeros(kernel.size)
        unit[position] = 1
        products = cotangent * convolve_by_loop(x, unit.reshape(kernel.shape), stride)
        assert_equal_sums(
            kernel_gradient.numpy().flat[position],
            products.sum(),
            cotangent.size // channels,
            np.abs(products).sum(),
        )


def test_convolution_kernel_has_he_deviation_of_the_fan_out():
    rng = np.random.default_rng(3)
    convolution = Convolution(16, 64, 3, 1, rng=rng, name="convolution")
    kernel = convolution.kernel.numpy()
    assert kernel.shape == (3, 3, 16, 64)
    assert kernel.dtype == np.float32
    # sqrt(2 / (3 * 3 * 64)) = 0.0589; of 9,216 draws the sample's is within 2 %.
    assert kernel.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert kernel.mean() == pytest.approx(0, abs=0.002)


def test_dense_by_hand():
    dense = Dense(2, 3, np.random.default_rng(8), name="dense")
    assert dense.bias.numpy().tolist() == [0, 0, 0]
    dense.kernel.assign([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    dense.bias.assign([0.5, 0.0, -0.5])
    # [1, 10] times the kernel: 1 + 40, 2 + 50, 3 + 60.
    assert dense(tf.constant([[1.0, 10.0]])).numpy().tolist() == [[41.5, 52.0, 62.5]]


def test_dense_kernel_has_deviation_one_hundredth():
    kernel = Dense(128, 64, np.random.default_rng(9), name="dense").kernel.numpy()
    assert kernel.std() == pytest.approx(0.01, rel=0.03)
    assert kernel.mean() == pytest.approx(0, abs=0.0005)


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (9, 9), (10, 10), (1, 2)])
def test_pooling_by_slices_is_pooling(size):
    """Outputs and gradients are the same where no window's largest value is twice."""
    rng = np.random.default_rng(0)
    x = tf.constant(rng.permutation(2 * size[0] * size[1] * 3), tf.float32)
    x = tf.reshape(x + 1, [2, *size, 3])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        results = [max_pool(x, by_slices=by_slices) for by_slices in (False, True)]
        losses = [tf.reduce_sum(y**2) for y in results]
    assert results[0].shape == [2, -(-size[0] // 2), -(-size[1] // 2), 3]
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(*(tape.gradient(loss, x) for loss in losses))


def all_levels():
    """uint8 [2, 16, 16, 3]: each level in each channel, and a shift for each image."""
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    shifts = np.array([[0.1, -0.2, 0.05], [0, 0, 0]], np.float32)
    return np.concatenate([images, images[:, ::-1]]), shifts


def test_normalizing_on_the_device_is_normalizing_in_the_preprocessor():
    images, shifts = all_levels()
    expected = augmentation.normalize_crops(images, shifts, STATISTICS)
    found = normalize_on_device(tf.constant(images), tf.constant(shifts), STATISTICS)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=BOUND)


def test_no_shifts_are_shifts_of_zero():
    images, shifts = all_levels()
    found = normalize_on_device(tf.constant(images), None, STATISTICS)
    expected = augmentation.normalize_crops(images, 0 * shifts, STATISTICS)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=BOUND)
