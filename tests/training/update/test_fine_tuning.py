"""Proves what a training with frozen parts, or a slower backbone, changes and saves."""

import numpy as np
import pytest

from resnet50.handoff.progress import Position
from resnet50.training import checkpoint
from resnet50.training.checkpoint_folders import list_checkpoints
from resnet50.training.description import CheckpointError
from resnet50.training.update.schedules import StepNumbers
from tests.training.tiny import create_shallow_training

NUMBERS = StepNumbers(0.05, 1.5, 0.5)
DESCRIPTION = {"precision": "float32", "accumulate_batches": 1, "trainable": "stage2"}


def create_batch(seed):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((4, 32, 32, 3)).astype(np.float32)
    return images, rng.integers(0, 3, 4, np.int32)


def train(training, steps):
    return [float(training.step(*create_batch(s), None, NUMBERS)) for s in steps]


def values(training):
    return {v.name + str(i): v.numpy() for i, v in enumerate(training.variables)}


def changed_parts(before, model):
    return {
        variable.name.partition("_")[0].partition("/")[0]
        for variable, value in zip(model.variables, before, strict=True)
        if variable.numpy().tobytes() != value.tobytes()
    }


def assert_equal(first, second):
    for (name, a), b in zip(values(first).items(), values(second).values()):
        assert a.tobytes() == b.tobytes(), name


@pytest.mark.parametrize(
    ("trainable", "trained"),
    [("stage2", {"stage2", "classifier"}), ("classifier", {"classifier"})],
)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "float16", "accumulate_batches": 2, "l2_penalty_on": "all"},
        {"normalization": "batch_renorm", "precision": "bfloat16"},
        {"xla": True},
        {"optimizer": "lamb", "weight_decay": 0.1, "l2_penalty": 0.0},
    ],
    ids=str,
)
def test_only_trained_parts_change(trainable, trained, settings):
    training = create_shallow_training(
        trainable=trainable, weight_average_decay=0.5, **settings
    )
    before = [v.numpy() for v in training.model.variables]
    if training.accumulation is not None:
        training.accumulate(*create_batch(0), None, NUMBERS)
        num_sums = len(training.accumulation.sums)
        assert num_sums == len(training.model.trainable_variables)
    train(training, range(1, 4))
    assert changed_parts(before, training.model) == trained
    assert changed_parts(before, training.average.model) == trained
    state = [v for v in training.optimizer.variables if v.dtype.is_floating]
    num_moments = 2 if "optimizer" in settings else 1
    num_values = sum(v.shape.num_elements() for v in state)
    assert num_values == num_moments * training.model.num_trained
    assert training._compiled_step.experimental_get_tracing_count() == 1


def test_an_overflow_changes_nothing_where_no_statistics_move():
    training = create_shallow_training(trainable="classifier", precision="float16")
    before = [v.numpy() for v in training.model.variables]
    training.loss_scale.scale.assign(float("inf"))
    assert train(training, [0]) == [0.0]
    assert changed_parts(before, training.model) == set()
    assert int(training.totals.num_skipped) == 1


@pytest.mark.parametrize("penalized", ["kernels", "all"])
def test_the_l2_penalty_leaves_frozen_weights_out(penalized):
    training = create_shallow_training(
        trainable="classifier", l2_penalty=0.1, l2_penalty_on=penalized
    )
    classifier = training.model.classifier
    expected = 0.05 * float((classifier.kernel.numpy() ** 2).sum())
    train(training, [0])
    assert training.totals.means()["l2_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "lamb", "weight_decay": 0.1}])
def test_the_backbone_has_the_factor_and_the_classifier_does_not(optimizer):
    """The first changes by hand: learning rate times factor times gradient."""
    changes = []
    for factor in (1.0, 0.25):
        training = create_shallow_training(backbone_rate_factor=factor, **optimizer)
        before = [v.numpy() for v in training.model.trainable_variables]
        train(training, [0])
        changes.append(
            {
                v.name: v.numpy() - value
                for v, value in zip(training.model.trainable_variables, before)
            }
        )
    assert any(change.any() for change in changes[0].values())
    for (name, whole), quarter in zip(changes[0].items(), changes[1].values()):
        factor = 1 if name.startswith("classifier") else 0.25
        np.testing.assert_allclose(quarter, factor * whole, rtol=1e-3, atol=2e-7)


def test_a_frozen_training_resumes_bitwise(tmp_path):
    first, second = (
        create_shallow_training(
            trainable="stage2", backbone_rate_factor=0.1, weight_average_decay=0.9
        )
        for _ in range(2)
    )
    train(first, range(2))
    checkpoint.save(first, tmp_path, Position(0, 2), DESCRIPTION)
    train(first, range(2, 4))
    train(second, [9])
    (saved,) = list_checkpoints(tmp_path)
    assert checkpoint.load(second, saved, DESCRIPTION)
    train(second, range(2, 4))
    assert_equal(first, second)


@pytest.mark.parametrize("is_old", [False, True])
def test_other_parts_may_be_trained_from_the_next_epoch_on(tmp_path, is_old):
    """The weights and their average go on; the velocities start at 0.

    An old checkpoint says nothing about its parts, which are all.
    """
    whole = create_shallow_training(weight_average_decay=0.9)
    train(whole, range(2))
    whole.totals.reset()
    theirs = {**DESCRIPTION, "trainable": "all"}
    if is_old:
        del theirs["trainable"]
    checkpoint.save(whole, tmp_path, Position(1, 0), theirs)
    frozen = create_shallow_training(trainable="stage2", weight_average_decay=0.9)
    (saved,) = list_checkpoints(tmp_path)
    assert not checkpoint.load(frozen, saved, DESCRIPTION)
    for part in "model", "average":
        assert_equal(getattr(whole, part), getattr(frozen, part))
    assert not any(v.numpy().any() for v in frozen.optimizer.velocities)
    before = [v.numpy() for v in frozen.model.variables]
    train(frozen, [2])
    assert changed_parts(before, frozen.model) == {"stage2", "classifier"}

    checkpoint.save(frozen, tmp_path, Position(2, 0), DESCRIPTION)
    assert not checkpoint.load(
        whole, list_checkpoints(tmp_path)[-1], theirs | {"trainable": "all"}
    )
    assert_equal(whole.model, frozen.model)


def test_inside_an_epoch_the_same_parts_must_be_trained(tmp_path):
    training = create_shallow_training(trainable="stage2")
    checkpoint.save(training, tmp_path, Position(1, 3), DESCRIPTION)
    (saved,) = list_checkpoints(tmp_path)
    here = {**DESCRIPTION, "trainable": "all"}
    expected = "was trained with trainable = stage2, here it is all .change that back"
    with pytest.raises(CheckpointError, match=expected):
        checkpoint.load(create_shallow_training(), saved, here)
