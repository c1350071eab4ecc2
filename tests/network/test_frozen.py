"""Proves what ``trainable`` of [model] freezes, and that the rest trains as ever."""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.config.settings import ModelConfig
from resnet50.network.model import FIRST_TRAINED, STAGES, Stage
from tests.network.networks import create_resnet

SMALL_STAGES = tuple(Stage(1, 4 * 2**i, stage.stride) for i, stage in enumerate(STAGES))
PARTS = ("stem", "stage1", "stage2", "stage3", "stage4", "classifier")


def part_of(variable) -> str:
    return variable.name.partition("_")[0].partition("/")[0]


def create_pair(trainable, **settings):
    """Two networks with equal weights and statistics: one frozen, one whole."""
    pair = [
        create_resnet(stages=SMALL_STAGES, seed=1, trainable=value, **settings)
        for value in (trainable, "all")
    ]
    rng = np.random.default_rng(0)
    for ours, theirs in zip(*(network.variables for network in pair), strict=True):
        if "moving" in ours.name or "gamma" in ours.name:
            ours.assign(rng.uniform(0.5, 1.5, ours.shape))
            theirs.assign(ours)
    return pair


def create_images():
    return np.random.default_rng(2).standard_normal((4, 64, 64, 3)).astype(np.float32)


def test_the_values_are_those_of_the_setting():
    field = ModelConfig.__dataclass_fields__["trainable"]
    expected = " or ".join(f'"{value}"' for value in FIRST_TRAINED)
    assert field.metadata["expects"] == expected


@pytest.mark.parametrize("trainable", FIRST_TRAINED)
def test_the_trained_parts_are_those_from_the_named_one_on(trainable):
    frozen, whole = create_pair(trainable)
    first = PARTS.index("stem" if trainable == "all" else trainable)
    assert {part_of(v) for v in frozen.trainable_variables} == set(PARTS[first:])
    assert {part_of(v) for v in frozen.kernels} == set(PARTS[first:])
    moving = {part_of(v) for v in frozen.moving_statistics}
    assert moving == set(PARTS[first:-1])
    assert frozen.num_parameters == whole.num_parameters == whole.num_trained
    assert sum(v.shape.num_elements() for v in frozen.trainable_variables) == (
        frozen.num_trained
    )
    assert (frozen.num_trained < whole.num_trained) == (trainable != "all")
    names = [[v.name for v in network.variables] for network in (frozen, whole)]
    assert names[0] == names[1]


def forward_in_two_modes(network, images, first):
    """The logits if the parts before ``first`` are as at inference."""
    x, is_training, limits = tf.constant(images), first == 0, (1.5, 0.5)
    x = network.stem_normalization(network.stem_convolution(x), is_training, limits)
    x = tf.nn.max_pool2d(tf.nn.relu(x), 3, 2, [[0, 0], [1, 1], [1, 1], [0, 0]])
    for number, blocks in enumerate(network.stages, start=1):
        for block in blocks:
            x = block(x, number >= first, limits)
    return network.classifier(tf.reduce_mean(x, [1, 2]))


@pytest.mark.parametrize("normalization", ["batch_norm", "batch_renorm"])
@pytest.mark.parametrize("trainable", FIRST_TRAINED)
def test_gradients_are_those_of_the_whole_network_in_two_modes(
    trainable, normalization
):
    frozen, whole = create_pair(trainable, normalization=normalization)
    images, first = create_images(), FIRST_TRAINED[trainable]
    with tf.GradientTape() as tape:
        logits = frozen(images, is_training=True, limits=(1.5, 0.5))
        loss = tf.reduce_sum(logits**2)
    gradients = tape.gradient(loss, frozen.trainable_variables)
    names = {v.name for v in frozen.trainable_variables}
    same = [v for v in whole.trainable_variables if v.name in names]
    with tf.GradientTape() as tape:
        expected = forward_in_two_modes(whole, images, first)
        loss = tf.reduce_sum(expected**2)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(gradients, tape.gradient(loss, same), strict=True):
        atol = 1e-4 * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)
    # The statistics moved in the trained part only, in both networks alike.
    for ours, theirs in zip(frozen.variables, whole.variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_frozen_parts_are_the_same_in_training_and_at_inference():
    frozen, _ = create_pair("classifier")
    images = create_images()
    before = [v.numpy() for v in frozen.variables]
    training, inference = (frozen(images, mode).numpy() for mode in (True, False))
    np.testing.assert_array_equal(training, inference)
    for variable, value in zip(frozen.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize(("trainable", "num"), [("classifier", 0), ("stage4", 4)])
def test_backward_stops_at_the_first_trained_part(trainable, num):
    """In a stage of one block there are four convolutions."""
    frozen, _ = create_pair(trainable)

    @tf.function
    def gradients(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(frozen(images, is_training=True))
        return tape.gradient(loss, frozen.trainable_variables)

    graph = gradients.get_concrete_function(tf.TensorSpec([2, 32, 32, 3])).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("Conv2DBackpropFilter") == num
    assert kinds.count("MaxPoolGrad") == 0
    assert kinds.count("FusedBatchNormGradV3") == num
