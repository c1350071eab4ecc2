"""Proves how two replicas train, with the CPU split into two logical devices.

TensorFlow must be set up for them before its first use, so ``test_mirrored`` runs this
file in a separate process.
"""

import numpy as np
import pytest
import tensorflow as tf

from resnet50.handoff.progress import Position
from resnet50.network.model import NORMALIZATIONS, SYNCHRONIZED
from resnet50.training import checkpoint
from resnet50.training.checkpoint_folders import Checkpoint
from resnet50.training.devices.mirrored import MirroredDevices
from resnet50.training.devices.protocol import ONE_DEVICE
from resnet50.training.update.schedules import StepNumbers
from tests.training.tiny import create_shallow_training
from tests.training.tolerances import make_smooth

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
TWO = MirroredDevices(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
DESCRIPTION = {"precision": "float32", "accumulate_batches": 1}


def create_batch(seed, size=32):
    rng = np.random.default_rng(seed)
    # The means of the two halves differ, so a test notices which half is used.
    images = rng.standard_normal((8, size, size, 3)) + np.arange(8).reshape(8, 1, 1, 1)
    return images.astype(np.float32), rng.integers(0, 3, 8, np.int32)


def train(training, steps, learning_rate=0.05, batches=create_batch, share=1.0):
    """Trains some steps; each number is also the seed of its batch. Returns losses."""
    numbers = StepNumbers(learning_rate, 1.5, 0.5, share)
    losses = []
    for step in steps:
        losses.append(float(training.step(*batches(step), None, numbers)))
    return losses


def values(training):
    return [(variable.name, variable.numpy()) for variable in training.variables]


def assert_equal(first, second):
    for (name, a), (_, b) in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes(), name


def assert_copies_are_equal(training):
    for variable in training.variables:
        first, second = TWO.strategy.experimental_local_results(variable)
        assert first.numpy().tobytes() == second.numpy().tobytes(), variable.name


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_synchronized_replicas_follow_one(normalization, monkeypatch):
    """Losses, statistics, totals and averaged weights agree to 1e-4.

    With class weights too, whose sums differ in the two halves of a batch. The network
    is smooth: within six steps rounding would change the sign of some ReLU's input.
    """
    make_smooth(monkeypatch)
    settings = {"l2_penalty": 1e-3, "weight_average_decay": 0.5}
    settings["class_weights"] = np.array([0.3, 1, 2], np.float32)
    one, two = (
        create_shallow_training(normalization, replicas, True, **settings)
        for replicas in (ONE_DEVICE, TWO)
    )
    kinds = {type(module) for module in two.model.submodules}
    assert SYNCHRONIZED[normalization] in kinds
    assert NORMALIZATIONS[normalization] not in kinds
    expected = train(one, range(6))
    assert expected[-1] != pytest.approx(expected[0], rel=0.02)  # It has learned.
    assert train(two, range(6)) == pytest.approx(expected, rel=1e-4)
    for theirs, ours in zip(one.variables, two.variables, strict=True):
        theirs = theirs.numpy()
        atol = 1e-4 * np.abs(theirs).max()
        np.testing.assert_allclose(
            ours.numpy(), theirs, rtol=0, atol=atol, err_msg=ours.name
        )
    assert_copies_are_equal(two)
    # One trace was enough for all steps.
    assert two._compiled_step.experimental_get_tracing_count() == 1
    assert two.totals.means()["top5"] == one.totals.means()["top5"] == 1


def test_a_first_step_by_hand():
    """Equals the mean of two steps on one device, one with each half of the batch.

    Each replica normalizes with its half only, as the one device does.
    """
    two = create_shallow_training(replicas=TWO)
    train(two, [0])
    images, labels = create_batch(0)
    halves = []
    for half in (slice(0, 4), slice(4, 8)):
        halves.append(create_shallow_training())
        part = images[half], labels[half]
        train(halves[-1], [0], batches=lambda seed, part=part: part)
    for ours, *theirs in zip(two.variables, *(h.variables for h in halves)):
        if ours.dtype == tf.float32:
            mean = (theirs[0].numpy() + theirs[1].numpy()) / 2
            np.testing.assert_allclose(ours.numpy(), mean, rtol=1e-4, atol=1e-6)
    assert int(two.totals.num_images.numpy()) == 8
    assert int(two.totals.num_batches.numpy()) == 1
    hits = [int(half.totals.top1.numpy()) for half in halves]
    assert int(two.totals.top1.numpy()) == sum(hits)
    loss = sum(float(half.totals.loss.numpy()) for half in halves) / 2
    assert float(two.totals.loss.numpy()) == pytest.approx(loss, rel=1e-5)


def test_an_overflow_on_one_replica_skips_the_update_on_both():
    training = create_shallow_training(
        replicas=TWO, precision="float16", weight_average_decay=0.9
    )
    train(training, [0])
    before = dict(values(training.model))

    def overflowing(seed):
        images, labels = create_batch(seed)
        images[6] = 1e6  # Infinite as float16, in the second half.
        return images, labels

    scale = float(training.loss_scale.scale.numpy())
    assert train(training, [1], batches=overflowing) == [0.0]
    assert_equal(before.items(), values(training.model))
    assert float(training.loss_scale.scale.numpy()) == scale / 2
    assert int(training.totals.num_skipped.numpy()) == 1
    assert_copies_are_equal(training)


SGD = {"mixup_alpha": 0.2, "nesterov": True}
LAMB = {
    "cutmix_alpha": 1.0,
    "optimizer": "lamb",
    "l2_penalty": 0.0,
    "weight_decay": 0.02,
}


@pytest.mark.parametrize("settings", [SGD, LAMB])
def test_copies_stay_equal_whatever_is_switched_on(settings):
    training = create_shallow_training(
        replicas=TWO,
        precision="float16",
        accumulate_batches=2,
        weight_average_decay=0.9,
        **settings,
    )
    training.accumulate(*create_batch(0), None, StepNumbers(0.05, 1.5, 0.5, 0.7))
    assert_copies_are_equal(training)
    train(training, [1], share=0.7)
    assert_copies_are_equal(training)
    assert training.is_finite()
    training.totals.reset()
    assert_copies_are_equal(training)
    assert int(training.totals.num_images.numpy()) == 0


@pytest.mark.parametrize(("before", "after"), [(ONE_DEVICE, TWO), (TWO, ONE_DEVICE)])
def test_checkpoints_move_between_one_and_two(tmp_path, before, after):
    """The values are bitwise equal; the next loss agrees to rounding."""
    one, other = (
        create_shallow_training("batch_renorm", replicas, True)
        for replicas in (before, after)
    )
    train(one, range(2))
    position = Position(0, 2)
    path = checkpoint.save(one, tmp_path, position, DESCRIPTION)
    train(other, [7])
    saved = Checkpoint(path, position)
    checkpoint.load(other, saved, DESCRIPTION)
    assert_equal(values(one), values(other))
    if after is TWO:
        assert_copies_are_equal(other)
    assert train(other, [2]) == pytest.approx(train(one, [2]), rel=1e-4)


def test_two_replicas_resume_bitwise(tmp_path):
    """With statistics that differ between the halves and are used in training."""
    first, second = (create_shallow_training("batch_renorm", TWO) for _ in range(2))
    train(first, range(2))
    position = Position(0, 2)
    path = checkpoint.save(first, tmp_path, position, DESCRIPTION)
    train(first, range(2, 4))
    checkpoint.load(second, Checkpoint(path, position), DESCRIPTION)
    train(second, range(2, 4))
    assert_equal(values(first), values(second))


def test_frozen_parts_stay_on_both_replicas():
    """And the trained parts are those of one device, to rounding."""
    settings = {"trainable": "stage2", "backbone_rate_factor": 0.5}
    one, two = (
        create_shallow_training("batch_norm", replicas, True, **settings)
        for replicas in (ONE_DEVICE, TWO)
    )
    before = values(two.model)
    expected = train(one, range(2))
    assert train(two, range(2)) == pytest.approx(expected, rel=1e-4)
    assert_copies_are_equal(two)
    changed = {
        name.partition("_")[0].partition("/")[0]
        for (name, old), (_, new) in zip(before, values(two.model), strict=True)
        if old.tobytes() != new.tobytes()
    }
    assert changed == {"stage2", "classifier"}


def test_uint8_images_are_divided_with_their_shifts():
    one, two = (
        create_shallow_training(replicas=replicas, is_synchronized=True)
        for replicas in (ONE_DEVICE, TWO)
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 32, 32, 3), np.uint8)
    shifts = rng.standard_normal((8, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 8, np.int32)
    batch = images, labels, shifts, StepNumbers(0.1)
    losses = [float(training.step(*batch)) for training in (one, two) for _ in range(2)]
    assert losses[2:] == pytest.approx(losses[:2], rel=1e-4)
