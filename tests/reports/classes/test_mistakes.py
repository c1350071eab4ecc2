"""Proves which pictures of mistakes are found, and why others are not."""

import io
import shutil

import pytest
from PIL import Image

from resnet50.dataset.class_folders import list_class_folders
from resnet50.reports.classes.mistakes import collect_mistakes
from resnet50.reports.classes.predictions import read_predictions
from tests.images import colour_of
from tests.reports.classes.examples import make_predictions


@pytest.fixture
def run(tmp_path):
    """Predictions of 3 classes of 4 images; images 0, 4 and 8 are taken for others."""
    dataset = make_predictions(tmp_path / "run", 3)
    for index in range(dataset.num_images):
        path = tmp_path / "images" / dataset.names[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (600, 300), colour_of(100 * index)).save(path)
    return tmp_path


def collect(folder, images="images"):
    predictions = read_predictions(folder / "run", None, "")
    dataset = list_class_folders(folder / images, predictions.class_names)
    return collect_mistakes(predictions, dataset)


def test_the_pictures_are_those_of_the_surest_mistakes(run):
    mistakes = collect(run)
    assert [mistake.index for mistake in mistakes] == [8, 4, 0]
    for mistake in mistakes:
        with Image.open(io.BytesIO(mistake.picture)) as picture:
            assert picture.size == (256, 128)
            found = picture.getpixel((100, 100))
        expected = colour_of(100 * mistake.index)
        assert all(abs(a - b) < 4 for a, b in zip(found, expected))


def test_the_images_may_have_moved(run):
    (run / "images").rename(run / "elsewhere")
    (run / "elsewhere/class_000/aaa.png").write_bytes(b"more")
    assert [m.picture is not None for m in collect(run, "elsewhere")] == [True] * 3


def test_an_image_without_a_picture_has_a_reason(run):
    (run / "images/class_002/08.png").unlink()
    (run / "images/class_001/04.png").write_bytes(b"no image")
    shutil.rmtree(run / "images/class_000")
    assert [(m.picture, m.reason) for m in collect(run)] == [
        (None, "is not among the validation images"),
        (None, "cannot be read: is no image that Pillow knows"),
        (None, "is not among the validation images"),
    ]


def test_an_image_that_has_another_class_now_is_another_image(run):
    predictions = read_predictions(run / "run", None, "")
    dataset = list_class_folders(run / "images", predictions.class_names)
    dataset.labels[8] = 0
    first, *others = collect_mistakes(predictions, dataset)
    assert (first.index, first.reason) == (8, "is not among the validation images")
    assert all(mistake.picture for mistake in others)


def test_without_images_there_are_mistakes_without_pictures(run):
    predictions = read_predictions(run / "run", None, "")
    mistakes = collect_mistakes(predictions, None)
    assert mistakes == [(8, None, ""), (4, None, ""), (0, None, "")]
