"""Proves batch normalization and renormalization, also the synchronized ones.

Moving statistics, r and d are compared with values worked out by hand, and gradients
with those of formulas in float64.
"""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.network.normalization import (
    BatchNormalization,
    BatchRenormalization,
)
from resnet50.network.synchronized import (
    SynchronizedBatchNormalization,
    SynchronizedBatchRenormalization,
)
from tests.training.halves import skip_where_hidden
from tests.training.tolerances import difference, sum_bound

NORMALIZATIONS = (BatchNormalization, BatchRenormalization)
# Without a strategy, those of several replicas are those of one.
WITH_SYNCHRONIZED = (
    *NORMALIZATIONS,
    SynchronizedBatchNormalization,
    SynchronizedBatchRenormalization,
)


def create_normalization(cls, channels=1, decay=0.9, epsilon=1e-3):
    return cls(
        channels, epsilon=epsilon, moving_average_decay=decay, name="normalization"
    )


def create_random(cls, shape, seed):
    """A normalization of 3 channels and its input, both with random values."""
    rng = np.random.default_rng(seed)
    normalization = create_normalization(cls, channels=3)
    for variable in normalization.variables:
        variable.assign(rng.uniform(0.5, 1.5, 3).astype(np.float32))
    return normalization, tf.constant(rng.standard_normal(shape, dtype=np.float32))


def column(*values):
    """Makes float32 [N, 1, 1, 1] of N numbers: a batch whose statistics are easy."""
    return tf.reshape(tf.constant(values, tf.float32), [-1, 1, 1, 1])


@pytest.mark.parametrize("cls", WITH_SYNCHRONIZED)
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


@pytest.mark.parametrize("cls", WITH_SYNCHRONIZED)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_statistics_are_float32_whatever_is_normalized(cls, dtype):
    """Sums of 2048 halves around 1 would be off by 2**-8 or more."""
    skip_where_hidden(dtype)
    rng = np.random.default_rng(0)
    x = tf.cast(rng.normal(1, 0.1, (8, 16, 16, 1)), dtype)
    values = tf.cast(x, tf.float64).numpy()
    normalization = create_normalization(cls, decay=0.5)
    normalization(x, is_training=True)
    # Sums of 2048 terms. The variance may come of the squares' mean, which is near 1.
    bound = sum_bound(values.size, 1.0)
    mean, variance = normalization.moving_mean, normalization.moving_variance
    np.testing.assert_allclose(mean, [0.5 * values.mean()], rtol=bound)
    expected = 0.5 + 0.5 * values.var(ddof=1)
    np.testing.assert_allclose(variance, [expected], rtol=bound)


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("cls", WITH_SYNCHRONIZED)
def test_epsilon_is_exactly_what_is_asked_for(cls, is_training):
    """TensorFlow's own function makes 1.001e-5 of 1e-5: here 5e-4 of the result."""
    normalization = create_normalization(cls, epsilon=1e-5)
    normalization.moving_variance.assign([1e-6])
    x = column(-1e-3, 1e-3)  # The biased variance is 1e-6 too.
    # Some ten roundings, without cancellation. The limits are wide, so that r counts.
    expected = x.numpy().astype(np.float64) / np.sqrt(1e-6 + 1e-5)
    y = normalization(x, is_training, limits=(100.0, 100.0))
    assert difference(y, expected) < 1e-6


@pytest.mark.parametrize("cls", WITH_SYNCHRONIZED)
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


def assert_gradients_are_those_of(exactly, computed, x, gamma, beta):
    """Compares the gradients of sum(y^3) with those of a formula in float64.

    Args:
        exactly: y of float64 x, gamma and beta.
        computed: y of x, with gamma and beta as the layer's variables.
        x: float32 [N, H, W, C].
        gamma: The layer's.
        beta: The layer's.
    """
    exact = [tf.cast(value, tf.float64) for value in (x, gamma, beta)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, *exact])
        loss = tf.reduce_sum(computed(x) ** 3)
        exact_loss = tf.reduce_sum(exactly(*exact) ** 3)
    gradients = tape.gradient(loss, [x, gamma, beta])
    # Sums over N H W = 120 values, which are at least a tenth of the magnitudes' sums.
    tolerance = sum_bound(x.shape.num_elements() // x.shape[-1], 10)
    for gradient, expected in zip(gradients, tape.gradient(exact_loss, exact)):
        assert difference(gradient, expected) < tolerance


@pytest.mark.parametrize("cls", NORMALIZATIONS)
@pytest.mark.parametrize("is_training", [True, False])
def test_normalization_gradients_equal_those_of_plain_ops(cls, is_training):
    normalization, x = create_random(cls, (4, 5, 6, 3), seed=4)
    gamma, beta = normalization.gamma, normalization.beta
    moving = [
        tf.cast(v, tf.float64)
        for v in (normalization.moving_mean, normalization.moving_variance)
    ]

    def compute_exactly(x, gamma, beta):
        mean, variance = tf.nn.moments(x, [0, 1, 2]) if is_training else moving
        return (x - mean) / tf.sqrt(variance + 1e-3) * gamma + beta

    assert_gradients_are_those_of(
        compute_exactly, lambda x: normalization(x, is_training), x, gamma, beta
    )


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
    normalization, x = create_random(BatchRenormalization, (2, 2, 3, 3), seed=5)
    expected = normalization(x, is_training=False)
    y = normalization(x, is_training=True, limits=(100.0, 100.0))
    # Sums over N H W = 12 values.
    assert difference(y, expected) < sum_bound(12, 10)


@pytest.mark.parametrize("cls", WITH_SYNCHRONIZED[1::2])
def test_no_gradient_flows_through_r_and_d(cls):
    normalization, x = create_random(cls, (4, 5, 6, 3), seed=6)
    gamma, beta = normalization.gamma, normalization.beta
    # As numpy arrays r and d are constants to the tape. Nothing is clipped, so that a
    # gradient through them would not vanish.
    exact_x = tf.cast(x, tf.float64)
    mean, variance = (value.numpy() for value in tf.nn.moments(exact_x, [0, 1, 2]))
    sigma = np.sqrt(normalization.moving_variance.numpy() + np.float64(1e-3))
    r = np.sqrt(variance + 1e-3) / sigma
    d = (mean - normalization.moving_mean.numpy()) / sigma

    def compute_exactly(x, gamma, beta):
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        return gamma * ((x - mean) / tf.sqrt(variance + 1e-3) * r + d) + beta

    limits = (100.0, 100.0)
    assert_gradients_are_those_of(
        compute_exactly, lambda x: normalization(x, True, limits), x, gamma, beta
    )


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
        assert difference(batch_renorm, batch_norm) < sum_bound(120, 10)


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
