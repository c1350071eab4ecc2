"""Proves that each kind of bad input ends a program with one clear line.

Each kind in the corpus breaks one thing in a small, sound project, and names the
program to start and a part of its last line on stderr. No program may show a traceback.
The tests of the modules prove how they treat bad files; these prove what a user sees.
"""

import importlib
import json
import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet50 import command_line
from resnet50.dataset.class_folders import list_class_folders
from resnet50.dataset.images import DatasetError
from resnet50.handoff import locks
from resnet50.handoff.progress import Position
from resnet50.pixels.augmentation import colour_shift
from resnet50.training import checkpoint
from tests.images import make_class_folders
from tests.settings import write_small_config
from tests.training.tiny import TinyTraining

PREPROCESS = ("resnet50.commands.runtime_preprocessing",)
TRAIN = ("resnet50.commands.train", "--run_folder=run")
STATS = ("resnet50.commands.compute_channel_stats", "--num_workers=1")
EVALUATE = ("resnet50.commands.evaluate", "--run_folder=run")
PREVIEW = ("resnet50.commands.preview", "--epoch=0", "--batch=0")


def in_config(old, new):
    """Breaks config.txt by replacing a line or its beginning."""

    def break_it(folder):
        path = folder / "config.txt"
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return break_it


def with_bytes(name, content):
    def break_it(folder):
        (folder / name).write_bytes(content)

    return break_it


def with_list(content):
    def break_it(folder):
        (folder / "list.txt").write_bytes(content)
        in_config('training_list = ""', 'training_list = "list.txt"')(folder)

    return break_it


def empty_class(folder):
    (folder / "images/train/zebra").mkdir()


def no_classes(folder):
    in_config('"images/train"', '"images/train/class_000"')(folder)


def one_class(folder):
    for name in ("class_001", "class_002"):
        (folder / "images/train" / name).rename(folder / name)


def unknown_validation_class(folder):
    path = folder / "images/val/zebra/1.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(path)


def all_unreadable(folder):
    for path in (folder / "images/train").rglob("*.png"):
        path.write_bytes(b"no image")


def buffer_is_a_file(folder):
    (folder / "buffer").touch()


def manifest_of_another_seed(folder):
    (folder / "buffer").mkdir()
    (folder / "buffer/manifest.json").write_text(json.dumps({"seed": 99}))


def torn_manifest(folder):
    (folder / "buffer").mkdir()
    (folder / "buffer/manifest.json").write_text('{"seed": ')


def saved(position, **description):
    """Puts a checkpoint of another training into the run's folder."""

    def break_it(folder):
        ours = {"num_classes": 3, "variant": "v1.5", "normalization": "batch_norm"}
        checkpoint.save(
            TinyTraining(), folder / "saved_models/run", position, ours | description
        )

    return break_it


def damaged_checkpoint(folder):
    saved(Position(1, 0))(folder)
    path = folder / "saved_models/run/0/variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1])


def checkpoint_without_state(folder):
    saved(Position(1, 0))(folder)
    (folder / "saved_models/run/0/state.json").unlink()


