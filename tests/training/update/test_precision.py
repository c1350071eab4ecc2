"""Proves what is computed in which precision, and what an overflow in float16 leaves.

And that XLA changes nothing but rounding. The network is a ResNet of two blocks.
"""

import math

import numpy as np
import pytest
import tensorflow as tf

from resnet50.handoff.progress import Position
from resnet50.network.model import NORMALIZATIONS, PRECISIONS
from resnet50.network.normalization import BatchRenormalization
from resnet50.training import checkpoint
from resnet50.training.checkpoint import CheckpointError
from resnet50.training.checkpoint_folders import list_checkpoints
from resnet50.training.update.schedules import StepNumbers
from tests.processes import in_own_process
from tests.training.halves import skip_where_hidden
from tests.training.tiny import create_shallow_training
from tests.training.tolerances import UNIT_ROUNDOFF, difference, joined, make_smooth

DESCRIPTION = {"precision": "float16", "accumulate_batches": 1}


def create_batch(num_images=8, size=32, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((num_images, size, size, 3)).astype(np.float16)
    labels = (np.arange(num_images) % 3).astype(np.int32)
    return tf.constant(images), tf.constant(labels)


def train(training, images, labels, learning_rate=0.01):
    numbers = StepNumbers(learning_rate, 1.5, 0.5)
    return float(training.step(images, labels, None, numbers))


def values(training):
    """Name and content of all variables but those of the loss scale."""
    skipping = (training.loss_scale, training.totals)
    apart = {id(v) for m in skipping if m is not None for v in m.variables}
    return [(v.name, v.numpy()) for v in training.variables if id(v) not in apart]


def assert_equal(first, second):
    for (name, a), (_, b) in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes(), name


def traced_ops(training):
    images, labels = create_batch()
    graph = training._compiled_step.get_concrete_function(
        images, labels, None, tf.zeros(4)
    ).graph
    return graph.get_operations()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_each_op_of_the_step_computes_in(precision, normalization):
    training = create_shallow_training(normalization, precision=precision)
    types = {}
    for op in traced_ops(training):
        if "T" in op.node_def.attr:
            types.setdefault(op.type, set()).add(op.get_attr("T"))
        if op.type.startswith("FusedBatchNorm"):
            assert op.get_attr("U") == tf.float32, op.name
    activations = {tf.as_dtype(precision)}
    # Stem, two blocks of three, two projections; forward, and back to the kernels and,
    # but for the stem, to the input.
    for name in (
        "Conv2D",
        "Conv2DBackpropFilter",
        "Conv2DBackpropInput",
        "FusedBatchNormV3",
        "FusedBatchNormGradV3",
        "MaxPool",
        "MaxPoolGrad",
        "ReluGrad",
    ):
        assert types[name] == activations, name
    # The op of the cross-entropy, or those in its place where determinism is asked for.
    entropy = {"SoftmaxCrossEntropyWithLogits", "Exp", "Log"} & types.keys()
    assert entropy
    # The means are those of the pixels before the classifier and of the losses.
    for name in ("Mean", "MatMul", "L2Loss", "ResourceApplyMomentum", *entropy):
        assert types[name] == {tf.float32}, name
    assert {v.dtype for v in training.model.variables} == {tf.float32}
    assert {v.dtype for v in training.optimizer.variables} == {tf.float32}


def gradients_of(precision, normalization):
    training = create_shallow_training(normalization, precision=precision)
    images, labels = create_batch(16)
    numbers = StepNumbers(0.01, 1.5, 0.5)
    loss, gradients, _ = training._gradients.compute(images, labels, None, numbers)
    return float(loss), [gradient.numpy() for gradient in gradients]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_gradients_are_close_to_those_of_float32(precision, normalization, monkeypatch):
    make_smooth(monkeypatch)
    loss, gradients = gradients_of("float32", normalization)
    found_loss, found = gradients_of(precision, normalization)
    # Some 20 roundings one after the other, forward and back, add up like a random
    # walk: to 1.6 to 3.5 units, with float16 instructions and without.
    unit = UNIT_ROUNDOFF[precision]
    assert found_loss == pytest.approx(loss, rel=4 * unit)
    assert 0 < difference(joined(found), joined(gradients)) < 10 * unit


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("cause", ["scale", "images"])
def test_a_step_that_overflows_leaves_no_trace(cause, normalization):
    training = create_shallow_training(normalization, precision="float16")
    images, labels = create_batch()
    train(training, images, labels)
    means = training.totals.means()
    scale = 2.0**15
    if cause == "scale":
        scale = 2.0**40
        training.loss_scale.scale.assign(scale)
    else:
        overflow_in_the_stem(training)
    before = values(training)
    assert train(training, images, labels) == 0
    assert_equal(values(training), before)
    assert training.totals.means() == means
    assert int(training.totals.num_skipped) == 1
    assert float(training.loss_scale.scale) == scale / 2
    assert int(training.loss_scale.num_finite) == 0
    assert training.is_finite()


def overflow_in_the_stem(training):
    """Makes the stem's sums of 147 products exceed 65504, and so the statistics."""
    kernel = training.model.stem_convolution.kernel
    kernel.assign(1e6 * kernel)


def test_at_the_lowest_scale_what_overflows_is_lost():
    training = create_shallow_training(precision="float16")
    overflow_in_the_stem(training)
    training.loss_scale.scale.assign(1.0)
    assert math.isnan(train(training, *create_batch()))


def test_a_loss_scale_finds_its_place():
    """From far too high a scale, training goes on as soon as it is low enough."""
    training = create_shallow_training(precision="float16")
    training.loss_scale.scale.assign(2.0**24)
    images, labels = create_batch()
    losses = [train(training, images, labels) for _ in range(12)]
    num_skipped = int(training.totals.num_skipped)
    assert 0 < num_skipped < 10
    assert losses.count(0) == num_skipped
    assert float(training.loss_scale.scale) == 2.0 ** (24 - num_skipped)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_precision_learns_a_batch_by_heart(precision):
    training = create_shallow_training(precision=precision)
    images, labels = create_batch(6)
    losses = [train(training, images, labels, 0.05) for _ in range(25)]
    assert losses[0] > 1  # About log(3) = 1.1, and the l2 penalty.
    penalty = training.totals.means()["l2_loss"]
    assert losses[-1] < 0.1 + penalty


def test_resuming_with_the_scale_in_the_middle_of_its_way_is_bitwise(tmp_path):
    batches = [create_batch(seed=seed) for seed in range(4)]

    def go_on(training, batches):
        for batch in batches:
            train(training, *batch)
        return [(v.name, v.numpy()) for v in training.variables]

    training = create_shallow_training(precision="float16")
    training.loss_scale.scale.assign(2.0**40)
    training.loss_scale.num_finite.assign(1997)
    go_on(training, batches[:1])
    training.loss_scale.scale.assign(2.0**13)
    training.loss_scale.num_finite.assign(1997)
    go_on(training, batches[1:2])
    checkpoint.save(training, tmp_path, Position(0, 2), DESCRIPTION)
    expected = go_on(training, batches[2:])
    assert float(training.loss_scale.scale) == 2.0**14

    resumed = create_shallow_training(precision="float16", seed=7)
    (newest,) = list_checkpoints(tmp_path)
    checkpoint.load(resumed, newest, DESCRIPTION)
    assert_equal(go_on(resumed, batches[2:]), expected)


def test_another_precision_will_do_between_epochs_only(tmp_path):
    other = {"precision": "float32", "accumulate_batches": 4}
    training = create_shallow_training(precision="float16")
    train(training, *create_batch())
    training.totals.reset()  # As after each epoch.
    for position in ((1, 0), (1, 3)):
        checkpoint.save(training, tmp_path, Position(*position), DESCRIPTION)
    between, inside = list_checkpoints(tmp_path)
    resumed = create_shallow_training(accumulate_batches=4, seed=7)
    with pytest.raises(
        CheckpointError, match="precision = float16, here it is float32"
    ):
        checkpoint.load(resumed, inside, other)
    checkpoint.load(resumed, between, other)
    transferred = (resumed.model, resumed.optimizer, resumed.totals)
    expected = (training.model, training.optimizer, training.totals)
    for module, like in zip(transferred, expected):
        for a, b in zip(module.variables, like.variables, strict=True):
            np.testing.assert_array_equal(a, b)

    # And the other way round, into a training with a scale.
    checkpoint.save(resumed, tmp_path, Position(2, 0), other)
    back = create_shallow_training(precision="float16", seed=8)
    checkpoint.load(back, list_checkpoints(tmp_path)[-1], DESCRIPTION)
    assert_equal(values(back), values(training))
    assert float(back.loss_scale.scale) == 2.0**15


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-4), ("float16", 0.01)]
)
def test_xla_gives_the_same_losses_to_rounding_and_resumes_bitwise(
    precision, tolerance, tmp_path
):
    skip_where_hidden(precision)
    in_own_process(compare_with_xla, precision, tolerance, tmp_path)


