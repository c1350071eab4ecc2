"""Proves what predict prints, from a real checkpoint of a tiny network.

The network's answer is an image's main colour: red is class 0, green 1, blue 2.
"""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from resnet50.commands import predict
from resnet50.commands.predict import PredictError, list_images
from resnet50.config.toml_file import read_config
from resnet50.dataset.class_folders import list_class_folders
from resnet50.handoff.progress import Position
from resnet50.reports.answers import Classes
from resnet50.training import checkpoint, resume
from resnet50.training.checkpoint import CheckpointError
from resnet50.training.description import describe
from tests.images import make_class_folders
from tests.settings import write_small_config
from tests.training.tiny import TinyNetwork, TinyTraining

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A run with a checkpoint, whose training images are gone."""
    monkeypatch.setattr(resume, "ResNet50", lambda *args: TinyNetwork(0))
    path = write_small_config(tmp_path)
    make_class_folders(tmp_path / "images" / "train", 3, 2)
    save_checkpoint(path, "run")
    shutil.rmtree(tmp_path / "images")
    for name, colour in COLOURS.items():
        Image.new("RGB", (60, 50), colour).save(tmp_path / f"{name}.png")
    return path


def save_checkpoint(config_path, run, *, without=()):
    config = read_config(config_path)
    dataset = list_class_folders(config.dataset.training_images)
    dataset.class_words = ("fire engine", "lawn", "sky, heaven")
    training = TinyTraining()
    training.model.kernel.assign(10 * np.eye(3))
    description = describe(config, dataset)
    for key in without:
        del description[key]
    folder = config.train.saved_models_folder / run
    return checkpoint.save(training, folder, Position(1, 0), description)


def run(monkeypatch, config, *flags):
    words = ["resnet50 predict", f"--config={config}", "--run_folder=run", *flags]
    monkeypatch.setattr("sys.argv", words)
    predict.main()


def test_the_table(config, monkeypatch, capsys):
    path = str(config.parent / "blue.png")
    run(monkeypatch, config, path)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        path,
        "  100.00%  class_002  sky, heaven",
        # Normalized, no green is a little more than no red.
        "    0.00%  class_001  lawn",
        "    0.00%  class_000  fire engine",
    ]


def test_json_of_a_folder_with_an_unreadable_file(config, monkeypatch, capsys):
    (config.parent / "inbox" / "deeper").mkdir(parents=True)
    names = ["red.png", "deeper/green.png"]
    for name in names:
        (config.parent / name.split("/")[-1]).rename(config.parent / "inbox" / name)
    (config.parent / "inbox" / ".hidden").touch()
    torn = config.parent / "inbox" / "torn.png"
    torn.write_bytes(b"no image")
    flags = ["--json", "--crops=10", "--epoch=0", str(config.parent / "inbox")]
    with pytest.raises(PredictError, match="1 of 3 images could not be read"):
        run(monkeypatch, config, *flags)
    printed = capsys.readouterr()
    results = {
        item.pop("image"): item for item in map(json.loads, printed.out.splitlines())
    }
    assert len(results) == 3
    assert results[str(torn)] == {"error": "is no image that Pillow knows"}
    assert f"{torn}: unreadable: is no image" in printed.err
    for name, label in zip(names, (0, 1)):
        best = results[str(config.parent / "inbox" / name)]["top5"][0]
        assert best["name"] == f"class_00{label}"
        assert best["probability"] > 0.99


def test_the_five_best_are_in_order_and_equal_ones_by_label():
    classes = Classes([f"n{i}" for i in range(7)], [])
    probabilities = np.array([0.1, 0.3, 0.05, 0.1, 0.3, 0.1, 0.05], np.float32)
    answers = classes.best(probabilities)
    assert [a.name for a in answers] == ["n1", "n4", "n0", "n3", "n5"]
    assert [a.words for a in answers] == [""] * 5


def test_an_old_checkpoint_asks_the_dataset(config, tmp_path, monkeypatch, capsys):
    train = tmp_path / "images" / "train"
    make_class_folders(train, 3, 2)
    shutil.rmtree(tmp_path / "saved_models")
    path = save_checkpoint(config, "run", without=["class_names", "class_words"])
    run(monkeypatch, config, str(tmp_path / "red.png"))
    assert "100.00%  class_000\n" in capsys.readouterr().out
    make_class_folders(train, 4, 2)
    with pytest.raises(CheckpointError, match="num_classes = 3"):
        run(monkeypatch, config, str(tmp_path / "red.png"))
    shutil.rmtree(train)
    with pytest.raises(CheckpointError, match="too old to name its classes") as caught:
        run(monkeypatch, config, str(tmp_path / "red.png"))
    assert str(path) in str(caught.value)
    assert str(train) in str(caught.value)


def test_what_is_missing_is_named(config, monkeypatch):
    image = str(config.parent / "red.png")
    with pytest.raises(CheckpointError, match=r"run/7: no such checkpoint"):
        run(monkeypatch, config, "--epoch=7", image)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        run(monkeypatch, config, "--run_folder=other", image)
    empty = config.parent / "empty"
    empty.mkdir()
    with pytest.raises(PredictError, match=r"empty: holds no images$"):
        list_images([str(empty)], print)
    (empty / "notes.txt").touch()
    with pytest.raises(
        PredictError,
        match=r"images; files that are no images: 1 skipped.*/notes\.txt \(a",
    ):
        list_images([str(empty)], print)


def test_a_folder_s_files_that_are_no_images_are_skipped(tmp_path):
    for name in ("b.png", "a/1", "notes.txt", ".DS_Store", "a/._1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to("..")
    said = []
    # A file that the user names is read, whatever its name.
    notes = str(tmp_path / "notes.txt")
    found = list_images([notes, str(tmp_path)], said.append)
    assert [*map(str, found)] == [notes, f"{tmp_path}/a/1", f"{tmp_path}/b.png"]
    assert said == [
        f"{tmp_path}: files that are no images: 3 skipped; the first is "
        f"{tmp_path}/.DS_Store (hidden)",
        f"{tmp_path}: folders that links lead to again: 1 skipped; the first is "
        f"{tmp_path}/a/loop",
    ]
