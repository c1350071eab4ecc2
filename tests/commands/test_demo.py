"""Proves that the shortened demo runs all its programs, and checks its images."""

import numpy as np
import pytest
from PIL import Image

from resnet50.commands import demo
from resnet50.dataset.decoding import UndecodableImageError, decode_rgb
from resnet50.dataset.sources import ImageSource
from resnet50.demo.pictures import PATTERNS, make_images, render_picture


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