def compare_with_xla(precision, tolerance, tmp_path):
    tf.config.experimental.enable_op_determinism()
    description = {"precision": precision, "accumulate_batches": 1}
    batches = [create_batch(seed=seed) for seed in range(4)]
    plain, compiled = (
        create_shallow_training(precision=precision, xla=xla, deterministic=True)
        for xla in (False, True)
    )
    losses = [train(plain, *batch) for batch in batches]
    found = [train(compiled, *batch) for batch in batches[:2]]
    checkpoint.save(compiled, tmp_path, Position(0, 2), description)
    found += [train(compiled, *batch) for batch in batches[2:]]
    assert found == pytest.approx(losses, rel=tolerance)
    assert compiled._compiled_step.experimental_get_tracing_count() == 1
    assert compiled.totals.means()["loss"] == pytest.approx(
        plain.totals.means()["loss"], rel=tolerance
    )

    after = values(compiled)
    (saved,) = list_checkpoints(tmp_path)
    checkpoint.load(compiled, saved, description)
    assert [train(compiled, *batch) for batch in batches[2:]] == found[2:]
    assert_equal(values(compiled), after)


def test_renormalization_s_factors_are_not_rounded_to_halves():
    """With an r that would be 1.5 in float16; the moving statistics make it."""
    skip_where_hidden("float16")
    r = 1.5 + 0.98 * 2.0**-11
    assert np.float16(r) == 1.5
    layer = BatchRenormalization(
        1, epsilon=1e-6, moving_average_decay=0.5, name="normalization"
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 8, 8, 1)).astype(np.float16)
    mean, variance = x.mean(dtype=np.float64), x.var(dtype=np.float64)
    layer.moving_variance.assign([variance / r**2])
    layer.moving_mean.assign([mean])
    y = layer(tf.constant(x), True, (3.0, 5.0))
    assert y.dtype == tf.float16
    y = y.numpy().astype(np.float64)
    # numpy before 2.0 computes with a scalar of float64 in the array's float16.
    exact = (x.astype(np.float64) - mean) / np.sqrt(variance) * r
    # One rounding of the normalized value and one of the result: two halves of a unit.
    np.testing.assert_allclose(y, exact, rtol=2.0**-10, atol=1e-4)
    # Over 4096 values they cancel out, and 1.5 for r would be 3.2e-4 too little.
    assert np.vdot(y, exact) / np.vdot(exact, exact) == pytest.approx(1, abs=5e-5)
