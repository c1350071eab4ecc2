"""Proves that the network is ResNet-50 and that its docstring's table is true.

The same seed gives the same weights, a checkpoint restores all of them, and one small
batch can be learnt by heart. That it computes what others compute: test_parity.
"""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.network import model as model_module
from resnet50.network.model import NORMALIZATIONS, STAGES, VARIANTS
from resnet50.training.update.optimizer import SGDMomentum
from tests.network.networks import create_resnet
from tests.training.tiny import SHALLOW_STAGES


def create_images(num_images=2, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return tf.constant(rng.standard_normal((num_images, size, size, 3), np.float32))


def count_parameters(modules):
    return sum(
        variable.shape.num_elements()
        for module in modules
        for variable in module.trainable_variables
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_module_s_table_is_true(variant):
    model = create_resnet(1000, variant=variant)
    stem = [model.stem_convolution, model.stem_normalization]
    x = tf.zeros([1, 224, 224, 3])
    # The rows with all runs of spaces made one.
    rows = [" ".join(row.split()) for row in model_module.__doc__.splitlines()]

    x = model.stem_convolution(x)
    x = tf.nn.max_pool2d(x, 3, 2, "SAME")
    assert f"stem - 64 4 56 x 56 x 64 {count_parameters(stem):,}" in rows
    assert x.shape == [1, 56, 56, 64]
    for number, (blocks, stage) in enumerate(zip(model.stages, STAGES, strict=True), 1):
        previous_size = x.shape[1]
        for block in blocks:
            x = block(x, is_training=False, limits=(1.0, 0.0))
        assert previous_size == stage.stride * x.shape[1]
        assert (
            f"stage {number} {len(blocks)} {stage.channels} {stage.stride} "
            f"{x.shape[1]} x {x.shape[2]} x {x.shape[3]} {count_parameters(blocks):,}"
        ) in rows
    classifier = count_parameters([model.classifier])
    assert f"classifier - 1000 - 1000 {classifier:,}" in rows

    assert model.num_parameters == 25_557_032
    num_blocks = sum(len(blocks) for blocks in model.stages)
    assert f"total {num_blocks} {model.num_parameters:,}" in rows
    num_statistics = sum(v.shape.num_elements() for v in model.variables)
    assert num_statistics - model.num_parameters == 53_120
    assert "53,120" in model_module.__doc__


@pytest.mark.parametrize(("variant", "strides"), [("v1", (2, 1)), ("v1.5", (1, 2))])
def test_a_variant_says_where_the_stride_is(variant, strides):
    for blocks in create_resnet(2, variant=variant).stages[1:]:
        first = blocks[0]
        assert (first.convolution1.stride, first.convolution2.stride) == strides
        assert first.projection.stride == 2
        assert {b.convolution1.stride * b.convolution2.stride for b in blocks[1:]} == {
            1
        }


def test_the_paper_s_variant_leaves_pixels_unread_the_other_does_not():
    # 1x1 at stride 2 reads only pixels of even row and column.
    x = create_images(size=8)[..., :1] * tf.ones([256])
    for variant, is_read in (("v1", False), ("v1.5", True)):
        block = create_resnet(2, variant=variant, seed=1).stages[1][0]
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(block(x, False, (1.0, 0.0)) ** 2)
        assert np.any(tape.gradient(loss, x)[:, 1::2, 1::2]) == is_read


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("is_training", [True, False])
def test_eager_equals_graph(normalization, is_training):
    images = create_images(num_images=4, size=64)
    limits = (tf.constant(1.5), tf.constant(0.5))
    results = []
    for wrap in (lambda function: function, tf.function):
        model = create_resnet(stages=SHALLOW_STAGES, normalization=normalization)
        logits = wrap(model)(images, is_training, limits)
        results.append((logits, model.stem_normalization.moving_variance))
    for eager, graph in zip(*results, strict=True):
        np.testing.assert_allclose(graph, eager, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("is_training", [True, False])
def test_mode_and_limits_reach_each_normalization_once(
    normalization, is_training, monkeypatch
):
    cls = NORMALIZATIONS[normalization]
    original_call = cls.__call__
    calls = []

    def record_call(self, x, is_training, limits):
        calls.append((self.name_scope.name, is_training, limits))
        return original_call(self, x, is_training, limits)

    monkeypatch.setattr(cls, "__call__", record_call)
    model = create_resnet(normalization=normalization)
    model(create_images(), is_training, (1.5, 0.5))
    assert len(calls) == len({name for name, _, _ in calls}) == 53
    assert {call[1:] for call in calls} == {(is_training, (1.5, 0.5))}


def test_training_moves_all_statistics_and_inference_none():
    model = create_resnet()
    statistics = [v for v in model.variables if not v.trainable]
    assert len(statistics) == 2 * 53
    for is_training in (False, True):
        before = [v.numpy() for v in statistics]
        model(create_images(), is_training)
        has_moved = [np.any(v != b) for v, b in zip(statistics, before, strict=True)]
        assert set(has_moved) == {is_training}


def test_any_size_and_float16_images():
    model = create_resnet(stages=SHALLOW_STAGES)
    for height, width in ((32, 32), (33, 47), (64, 100)):
        images = np.random.default_rng(0).standard_normal((1, height, width, 3))
        images = images.astype(np.float16)
        logits = model(images, is_training=False)
        assert logits.shape == [1, 3]
        assert logits.dtype == tf.float32
        np.testing.assert_array_equal(
            logits, model(images.astype(np.float32), is_training=False)
        )


def test_kernels_are_all_convolutions_and_the_classifier():
    model = create_resnet()
    names = {v.name for v in model.trainable_variables if v.name.endswith("kernel:0")}
    assert {kernel.name for kernel in model.kernels} == names
    assert len(model.kernels) == len(names) == 54
    assert {len(kernel.shape) for kernel in model.kernels} == {2, 4}


def test_same_seed_same_weights_other_seed_other_weights():
    first, same, other = (create_resnet(seed=seed) for seed in (7, 7, 8))
    names = [variable.name for variable in first.variables]
    assert [variable.name for variable in same.variables] == names
    assert len(set(names)) == len(names)
    for a, b in zip(first.variables, same.variables, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes(), a.name
    for a, b in zip(first.kernels, other.kernels, strict=True):
        assert not np.any(a.numpy() == b.numpy()), a.name


def test_zero_gamma_makes_each_block_its_shortcut():
    model = create_resnet(zero_init_last_gamma=True)
    for blocks in model.stages:
        for block in blocks:
            x = tf.abs(create_images(size=4)[..., :1])
            x *= tf.ones([block.convolution1.kernel.shape[2]])
            shortcut = x
            if block.has_projection:
                shortcut = tf.nn.relu(
                    block.projection_normalization(block.projection(x), False)
                )
            y = block(x, is_training=False, limits=(1.0, 0.0))
            np.testing.assert_array_equal(y, shortcut)


def test_a_checkpoint_restores_everything_under_readable_names(tmp_path):
    images = create_images()
    model = create_resnet(seed=1)
    model(
        images, is_training=True
    )  # So that the moving statistics are not the start's.
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    names = [name.split("/.")[0] for name, _ in tf.train.list_variables(path)]
    assert "model/stem_convolution/kernel" in names
    assert "model/stages/3/2/normalization3/moving_variance" in names
    assert "model/classifier/bias" in names

    restored = create_resnet(seed=2)
    tf.train.Checkpoint(model=restored).read(path).assert_consumed()
    np.testing.assert_array_equal(
        restored(images, is_training=False), model(images, is_training=False)
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_learns_one_small_batch_by_heart(normalization):
    images = create_images(num_images=8)
    labels = tf.range(8)
    model = create_resnet(8, normalization=normalization, seed=1)
    variables = model.trainable_variables
    optimizer = SGDMomentum(variables, momentum=0.9)

    @tf.function
    def train_step():
        with tf.GradientTape() as tape:
            logits = model(images, is_training=True, limits=(1.5, 0.5))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(tape.gradient(loss, variables), 0.005)
        return loss

    losses = [float(train_step()) for _ in range(25)]
    assert losses[0] > 1.5  # About log(8) = 2.08: nothing is known at the start.
    assert losses[-1] < 0.05
