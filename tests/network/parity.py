"""What the comparisons with other implementations share: networks, inputs, measures.

Float32 gradients of two correct ResNet-50s differ by up to 1 %, even those of
torchvision in float32 and in float64: of the ten million inputs of a ReLU a handful are
so near to 0 that rounding decides their sign, and a gradient jumps there. So do they
where two pixels of a max pooling window are equal to rounding. ``Pieces`` takes that
away: it records what the reference's kinks are given, and imposes the reference's side
of each on the other network, after checking that only rounding separates the two.
"""

import contextlib
import dataclasses
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet50.network.model import ResNet50
from resnet50.pixels.augmentation import ChannelStatistics
from resnet50.training.update import step
from resnet50.training.update.schedules import StepNumbers
from tests.network.networks import create_resnet
from tests.settings import SETTINGS

REFERENCE_PATH = Path(__file__).parent / "torchvision_reference.json"
NUM_CLASSES = 10
NUM_STEPS, STEP_LEARNING_RATE, L2_PENALTY, MOMENTUM = 20, 0.01, 1e-4, 0.9


def create_network(variant: str, epsilon: float) -> ResNet50:
    """A network in which each variable leaves a trace, and which rounds well.

    Betas above 0 leave most ReLUs open, so that 53 layers do not blow up rounding. Of
    the stem, whose beta's gradient would then nearly cancel out, they are around 0.
    """
    model = create_resnet(NUM_CLASSES, variant=variant, epsilon=epsilon, seed=1)
    rng = np.random.default_rng(2)
    for variable in model.variables:
        if "normalization" in variable.name:
            low, high = 0.5, 1.5
            if "mean" in variable.name:
                low, high = -0.3, 0.3
            elif "stem" in variable.name and "beta" in variable.name:
                low, high = -0.5, 0.5
            variable.assign(rng.uniform(low, high, variable.shape).astype(np.float32))
    return model


def create_batch(num_images: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, float32 [N, size, size, 3], and labels, int32 [N]."""
    rng = np.random.default_rng(3)
    images = rng.standard_normal((num_images, size, size, 3)).astype(np.float32)
    return images, np.arange(num_images, dtype=np.int32) % NUM_CLASSES


# The largest error that is taken for rounding; see assert_equal_to_rounding.
ROUNDING = 5e-5

# What logits and gradients are compared on, and what twenty steps train on.
GRADIENT_BATCH, STEP_BATCH = (2, 224), (8, 96)


def create_training() -> step.Training:
    """config.txt's training, on ten classes and with the settings of the twenty steps.

    As shipped, the last gamma of each block starts at 0. With 1 the first steps are so
    wild that torchvision's own losses in float32 and float64 part by 10 %.
    """
    assert SETTINGS.model.zero_init_last_gamma
    train = dataclasses.replace(
        SETTINGS.train, seed=5, momentum=MOMENTUM, l2_penalty=L2_PENALTY
    )
    statistics = ChannelStatistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return step.create_training(NUM_CLASSES, SETTINGS.model, train, statistics)


def fingerprint(arrays) -> list[float]:
    """Tells whether random numbers and first weights are still those of before.

    The norm of all values, their sum, and their sum weighted by place, in float64. It
    is no digest of their bits: one normal number in some thousands goes through the C
    library's logarithm, whose last bit differs from library to library.
    """
    totals = np.zeros(3)
    for array in arrays:
        values = np.asarray(array, np.float64).ravel()
        places = np.arange(values.size) % 251 / 251
        totals += values @ values, values.sum(), values @ places
    return [float(totals[0] ** 0.5), *totals[1:].tolist()]


def is_same(found: list[float], stored: list[float]) -> bool:
    """Whether two fingerprints are; other numbers differ by a share of their norm."""
    return np.allclose(found, stored, rtol=0, atol=1e-6 * stored[0])


def train_steps() -> tuple[list[float], float]:
    """Losses of the twenty steps, and the loss in inference mode after them."""
    training = create_training()
    images, labels = create_batch(*STEP_BATCH)
    numbers = StepNumbers(STEP_LEARNING_RATE)
    losses = [
        float(training.step(images, labels, None, numbers)) for _ in range(NUM_STEPS)
    ]
    logits = training.model(images, is_training=False)
    return losses, float(cross_entropy(logits, labels))


def cross_entropy(logits, labels):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    )


def read_reference() -> dict:
    return json.loads(REFERENCE_PATH.read_text())


class Pieces:
    """The side of each kink that a network is on, in the order of its layers.

    Attributes:
        inputs: Of each ReLU, float32 [N, H, W, C].
        largest: For the max pooling, int [N, H, W, C], the place of each window's
            largest pixel in its padded image, row * width + column.
    """

    def __init__(self):
        self.inputs: list[np.ndarray] = []
        self.largest: np.ndarray | None = None

    @contextlib.contextmanager
    def recorded(self):
        """Records what TensorFlow's functions do inside the block."""
        relu, max_pool = tf.nn.relu, tf.nn.max_pool

        def recording_relu(x, *args, **kwargs):
            self.inputs.append(x.numpy())
            return relu(x, *args, **kwargs)

        def recording_max_pool(x, *args, **kwargs):
            _, places = tf.nn.max_pool_with_argmax(x, 3, 2, "VALID")
            self.largest = places.numpy() // x.shape[-1]
            return max_pool(x, *args, **kwargs)

        with _replaced(relu=recording_relu, max_pool=recording_max_pool):
            yield

    @contextlib.contextmanager
    def imposed(self):
        """Puts our network on the recorded side, where only rounding objects."""
        max_pool = tf.nn.max_pool2d
        left = iter(self.inputs)

        def imposed_relu(x):
            expected = next(left)
            assert_equal_to_rounding(x.numpy(), expected)
            return x * (expected > 0).astype(np.float32)

        def imposed_max_pool(x, *args):
            count, height, width, channels = x.shape
            planes = tf.transpose(x, [0, 3, 1, 2])
            planes = tf.reshape(planes, [count, channels, height * width])
            places = self.largest.transpose(0, 3, 1, 2)
            y = tf.gather(planes, places, axis=2, batch_dims=2)
            y = tf.transpose(y, [0, 2, 3, 1])
            assert_equal_to_rounding(y.numpy(), max_pool(x, *args).numpy())
            return y

        with _replaced(relu=imposed_relu, max_pool2d=imposed_max_pool):
            yield
        assert next(left, None) is None


def assert_equal_to_rounding(x: np.ndarray, expected: np.ndarray) -> None:
    """Compares two networks' activations of a layer.

    Each of 53 layers adds some 2.4 roundings of 2**-24 deviations to the error, in all
    7.6e-6, as a root of its mean square. Seven times that is allowed; and of millions
    of values none is ten times as far off. What is further from a kink is on its side.
    """
    errors = np.abs(x - expected) / expected.std()
    assert np.sqrt(np.square(errors).mean()) < ROUNDING
    assert errors.max() < 10 * ROUNDING


@contextlib.contextmanager
def _replaced(**functions):
    originals = {name: getattr(tf.nn, name) for name in functions}
    for name, function in functions.items():
        setattr(tf.nn, name, function)
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(tf.nn, name, function)
