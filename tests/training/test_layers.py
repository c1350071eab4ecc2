"""Proves that each layer computes what its docstring says, forward and backward.

Convolutions equal a loop over pixels in float64, their gradients equal numeric ones.
Moving statistics and renormalization's r and d are compared with values worked out by
hand; gradients of the normalizations with formulas written out in plain ops.
"""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.training.layers import (
    BatchNormalization,
    BatchRenormalization,
    Convolution,
    Dense,
    max_pool,
)

NORMALIZATIONS = (BatchNormalization, BatchRenormalization)


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


def create_normalization(cls, channels=1, decay=0.9, epsilon=1e-3):
    return cls(
        channels, epsilon=epsilon, moving_average_decay=decay, name="normalization"
    )


def column(*values):
    """Makes float32 [N, 1, 1, 1] of N numbers: a batch whose statistics are easy."""
    return tf.reshape(tf.constant(values, tf.float32), [-1, 1, 1, 1])


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (9, 9), (10, 10)])
@pytest.mark.parametrize(
    ("kernel_size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)]
)
def test_convolution_equals_a_loop_over_pixels(size, kernel_size, stride):
    rng = np.random.default_rng(1)
    convolution = Convolution(3, 4, kernel_size, stride, rng, name="convolution")
    x = rng.standard_normal((2, *size, 3), dtype=np.float32)
    expected = convolve_by_loop(x, convolution.kernel.numpy(), stride)
    np.testing.assert_allclose(convolution(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolution_gradients_equal_numeric_ones(size, kernel_size, stride):
    # The loss is linear in x and in the kernel, so that a large difference quotient is
    # exact: for each single input, loss(x + unit) - loss(x), from the loop in float64.
    rng = np.random.default_rng(2)
    convolution = Convolution(2, 2, kernel_size, stride, rng, name="convolution")
    kernel = convolution.kernel.numpy()
    x = rng.standard_normal((1, size, size, 2), dtype=np.float32)
    cotangent = rng.standard_normal(convolution(x).shape, dtype=np.float32)

    with tf.GradientTape() as tape:
        tape.watch(inputs := tf.constant(x))
        loss = tf.reduce_sum(convolution(inputs) * cotangent)
    x_gradient, kernel_gradient = tape.gradient(loss, [inputs, convolution.kernel])

    for position in rng.choice(x.size, 20, replace=False):
        unit = np.zeros(x.size)
        unit[position] = 1
        change = convolve_by_loop(unit.reshape(x.shape), kernel, stride)
        expected = (change * cotangent).sum()
        assert x_gradient.numpy().flat[position] == pytest.approx(expected, abs=1e-4)
    for position in rng.choice(kernel.size, min(20, kernel.size), replace=False):
        unit = np.zeros(kernel.size)
        unit[position] = 1
        change = convolve_by_loop(x, unit.reshape(kernel.shape), stride)
        expected = (change * cotangent).sum()
        assert kernel_gradient.numpy().flat[position] == pytest.approx(
            expected, abs=1e-4
        )


def test_convolution_kernel_has_he_deviation_of_the_fan_out():
    rng = np.random.default_rng(3)
    convolution = Convolution(16, 64, 3, 1, rng, name="convolution")
    kernel = convolution.kernel.numpy()
    assert kernel.shape == (3, 3, 16, 64)
    assert kernel.dtype == np.float32
    # sqrt(2 / (3 * 3 * 64)) = 0.0589; of 9,216 draws the sample's is within 2 %.
    assert kernel.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert kernel.mean() == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize("cls", NORMALIZATIONS)
def test_moving_statistics_over_three_steps_by_hand(cls):
    normalization = create_normalization(cls, decay=0.75)
    expected = (
        # batch mean, unbiased variance      0.75 * old + 0.25 * batch
        (column(1.0, 3.0), 0.5, 1.25),  # 2, 2: 0.25 * 2; 0.75 + 0.25 * 2
        (column(0.0, 4.0), 0.875, 2.9375),  # 2, 8: 0.375 + 0.5; 0.9375 + 2
        (column(-1.0, -1.0), 0.40625, 2.203125),  # -1, 0: 0.65625 - 0.25; 2.203125
    )
    for x, moving_mean, moving_variance in expected:
        normalization(x, is_training=True)
        assert normalization.moving_mean.numpy() == pytest.approx(moving_mean)
        assert normalization.moving_variance.numpy() == pytest.approx(moving_variance)

    normalization(column(5.0, 7.0), is_training=False)
    assert normalization.moving_mean.numpy() == pytest.approx(0.40625)
    assert normalization.moving_variance.numpy() == pytest.approx(2.203125)


@pytest.mark.parametrize("cls", NORMALIZATIONS)
def test_training_uses_the_biased_batch_variance(cls):
    normalization = create_normalization(cls, epsilon=1.0)
    normalization.gamma.assign([2.0])
    normalization.beta.assign([5.0])
    # Mean 2, biased variance 3: (x - 2) / sqrt(3 + 1) * 2 + 5 = x + 3.
    x = column(2 - 3**0.5, 2 + 3**0.5)
    np.testing.assert_allclose(normalization(x, is_training=True), x + 3, rtol=1e-5)


@pytest.mark.parametrize("cls", NORMALIZATIONS)
def test_inference_uses_the_moving_statistics(cls):
    normalization = create_normalization(cls, epsilon=1.0)
    normalization.gamma.assign([2.0])
    normalization.beta.assign([5.0])
    normalization.moving_mean.assign([10.0])
    normalization.moving_variance.assign([15.0])
    # (x - 10) / sqrt(15 + 1) * 2 + 5 = x / 2.
    x = column(1.0, 7.0, 100.0)
    np.testing.assert_allclose(normalization(x, is_training=False), x / 2, rtol=1e-5)


@pytest.mark.parametrize("cls", NORMALIZATIONS)
@pytest.mark.parametrize("is_training", [True, False])
def test_normalization_gradients_equal_those_of_plain_ops(cls, is_training):
    rng = np.random.default_rng(4)
    normalization = create_normalization(cls, channels=3)
    for variable in normalization.variables:
        variable.assign(rng.uniform(0.5, 1.5, 3).astype(np.float32))
    x = tf.constant(rng.standard_normal((4, 5, 6, 3), dtype=np.float32))
    gamma, beta = normalization.gamma, normalization.beta
    moving = normalization.moving_mean.numpy(), normalization.moving_variance.numpy()

    def compute_expected():
        mean, variance = tf.nn.moments(x, [0, 1, 2]) if is_training else moving
        return (x - mean) / tf.sqrt(variance + 1e-3) * gamma + beta

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = normalization(x, is_training)
        loss = tf.reduce_sum(y**3)
        expected_loss = tf.reduce_sum(compute_expected() ** 3)
    gradients = tape.gradient(loss, [x, gamma, beta])
    expected_gradients = tape.gradient(expected_loss, [x, gamma, beta])
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("limits", "r", "d"),
    [
        # Moving: mean 1, sigma sqrt(3 + 1) = 2. Batch of 3 and 13: mean 8, sigma
        # sqrt(25 + 1) = 5.099. Unclipped r = 5.099 / 2 = 2.55, d = (8 - 1) / 2 = 3.5.
        ((3.0, 5.0), 26**0.5 / 2, 3.5),
        ((2.0, 5.0), 2.0, 3.5),
        ((3.0, 1.5), 26**0.5 / 2, 1.5),
        ((1.0, 0.0), 1.0, 0.0),
    ],
)
def test_renormalization_r_and_d_by_hand(limits, r, d):
    normalization = create_normalization(BatchRenormalization, epsilon=1.0)
    normalization.gamma.assign([0.5])
    normalization.beta.assign([4.0])
    normalization.moving_mean.assign([1.0])
    normalization.moving_variance.assign([3.0])
    x = column(3.0, 13.0)
    x_hat = (x - 8) / 26**0.5
    y = normalization(x, is_training=True, limits=limits)
    np.testing.assert_allclose(y, 0.5 * (x_hat * r + d) + 4, rtol=1e-5)


def test_renormalization_clips_from_below_too():
    normalization = create_normalization(BatchRenormalization, epsilon=1.0)
    normalization.moving_mean.assign([10.0])
    normalization.moving_variance.assign([99.0])
    # r = 1 / 10 becomes 1 / 4; d = (0 - 10) / 10 becomes -0.5.
    y = normalization(column(0.0, 0.0), is_training=True, limits=(4.0, 0.5))
    np.testing.assert_allclose(y, column(-0.5, -0.5), rtol=1e-5)
    # sigma_B = sqrt(8 + 1) = 3, r = 3 / 10 is above 1 / 4: (x / 3) * 0.3 - 0.5.
    normalization.moving_mean.assign([10.0])
    normalization.moving_variance.assign([99.0])
    x = column(-(8**0.5), 8**0.5)
    y = normalization(x, is_training=True, limits=(4.0, 0.5))
    np.testing.assert_allclose(y, x * 0.1 - 0.5, rtol=1e-5)


def test_renormalization_unclipped_computes_what_inference_does():
    rng = np.random.default_rng(5)
    normalization = create_normalization(BatchRenormalization, channels=3)
    for variable in normalization.variables:
        variable.assign(rng.uniform(0.5, 1.5, 3).astype(np.float32))
    x = rng.standard_normal((2, 2, 3, 3), dtype=np.float32)
    expected = normalization(x, is_training=False)
    y = normalization(x, is_training=True, limits=(100.0, 100.0))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_no_gradient_flows_through_r_and_d():
    rng = np.random.default_rng(6)
    normalization = create_normalization(BatchRenormalization, channels=3)
    for variable in normalization.variables:
        variable.assign(rng.uniform(0.5, 1.5, 3).astype(np.float32))
    x = tf.constant(rng.standard_normal((4, 5, 6, 3), dtype=np.float32))
    gamma, beta = normalization.gamma, normalization.beta
    # As numpy arrays r and d are constants to the tape. Nothing is clipped, so that a
    # gradient through them would not vanish.
    mean, variance = (value.numpy() for value in tf.nn.moments(x, [0, 1, 2]))
    sigma = np.sqrt(normalization.moving_variance.numpy() + 1e-3)
    r = np.sqrt(variance + 1e-3) / sigma
    d = (mean - normalization.moving_mean.numpy()) / sigma

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = normalization(x, is_training=True, limits=(100.0, 100.0))
        loss = tf.reduce_sum(y**3)
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        x_hat = (x - mean) / tf.sqrt(variance + 1e-3)
        expected_loss = tf.reduce_sum((gamma * (x_hat * r + d) + beta) ** 3)
    gradients = tape.gradient(loss, [x, gamma, beta])
    expected_gradients = tape.gradient(expected_loss, [x, gamma, beta])
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-3)


def test_renormalization_without_room_equals_batch_normalization():
    rng = np.random.default_rng(7)
    x = tf.constant(rng.normal(1, 3, (4, 5, 6, 3)).astype(np.float32))
    start_values = rng.uniform(0.5, 1.5, (4, 3)).astype(np.float32)
    results = []
    for cls in NORMALIZATIONS:
        normalization = create_normalization(cls, channels=3)
        for variable, value in zip(normalization.variables, start_values, strict=True):
            variable.assign(value)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = normalization(x, is_training=True, limits=(1.0, 0.0))
            loss = tf.reduce_sum(y**3)
        gradients = tape.gradient(loss, [x, normalization.gamma, normalization.beta])
        moving = normalization.moving_mean, normalization.moving_variance
        results.append([y, *gradients, *moving])
    for batch_norm, batch_renorm in zip(*results, strict=True):
        np.testing.assert_allclose(batch_renorm, batch_norm, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cls", NORMALIZATIONS)
def test_only_gamma_and_beta_are_trainable(cls):
    normalization = cls(
        3, epsilon=1e-5, moving_average_decay=0.9, initial_gamma=0.25, name="last"
    )
    trainable = {v.name: v.numpy().tolist() for v in normalization.trainable_variables}
    assert trainable == {"last/gamma:0": [0.25] * 3, "last/beta:0": [0.0] * 3}
    assert len(normalization.variables) == 4


def test_renormalization_limits_are_tensors_without_retracing():
    normalization = create_normalization(BatchRenormalization)
    call = tf.function(lambda x, limits: normalization(x, True, limits))
    x = column(3.0, 13.0)
    for r_max, d_max in [(1.0, 0.0), (2.0, 1.0), (3.0, 5.0)]:
        call(x, (tf.constant(r_max), tf.constant(d_max)))
    assert call.experimental_get_tracing_count() == 1


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