CORPUS = {
    # config.txt and flags
    "no config": (
        PREPROCESS,
        lambda folder: (folder / "config.txt").unlink(),
        "config.txt: cannot be read: No such file or directory",
    ),
    "config is a folder": (
        STATS,
        lambda f: ((f / "config.txt").unlink(), (f / "config.txt").mkdir()),
        "config.txt: cannot be read: Is a directory",
    ),
    "empty config": (PREPROCESS, with_bytes("config.txt", b""), "[dataset] is missing"),
    "binary config": (
        TRAIN,
        with_bytes("config.txt", b"\xff\xfe\x00"),
        "byte 0 is not UTF-8",
    ),
    "no TOML": (
        PREVIEW,
        in_config("batch_size =", "batch_size :"),
        "is not valid TOML",
    ),
    "misspelt key": (
        PREPROCESS,
        in_config("buffer_size =", "bufer_size ="),
        "unknown key [train] bufer_size (did you mean buffer_size?)",
    ),
    "missing key": (
        TRAIN,
        in_config("momentum = 0.9", ""),
        "momentum is missing",
    ),
    "wrong type": (
        PREPROCESS,
        in_config("seed = 0", "seed = true"),
        "[train] seed = true (must be a whole number)",
    ),
    "out of range": (
        TRAIN,
        in_config("momentum = 0.9", "momentum = 1.0"),
        "[train] momentum = 1.0 (must be below 1)",
    ),
    "crop larger than the side": (
        PREPROCESS,
        in_config("crop_size = 32", "crop_size = 64"),
        "shorter_side_min = 34 (must be at least crop_size = 64)",
    ),
    "batch size of none": (
        (*PREPROCESS, "--batch_size=0"),
        None,
        "--batch_size = 0 (must be at least 1)",
    ),
    "infinite learning rate": (
        (*TRAIN, "--learning_rate=inf"),
        None,
        "--learning_rate = inf (must be a finite number)",
    ),
    "negative epoch": (
        (*TRAIN, "--epoch_start=-1"),
        None,
        "--epoch_start = -1 (must be at least 0)",
    ),
    "no epochs": (
        (*PREPROCESS, "--epoch_start=2", "--epoch_end=2"),
        None,
        "--epoch_end = 2 (must be above --epoch_start = 2)",
    ),
    "past the cosine": (
        (*TRAIN, "--epoch_end=3"),
        in_config('schedule = "step"', 'schedule = "cosine"'),
        "the cosine schedule ends at [train] epochs = 2",
    ),
    # images and lists
    "no such folder": (
        PREPROCESS,
        in_config('"images/train"', '"images/tarin"'),
        "images/tarin: cannot be read: No such file or directory",
    ),
    "images folder is a file": (
        STATS,
        in_config('"images/train"', '"config.txt"'),
        "config.txt: holds no class folders, nor anything else that is known",
    ),
    "no class folders": (PREPROCESS, no_classes, "holds no class folders"),
    "empty class": (TRAIN, empty_class, "zebra: class folder without images"),
    "one class": (PREPROCESS, one_class, "images/train: has one class only"),
    "fewer images than a batch": (
        (*PREPROCESS, "--batch_size=50"),
        None,
        "24 images, but --batch_size is 50",
    ),
    "unknown validation class": (
        EVALUATE,
        unknown_validation_class,
        "class zebra is not among the 3 classes",
    ),
    "no validation images": (
        EVALUATE,
        None,
        "images/val: cannot be read: No such",
    ),
    "all unreadable": (STATS, all_unreadable, "none of the 24 images can be read"),
    "one colour": (
        STATS,
        lambda folder: [
            Image.new("RGB", (40, 40), "red").save(path)
            for path in (folder / "images/train").rglob("*.png")
        ],
        "a channel is the same everywhere",
    ),
    "no list": (
        PREPROCESS,
        in_config('training_list = ""', 'training_list = "list.txt"'),
        "list.txt: cannot be read: No such file or directory",
    ),
    "empty list": (PREPROCESS, with_list(b"\n \n"), "list.txt: lists no images"),
    "list without labels": (
        PREPROCESS,
        with_list(b"a.png 0\nb.png\n"),
        "list.txt, line 2: 'b.png' (expected 'relative/path label'",
    ),
    "negative label": (PREPROCESS, with_list(b"a.png -1\n"), "line 1: 'a.png -1'"),
    "label that is no number": (
        PREPROCESS,
        with_list(b"a.png cat\n"),
        "line 1: 'a.png cat' (expected",
    ),
    "labels from one": (
        PREPROCESS,
        with_list(b"a.png 1\nb.png 2\n"),
        "no image has label 0, but the highest is 2",
    ),
    "path outside": (
        PREPROCESS,
        with_list(b"../secret.png 0\n"),
        "'../secret.png' points outside the images' folder",
    ),
    "absolute path": (
        PREPROCESS,
        with_list(b"/etc/passwd 0\n"),
        "'/etc/passwd' points outside the images' folder",
    ),
    "binary list": (PREPROCESS, with_list(bytes(range(256))), "list.txt, line 1"),
    # the buffer
    "buffer is a file": (
        PREPROCESS,
        buffer_is_a_file,
        "buffer: cannot be created: File exists",
    ),
    "buffer of another seed": (
        TRAIN,
        manifest_of_another_seed,
        "seed is 99 there",
    ),
    "torn manifest": (TRAIN, torn_manifest, "batch_size is absent there and 4 here"),
    # checkpoints
    "a run outside": (
        ("resnet50.commands.train", "--run_folder=../elsewhere"),
        None,
        "--run_folder = '../elsewhere' (must be a plain name",
    ),
    "nothing to resume": (
        (*TRAIN, "--resume"),
        None,
        "holds no checkpoint to resume from",
    ),
    "no such checkpoint": (
        (*TRAIN, "--epoch_start=1"),
        None,
        "run/0: no such checkpoint",
    ),
    "a run that is there already": (
        TRAIN,
        saved(Position(1, 0)),
        "already holds a training, up to epoch 1, batch 0",
    ),
    "damaged checkpoint": (
        (*TRAIN, "--epoch_start=1"),
        damaged_checkpoint,
        "run/0: is damaged: variables.data-00000-of-00001 does not have the checksum",
    ),
    "checkpoint without its state": (
        (*TRAIN, "--resume"),
        checkpoint_without_state,
        "run/0: is damaged: ",
    ),
    "another number of classes": (
        (*TRAIN, "--resume"),
        saved(Position(1, 0), num_classes=10),
        "was trained with num_classes = 10, here it is 3",
    ),
    "another variant": (
        (*TRAIN, "--resume"),
        saved(Position(1, 0), variant="v1"),
        "was trained with variant = v1, here it is v1.5",
    ),
    "another seed": (
        (*TRAIN, "--epoch_start=1"),
        saved(Position(1, 0), dataset_fingerprint="?", seed=5),
        "was trained with dataset_fingerprint = ?, here it is",
    ),
    "evaluating no run": (
        EVALUATE,
        lambda folder: make_class_folders(folder / "images/val", 3, 1),
        "saved_models/run: there is no such run",
    ),
    "evaluating nothing": (
        EVALUATE,
        lambda folder: (
            make_class_folders(folder / "images/val", 3, 1),
            (folder / "saved_models/run").mkdir(parents=True),
        ),
        "2 of the epochs 0 to 1 have no checkpoint",
    ),
    "evaluating another network": (
        EVALUATE,
        lambda folder: (
            make_class_folders(folder / "images/val", 3, 1),
            saved(Position(1, 0), normalization="batch_renorm")(folder),
        ),
        "was trained with normalization = batch_renorm, here it is batch_norm",
    ),
    # addresses and outputs
    "batch beyond the epoch": (
        (*PREVIEW, "--batch=6"),
        None,
        "an epoch has the batches 0 to 5",
    ),
    "output that is no picture": (
        (*PREVIEW, "--output=x.nonsense"),
        None,
        "--output = x.nonsense (unknown file extension: .nonsense)",
    ),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    make_class_folders(folder / "images/train", 3, 8)
    # The blue channel is empty.
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    first = sorted((folder / "images/train").rglob("*.png"))[0]
    Image.fromarray(noise).save(first)
    return folder


@pytest.fixture
def project(tmp_path, template):
    """A small, sound project: 24 images, 6 batches of 4."""
    for path in sorted((template / "images").rglob("*.png")):
        copy = tmp_path / path.relative_to(template)
        copy.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, copy)
    write_small_config(tmp_path)
    return tmp_path


