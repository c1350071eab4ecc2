"""Proves that the network computes what Keras's and torchvision's ResNet-50 compute.

With the same weights, on 224-pixel images, in training and inference mode: logits and
each of the 161 gradients to 1e-4, relative, by the 2-norm, in float32. What parity.py
says about ReLUs applies. Twenty steps of training give torchvision's losses to 1e-3.

torch and torchvision are the extra "reference"; where they are absent, numbers that
torchvision once gave are compared with.
"""

import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet50.network.model import ResNet50
from resnet50.network.torchvision_names import named_variables, to_state_dict
from tests.network import parity
from tests.network.keras_weights import (
    KERAS_EPSILON,
    copy_weights_to_keras,
    pair_with_keras,
)
from tests.network.parity import Pieces
from tests.training.tolerances import difference

# Forward and back, 2 * 53 layers round by some 2.4 * 2**-24 each, in all 1.5e-5; twice
# that in the gradients of betas, which are sums that nearly cancel out.
TOLERANCE = 1e-4
MODES = pytest.mark.parametrize(
    "is_training", [True, False], ids=["training", "inference"]
)
HAS_TORCH = importlib.util.find_spec("torch") and importlib.util.find_spec(
    "torchvision"
)
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="needs the extra 'reference'")


def logits_and_gradients(model, images, labels, is_training):
    """Logits, and the gradients of the mean cross-entropy in torchvision's layouts."""
    variables = {k: v for k, v in named_variables(model).items() if v.trainable}
    with tf.GradientTape() as tape:
        logits = model(images, is_training)
        loss = parity.cross_entropy(logits, labels)
    gradients = tape.gradient(loss, variables)
    return logits.numpy(), {k: to_their_layout(g) for k, g in gradients.items()}


def to_their_layout(gradient):
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[len(gradient.shape)]
    return tf.transpose(gradient, axes).numpy()


def assert_equal_to(reference, pieces, model, images, labels, is_training):
    """Compares our network on the reference's pieces with (logits, gradients)."""
    with pieces.imposed():
        logits, gradients = logits_and_gradients(model, images, labels, is_training)
    expected_logits, expected = reference
    assert difference(logits, expected_logits) < TOLERANCE
    assert gradients.keys() == expected.keys()
    assert len(gradients) == 161
    differences = {k: difference(gradients[k], expected[k]) for k in gradients}
    assert max(differences.values()) < TOLERANCE, differences


def create_keras_peer(model, size):
    """Keras's network with our weights, and its variables by the names of ours."""
    peer = keras.applications.ResNet50(
        weights=None,
        classes=parity.NUM_CLASSES,
        classifier_activation=None,
        input_shape=(size, size, 3),
    )
    names = {v.ref(): name for name, v in named_variables(model).items()}
    pairs = copy_weights_to_keras(pair_with_keras(model, peer))
    return peer, {names[ours.ref()]: theirs for ours, theirs in pairs}


@MODES
def test_logits_and_gradients_equal_those_of_keras(is_training):
    model = parity.create_network("v1", KERAS_EPSILON)
    images, labels = parity.create_batch(*parity.GRADIENT_BATCH)
    peer, variables = create_keras_peer(model, images.shape[1])
    pieces = Pieces()
    with pieces.recorded(), tf.GradientTape() as tape:
        logits = peer(images, training=is_training)
        loss = parity.cross_entropy(logits, labels)
    gradients = tape.gradient(loss, variables)
    expected = {name: to_their_layout(g) for name, g in gradients.items()}
    reference = (logits.numpy(), expected)
    assert len(pieces.inputs) == 49
    assert_equal_to(reference, pieces, model, images, labels, is_training)


@MODES
@needs_torch
def test_logits_and_gradients_equal_those_of_torchvision(is_training):
    from tests.network import torchvision_peer

    model = parity.create_network("v1.5", 1e-5)
    images, labels = parity.create_batch(*parity.GRADIENT_BATCH)
    peer, pieces = torchvision_peer.create_peer(model), Pieces()
    torchvision_peer.record_pieces(peer, pieces)
    reference = torchvision_peer.logits_and_gradients(peer, images, labels, is_training)
    assert len(pieces.inputs) == 49
    assert_equal_to(reference, pieces, model, images, labels, is_training)
    if is_training:  # The moving statistics have made a step too.
        statistics = {k: v.numpy() for k, v in peer.state_dict().items()}
        for name, value in to_state_dict(model).items():
            if "running" in name:
                assert difference(value, statistics[name]) < TOLERANCE, name


@needs_torch
def test_twenty_steps_follow_torchvision():
    from tests.network import torchvision_peer

    losses, inference_loss = parity.train_steps()
    expected, expected_inference_loss = torchvision_peer.train_steps()
    np.testing.assert_allclose(losses, expected, rtol=1e-3)
    assert inference_loss == pytest.approx(expected_inference_loss, rel=1e-2)
    assert losses[-1] < 0.6 * losses[0]


@pytest.fixture(scope="module")
def stored():
    reference = parity.read_reference()
    images, labels = parity.create_batch(*parity.GRADIENT_BATCH)
    step_images, _ = parity.create_batch(*parity.STEP_BATCH)
    # If these fail, numpy draws other numbers, or the first weights have changed:
    # `python -m tests.network.torchvision_peer` makes the reference anew.
    found = parity.fingerprint([images, labels, step_images])
    assert parity.is_same(found, reference["inputs"])
    return reference


@MODES
def test_logits_and_gradients_equal_the_stored_ones(stored, is_training):
    """Without torch's pieces: what a few ReLUs do to a norm is below 1 %."""
    model = parity.create_network("v1.5", 1e-5)
    assert parity.is_same(parity.fingerprint(model.variables), stored["weights"])
    images, labels = parity.create_batch(*parity.GRADIENT_BATCH)
    logits, gradients = logits_and_gradients(model, images, labels, is_training)
    expected = stored["training" if is_training else "inference"]
    assert difference(logits, expected["logits"]) < TOLERANCE
    norms = {name: float(np.linalg.norm(g)) for name, g in gradients.items()}
    assert norms == pytest.approx(expected["gradient_norms"], rel=1e-2)


def test_twenty_steps_follow_the_stored_losses(stored):
    weights = parity.create_training().model.variables
    assert parity.is_same(parity.fingerprint(weights), stored["first_weights"])
    losses, inference_loss = parity.train_steps()
    np.testing.assert_allclose(losses, stored["losses"], rtol=1e-3)
    assert inference_loss == pytest.approx(stored["inference_loss"], rel=1e-2)


def test_the_comparison_notices_another_network():
    """A wrong epsilon, stride or layer would not pass."""
    model = parity.create_network("v1.5", 1e-5)
    images, _ = parity.create_batch(1, 64)
    logits = model(images, is_training=False)
    for variant, epsilon in (("v1", 1e-5), ("v1.5", 1e-3)):
        other = parity.create_network(variant, epsilon)
        assert difference(other(images, is_training=False), logits) > 3 * TOLERANCE
    assert isinstance(model, ResNet50)
