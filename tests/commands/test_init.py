"""Proves that a folder of images becomes a configuration that trains."""

import os
import shutil

import pytest
import tomli
from PIL import Image

from resnet50 import command_line
from resnet50.commands import init
from resnet50.config import toml_file
from resnet50.config.toml_file import read_config
from resnet50.demo.pictures import PATTERNS, make_images
from tests.images import photograph
from tests.settings import PROJECT
from tests.test_scripts import finish, preprocess, start, train


def make_photos(folder, num_classes, per_class):
    for number in range(num_classes * per_class):
        path = folder / f"class_{number // per_class:03d}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(40, 36, number)).save(path)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command in an empty folder; returns its output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "memory").mkdir()
    monkeypatch.setattr(init, "_RAM_DISK", tmp_path / "memory")

    def call(*words, status=0):
        monkeypatch.setattr("sys.argv", ["resnet50 init", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command_line.run(init.main)
        output = capsys.readouterr()
        assert ended.value.code == status, output.err
        return output.out + output.err

    return call


def test_from_a_folder_to_an_evaluation(run, tmp_path):
    make_images(tmp_path / "photos", 5, 1, with_odd_files=False)
    before = sorted(tmp_path.glob("photos/*/*"))
    output = run("photos", "--output=photos.txt", "--validation_share=0.4")
    assert "photos-training.txt: 30 images; photos-validation.txt: 20, 40%" in output
    assert "resnet50 train --config=photos.txt --run_folder=first" in output
    assert sorted(tmp_path.glob("photos/*/*")) == before
    text = (tmp_path / "photos.txt").read_text()
    assert "# Step 3: side of the random square crop" in text
    assert 'training_images = "photos"' in text
    assert "channel_mean = [0.48180" not in text
    config = read_config(tmp_path / "photos.txt")
    assert config.augmentation.crop_size == 96
    # Smaller crops and one epoch, because this is a test.
    for old, new in (
        ("crop_size = 96", "crop_size = 32"),
        ("epochs = 200", "epochs = 5"),
    ):
        assert text.count(f"\n{old}\n") == 1
        text = text.replace(f"\n{old}\n", f"\n{new}\n")
    (tmp_path / "photos.txt").write_text(text)
    path = tmp_path / "photos.txt"
    preprocessor = preprocess(path, "--epoch_end=1")
    trained = finish(train(path, "first", "--epoch_end=1"))
    finish(preprocessor)
    assert f"{len(PATTERNS)} classes, 7 batches of 4 an epoch" in trained
    words = "evaluate", f"--config={path}", "--run_folder=first", "--epoch_end=1"
    assert "(20 images, 1 crop" in finish(start("-m", "resnet50", *words))


def test_a_folder_with_both_parts_is_not_divided(run, tmp_path):
    make_photos(tmp_path / "photos/train", 3, 4)
    make_photos(tmp_path / "photos/val", 3, 2)
    shutil.rmtree(tmp_path / "photos/val/class_001")
    output = run(tmp_path / "photos", "--output=a.txt")
    assert "val: has no image of 1 of 3 classes, such as class_001 (their" in output
    assert not list(tmp_path.glob("*-training.txt"))
    dataset = read_config(tmp_path / "a.txt").dataset
    assert dataset.training_images == dataset.validation_images == tmp_path / "photos"
    assert dataset.training_list is None


def test_the_same_seed_gives_the_same_lists(run, tmp_path):
    make_photos(tmp_path / "photos", 3, 6)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run("photos", f"--output={name}.txt", f"--seed={seed}")
    a, b, c = ((tmp_path / f"{n}-validation.txt").read_bytes() for n in "abc")
    assert a == b != c


def test_a_recipe_keeps_its_values_and_its_learning_rate_is_scaled(run, tmp_path):
    make_photos(tmp_path / "photos", 2, 20)
    recipe = PROJECT / "recipes/finetuning.txt"
    output = run("photos", "--output=a.txt", f"--recipe={recipe}")
    values = tomli.loads(recipe.read_text())
    written = tomli.loads((tmp_path / "a.txt").read_text())
    assert written["dataset"]["channel_mean"] == values["dataset"]["channel_mean"]
    assert written["model"].items() >= values["model"].items()
    changed = {"batch_size": 4, "learning_rate": 0.05 * 4 / 64}
    assert written["train"].items() >= {**values["train"], **changed}.items()
    assert written["augmentation"]["crop_size"] == 32
    assert "weights import FILE.safetensors --config=a.txt --run_folder=first" in output
    assert "resnet50 train --config=a.txt --run_folder=first --resume" in output
    assert "learning_rate = 0.003125 for batches of 4, epochs = 20" in output
    assert "0.1 / 256" not in output


@pytest.mark.parametrize("name", ["torchvision-v2", "timm-a3", "ffcv-88"])
def test_the_scheduled_sizes_of_a_recipe_are_scaled(run, tmp_path, name):
    make_photos(tmp_path / "photos", 2, 20)
    run("photos", "--output=a.txt", f"--recipe={PROJECT / 'recipes' / name}.txt")
    sizes = dict(read_config(tmp_path / "a.txt").augmentation.crop_size_schedule)
    assert set(sizes.values()) == {32}


def test_a_configuration_as_recipe_does_not_replace_the_images(run, tmp_path):
    make_photos(tmp_path / "photos", 2, 20)
    make_photos(tmp_path / "others", 2, 20)
    run("others", "--output=b.txt")
    content = (tmp_path / "b.txt").read_bytes()
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf" + content)
    run("photos", "--output=a.txt", "--recipe=b.txt")
    config = read_config(tmp_path / "a.txt")
    assert config.dataset.training_images == tmp_path / "photos"
    assert config.dataset.validation_list == tmp_path / "a-validation.txt"
    assert config.train.buffer_folder.name.endswith("-a")


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(run, tmp_path):
    make_photos(tmp_path / "photos", 2, 3)
    for name in ("a.txt", "a-training.txt", "a-validation.txt"):
        (tmp_path / name).write_text("mine")
        output = run("photos", "--output=a.txt", status=1)
        assert output == f"{name}: exists (move it away, or give another --output)\n"
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    for path in tmp_path.glob("photos/*/*"):
        path.write_bytes(b"no image")
    assert "none of 4 images can be read" in run("photos", "--output=a.txt", status=1)
    assert not list(tmp_path.glob("a*.txt"))


def test_a_folder_that_toml_cannot_name_is_refused(run, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    make_photos(folder, 2, 3)
    assert "is not UTF-8 (rename it)" in run(folder, status=1).splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (("nowhere",), 1, "nowhere: cannot be read: No such file or directory"),
        (("photos", "--validation_share=1"), 2, "must be above 0, below 1"),
        (("photos", "--seed=-1"), 2, "--seed = -1 (must be at least 0)"),
        (
            ("photos", "--recipe=nosuch"),
            2,
            "'nosuch' (must be a file, or one of ff",
        ),
        (("--recipe=he2015",), 2, "--recipe needs FOLDER, the folder of your images"),
        (("--seed=0",), 2, "--seed needs FOLDER"),
        (("--output=a.txt",), 2, "--output = 'a.txt' (must be a config.txt, which the"),
        (("photos", "--output=no/a.txt"), 1, "cannot be written: No such file"),
        (("photos", "--output="), 2, "--output = '' (must be the path of a new file)"),
        (
            ("http://me:secret@h/a.tar",),
            2,
            "FOLDER: http://h/a.tar (must be a local path)",
        ),
        (("photos", "--output=."), 2, "--output = '.' (must be the path of a new"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    run, tmp_path, words, status, expected
):
    make_photos(tmp_path / "photos", 2, 3)
    output = run(*words, status=status)
    assert expected in output.splitlines()[-1]
    assert not list(tmp_path.glob("*.txt"))


def test_without_images_the_shipped_files_are_written(run, tmp_path):
    output = run().splitlines()
    assert output[0] == "config.txt: written, with recipes/ next to it"
    assert output[-1] == "    resnet50 train --run_folder=first"
    assert "    resnet50 doctor" in output
    recipes = sorted((PROJECT / "recipes").iterdir())
    for path in (PROJECT / "config.txt", *recipes):
        copy = tmp_path / path.relative_to(PROJECT)
        assert copy.read_bytes() == path.read_bytes()
    config = read_config(tmp_path / "recipes" / "he2015.txt")
    assert config.train.saved_models_folder == tmp_path / "saved_models"
    assert run(status=1) == (
        "config.txt: exists (move it away, or give another --output)\n"
    )


def test_the_shipped_files_go_next_to_the_output(run, tmp_path):
    output = run("--output=new/folder/config.txt")
    assert "    resnet50 doctor --config=new/folder/config.txt" in output
    folder = tmp_path / "new" / "folder"
    assert {path.name for path in folder.iterdir()} == {"config.txt", "recipes"}
    (folder / "config.txt").unlink()
    output = run("--output=new/folder/config.txt", status=1)
    assert "recipes: exists (move it away, or give another --output)" in output
    assert not (folder / "config.txt").exists()


def test_a_failure_to_write_the_shipped_files_leaves_nothing(
    run, tmp_path, monkeypatch
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(toml_file, "atomic_file", fail)
    recipe = min((PROJECT / "recipes").iterdir()).name
    assert run(status=1) == (
        f"recipes/{recipe}: cannot be written: No space left on device\n"
    )
    assert not (tmp_path / "recipes").exists()


def test_a_recipe_is_found_by_its_name(run, tmp_path):
    make_photos(tmp_path / "photos", 2, 20)
    for name, recipe in (("a", "finetuning"), ("b", "recipes/finetuning.txt")):
        run("photos", f"--output={name}.txt", f"--recipe={recipe}")
        written = read_config(tmp_path / f"{name}.txt")
        assert written.dataset.channel_mean == (0.485, 0.456, 0.406)


def test_without_a_set_of_cores_as_on_macos(run, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    make_photos(tmp_path / "photos", 2, 4)
    assert "config.txt: written" in run("photos")
