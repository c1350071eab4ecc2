"""Proves which pixels a crop of a validation image has, and how it is predicted."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet50.config.settings import EvaluationConfig
from resnet50.dataset.class_folders import list_class_folders
from resnet50.pixels.resampling import views
from resnet50.training.evaluation import EvaluationError, Evaluator
from resnet50.training.update.totals import count_correct
from tests.settings import SETTINGS


def coordinates(width, height):
    """An image whose red is the column and whose green is the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


def corners(crops):
    """(left, top) of each crop of an image of ``coordinates``."""
    return [(int(crop[0, 0, 0]), int(crop[0, 0, 1])) for crop in crops]


def test_the_one_crop_is_the_centre():
    crops = views(coordinates(60, 40), shorter_side=40, crop_size=32, num_crops=1)
    assert crops.shape == (1, 32, 32, 3)
    assert corners(crops) == [(14, 4)]
    # Half of 27 is rounded to 14, half of 29 too, as in torchvision.
    for width in (59, 61):
        image = coordinates(width, 40)
        crops = views(image, shorter_side=40, crop_size=32, num_crops=1)
        assert corners(crops) == [(14, 4)]


def test_the_ten_crops_are_corners_centre_and_mirrors():
    crops = views(coordinates(60, 40), shorter_side=40, crop_size=32, num_crops=10)
    assert corners(crops[:5]) == [(0, 0), (28, 0), (0, 8), (28, 8), (14, 4)]
    np.testing.assert_array_equal(crops[5:], crops[:5, :, ::-1])


def test_the_shorter_side_is_resized_whichever_it_is():
    for size in ((120, 80), (80, 120), (30, 20)):
        image = Image.new("RGB", size, (10, 20, 30))
        crops = views(image, shorter_side=40, crop_size=40, num_crops=10)
        assert crops.shape == (10, 40, 40, 3)
        assert np.all(crops == (10, 20, 30))


class ColourModel(tf.Module):
    """The logit of a class is the share of its colour."""

    def __call__(self, images, is_training):
        assert not is_training
        return 10 * tf.reduce_mean(images, [1, 2])


def make_images(folder, names, colours):
    """Writes flat images into class folders; a colour of None is a broken file."""
    for number, (name, colour) in enumerate(zip(names, colours, strict=True)):
        (folder / name).mkdir(exist_ok=True, parents=True)
        path = folder / name / f"{number}.png"
        if colour is None:
            path.write_bytes(b"not an image")
        else:
            Image.new("RGB", (50, 40), colour).save(path)
    return list_class_folders(folder, ("blue", "green", "red"))


def evaluator(num_crops, batch_size):
    config = dataclasses.replace(
        SETTINGS,
        dataset=dataclasses.replace(
            SETTINGS.dataset, channel_mean=(0.0, 0.0, 0.0), channel_std=(1.0, 1.0, 1.0)
        ),
        augmentation=dataclasses.replace(SETTINGS.augmentation, crop_size=32),
        evaluation=EvaluationConfig(
            shorter_side=36, batch_size=batch_size, num_workers=2
        ),
    )
    return Evaluator(ColourModel(), config, num_crops)


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.mark.parametrize(("num_crops", "batch_size"), [(1, 2), (10, 20), (10, 3)])
def test_hits_are_counted_over_incomplete_batches(tmp_path, num_crops, batch_size):
    # ColourModel predicts class 0 for red, 1 for green, 2 for blue.
    names = ["blue", "blue", "green", "red", "red"]
    dataset = make_images(tmp_path, names, [RED, GREEN, GREEN, BLUE, RED])
    shown = []
    accuracy = evaluator(num_crops, batch_size).evaluate(dataset, shown.append)
    assert accuracy.top1 == pytest.approx(3 / 5)
    assert accuracy.top5 == 1  # of three classes
    assert accuracy.num_images == shown[-1] == 5
    assert shown == sorted(set(shown))
    assert 0 < accuracy.loss < 50


def test_unreadable_images_are_named_and_do_not_count(tmp_path):
    names = ["blue", "green", "green", "red"]
    dataset = make_images(tmp_path, names, [RED, GREEN, None, BLUE])
    accuracy = evaluator(1, 2).evaluate(dataset, lambda n: None)
    assert (accuracy.top1, accuracy.num_images) == (1, 3)
    assert accuracy.outcomes.unreadable == {2: "is no image that Pillow knows"}
    assert accuracy.outcomes.ranks.tolist() == [1, 1, 0, 1]
    ((path, reason),) = accuracy.unreadable
    assert path == str(tmp_path / "green" / "2.png")
    assert "no image" in reason


