"""Proves that the shortened demo runs all its programs, and checks its images."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from resnet50.commands import demo
from resnet50.dataset.decoding import UndecodableImageError, decode_rgb
from resnet50.dataset.sources import ImageSource
from resnet50.demo.pictures import PATTERNS, make_images, render_picture
from tests.reports.live.pairs import Pair


def test_the_whole_demo_in_short(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "EPOCHS", 2)
    monkeypatch.setattr(demo, "INTERRUPTED_EPOCH", 0)
    monkeypatch.setattr(demo, "TRAINING_PER_CLASS", 8)
    monkeypatch.setattr(demo, "VALIDATION_PER_CLASS", 1)
    monkeypatch.setitem(demo._CHANGES["train"], "epochs", 2)
    folder = tmp_path / "demo"
    monkeypatch.setattr("sys.argv", ["resnet50 demo", f"--folder={folder}"])
    demo.main()
    output = capsys.readouterr().out
    assert "interrupting the trainer at epoch 0" in output
    assert "resumed; next is epoch" in output
    assert "unreadable, replaced" in output
    assert "(crops of each image: 10)" in output
    page = folder / "saved_models" / "demo" / "curves.html"
    assert f"Their curves, for a browser: {page}" in output
    assert "validation, 10 crops" in page.read_text(encoding="utf-8")
    evaluation = (page.parent / "evaluation.csv").read_text()
    assert "loss" in evaluation.splitlines()[0].split(",")
    assert "channel_mean = [0.48180" not in (folder / "config.txt").read_text()

    demo.prepare_folder(folder)  # The demo may replace its own folder.
    assert not (folder / "buffer").exists()


def test_in_a_terminal_the_pair_is_drawn_below_what_is_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    pair, stream = Pair(tmp_path), io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, height=24)
    monkeypatch.setattr(demo, "Console", lambda: console)
    pair.train_to(3)
    with demo.live_view(pair.config) as pause:
        pause()
        console.print("train | a message")
        pause()
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert output.index("demo: epoch 0, batch 3 of 10") < output.index("a message")
    after = output.split("train | a message")[1]
    assert "demo: epoch 0, batch 3 of 10" in after


def test_elsewhere_nothing_is_drawn(tmp_path, capsys):
    with demo.live_view(Pair(tmp_path).config) as pause:
        pause()
    assert capsys.readouterr().out == ""


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(demo.DemoError, match="exists and is not a demo's"):
        demo.prepare_folder(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_images_are_reproducible_with_imagenets_odd_files(tmp_path):
    for name in ("first", "second"):
        make_images(tmp_path / name, 12, 1, with_odd_files=True)
    paths = sorted((tmp_path / "first").rglob("*.JPEG"))
    assert len(paths) == 12 * len(PATTERNS)
    modes, formats, sizes, broken = set(), set(), set(), []
    for path in paths:
        twin = tmp_path / "second" / path.relative_to(tmp_path / "first")
        assert path.read_bytes() == twin.read_bytes()
        try:
            sizes.add(decode_rgb(ImageSource(str(path))).size)
        except UndecodableImageError:
            broken.append(path)
            continue
        with Image.open(path) as image:
            modes.add(image.mode)
            formats.add(image.format)
    assert modes == {"RGB", "L", "CMYK"}
    assert formats == {"JPEG", "PNG"}
    assert len(sizes) > 100
    assert len(broken) == 1


@pytest.mark.parametrize("name", PATTERNS)
def test_pictures_of_a_class_differ_and_show_two_colours(name):
    pictures = [
        np.asarray(render_picture(PATTERNS[name], np.random.default_rng(seed)), float)
        for seed in range(3)
    ]
    for picture in pictures:
        brightness = picture.mean(axis=2)
        share = (brightness > (brightness.min() + brightness.max()) / 2).mean()
        assert 0.03 < share < 0.97
    assert len({picture.shape for picture in pictures}) == 3