def run(project, monkeypatch, module, *flags):
    """Runs a program's main as its script does; returns its exit status."""
    words = [module, f"--config={project / 'config.txt'}", *flags]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.chdir(project)
    with pytest.raises(SystemExit) as ended:
        command_line.run(importlib.import_module(module).main)
    return ended.value.code


@pytest.mark.parametrize("kind", CORPUS)
def test_one_clear_line(project, monkeypatch, capsys, kind):
    (module, *flags), break_it, expected = CORPUS[kind]
    if break_it is not None:
        # The files are hard links; copies protect the template.
        for path in (project / "images").rglob("*.png"):
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        break_it(project)
    assert run(project, monkeypatch, module, *flags) == 1
    lines = capsys.readouterr().err.splitlines()
    assert expected in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_the_corpus_is_large():
    assert len(CORPUS) >= 40


def png_header(width, height):
    """A PNG file that ends after its size."""
    data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + data
    crc = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(data)) + chunk + crc


BAD_IMAGES = {
    "empty": b"",
    "text": b"no image",
    "zeros": bytes(5000),
    "bomb": png_header(60_000, 60_000),
    "cut off": None,
    "vanished": None,
    "folder": None,
    "pipe": None,
    "link to nowhere": None,
    "link to itself": None,
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image_is_left_out_and_named(project, monkeypatch, capsys, kind):
    path = sorted((project / "images/train").rglob("*.png"))[5]
    content = path.read_bytes()
    path.unlink()
    if kind == "cut off":
        path.write_bytes(content[:-30])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to nowhere":
        path.symlink_to("nowhere")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind != "vanished":
        path.write_bytes(BAD_IMAGES[kind])
    assert run(project, monkeypatch, *STATS) == 0
    output = capsys.readouterr().out
    if kind in ("vanished", "folder"):  # Never listed.
        assert "unreadable" not in output
    else:
        assert f"unreadable: {path}: " in output
        assert "1 images could not be read" in output


def test_names_in_any_encoding_are_shown(project, monkeypatch, capsysbinary):
    folder = os.fsencode(project / "images/train/class_000")
    Path(os.fsdecode(folder + b"/caf\xe9.JPEG")).write_bytes(b"no image")
    Path(os.fsdecode(folder + b"/\xe7\x8c\xab.JPEG")).write_bytes(b"no image")
    assert run(project, monkeypatch, *STATS) == 0
    output = capsysbinary.readouterr().out
    assert b"caf\\udce9.JPEG: is no image" in output
    assert b"\xe7\x8c\xab.JPEG: is no image" in output


def test_an_extremely_narrow_image_is_an_image(project, monkeypatch, capsys):
    Image.new("RGB", (1, 5000), "red").save(project / "images/train/class_000/1.png")
    assert run(project, monkeypatch, *PREVIEW) == 0
    assert "is shown in" in capsys.readouterr().out


def test_a_second_program_is_refused(project, monkeypatch, capsys):
    (project / "buffer").mkdir()
    for role, words in ((locks.PREPROCESSOR, PREPROCESS), (locks.TRAINER, TRAIN)):
        with locks.exclusive_role(project / "buffer", role):
            assert run(project, monkeypatch, *words) == 1
        error = capsys.readouterr().err
        assert f"{role}.py already runs here, process {os.getpid()}" in error


def test_an_unreadable_folder_is_named():
    # Not in tmp_path, which only its owner may enter; nobody may not.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        make_class_folders(folder, 2, 1)
        (folder / "class_001").chmod(0)
        is_root = os.geteuid() == 0  # Permissions do not stop root.
        if is_root:
            os.seteuid(65534)
        try:
            with pytest.raises(DatasetError) as caught:
                list_class_folders(folder)
        finally:
            if is_root:
                os.seteuid(0)
            (folder / "class_001").chmod(0o755)
    assert "class_001: cannot be read: Permission denied" in str(caught.value)


def test_batch_of_constant_images_has_no_shift_and_no_nan():
    """Without variance, all eigenvalues are zero, and so is the colour shift."""
    crop = np.full((32, 32, 3), 77, np.uint8)
    assert np.abs(colour_shift(crop, (0.2, 0.2, 0.2), (1.0, 1.0, 1.0))).max() < 1e-9