def test_a_network_without_numbers_is_never_right(tmp_path):
    dataset = make_images(tmp_path, ["blue", "red"], [RED, BLUE])
    subject = evaluator(1, 2)
    subject._model = lambda images, is_training: np.nan * images[:, 0, 0]
    accuracy = subject.evaluate(dataset, lambda n: None)
    assert (accuracy.top1, accuracy.top5, accuracy.num_images) == (0, 0, 2)
    assert accuracy.outcomes.ranks.tolist() == [4, 4]


def test_predictions_are_what_the_accuracy_counts(tmp_path):
    """Unreadable images have a reason instead."""
    names = ["blue", "blue", "green", "green", "red"]
    dataset = make_images(tmp_path, names, [RED, GREEN, None, GREEN, RED])
    subject = evaluator(10, 20)
    predictions = list(subject.predict(dataset.sources(range(5))))
    sources = dataset.sources(range(5))
    assert {p.source for p in predictions} == set(sources)
    answers = {p.source: p.probabilities for p in predictions}
    hits = [
        answers[source].argmax() == label
        for source, label in zip(sources, dataset.labels)
        if answers[source] is not None
    ]
    assert hits == [True, False, True, False]
    accuracy = subject.evaluate(dataset, lambda n: None)
    assert accuracy.top1 == np.mean(hits)
    outcomes = accuracy.outcomes
    for index, source in enumerate(sources):
        if (expected := answers[source]) is not None:
            label = dataset.labels[index]
            assert outcomes.predicted[index] == expected.argmax()
            assert outcomes.probabilities[index] == pytest.approx(expected.max())
            own = outcomes.label_probabilities[index]
            assert own == pytest.approx(expected[label])
            assert outcomes.ranks[index] == 1 + np.sum(expected > expected[label])
    (lost,) = (p for p in predictions if p.probabilities is None)
    assert (str(lost.source), lost.reason) == (
        str(tmp_path / "green" / "2.png"),
        "is no image that Pillow knows",
    )
    # A flat red image has the logits 10, 0, 0 in each of its crops.
    expected = np.exp([10, 0, 0]) / np.exp([10, 0, 0]).sum()
    np.testing.assert_allclose(predictions[0].probabilities, expected, rtol=1e-5)


def test_nothing_readable_is_an_error(tmp_path):
    dataset = make_images(tmp_path, ["blue"], [None])
    with pytest.raises(EvaluationError, match="none of the 1 validation images"):
        evaluator(1, 2).evaluate(dataset, lambda n: None)


def test_probabilities_are_averaged_not_votes():
    """Nine crops slightly prefer class 0, one is sure of class 1: class 1 wins."""

    class Unsure(tf.Module):
        def __call__(self, images, is_training):
            sure = tf.cast(images[:, 0, 0, 0] > 0.5, tf.float32)
            return tf.stack([0.2 * (1 - sure), 20 * sure], axis=1)

    images = np.zeros((1, 10, 32, 32, 3), np.float32)
    images[0, 3] = 1
    subject = evaluator(10, 10)
    subject._model = Unsure()
    # Means: class 0 has 0.9 * 0.55 = 0.495, class 1 has 0.9 * 0.45 + 0.1 = 0.505.
    judged = subject._judge(images, np.array([1], np.int32))
    ((predicted,), (rank,), (best,), (true,)) = (part.numpy() for part in judged)
    assert (predicted, rank, best) == (1, 1, true)
    share = np.exp(0.2) / (1 + np.exp(0.2))  # Of class 0 in each of the nine.
    mean = 0.9 * (1 - share) + 0.1 / (1 + np.exp(-20))
    assert true == pytest.approx(np.log(mean), rel=1e-5)


def test_a_rank_is_one_more_than_the_classes_above():
    """Equal classes share a rank, as in a training's top-1 and top-5."""
    rng = np.random.default_rng(0)
    logits = rng.integers(0, 4, (64, 7)).astype(np.float32)  # Many are equal.
    logits[5] = np.nan
    labels = rng.integers(0, 7, 64).astype(np.int32)
    subject = evaluator(1, 10)
    subject._mean_logs = lambda images: tf.constant(logits)
    predicted, ranks, best, true = (
        part.numpy() for part in subject._judge_logs(None, labels)
    )
    for k in (1, 5):
        assert np.sum(ranks <= k) == count_correct(logits, labels, k)
    finite = np.isfinite(logits).all(1)
    rows, labels = logits[finite], labels[finite]
    own = rows[np.arange(len(rows)), labels]
    np.testing.assert_array_equal(ranks[finite], 1 + (rows > own[:, None]).sum(1))
    np.testing.assert_array_equal(true[finite], own)
    np.testing.assert_array_equal(best[finite], rows.max(1))
    is_right = predicted[finite] == labels
    np.testing.assert_array_equal(is_right, own == rows.max(1))
    others = rows[~is_right].argmax(1)
    np.testing.assert_array_equal(predicted[finite][~is_right], others)
    assert 10 < is_right.sum() < 50
    assert ranks[5] == 8  # No number is below anything.
