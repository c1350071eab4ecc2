"""Proves which files plot writes for which runs, and what it says otherwise."""

import functools
import os
import sys

import pytest
from PIL import Image

from resnet50.command_line import MissingPackageError
from resnet50.commands import plot
from resnet50.reports.classes.predictions import PREDICTIONS_FILE
from resnet50.reports.curves import RunError
from resnet50.reports.tables import METRICS_FILE, write_table
from tests.images import make_class_folders
from tests.reports.classes.examples import make_predictions
from tests.reports.runs import make_run, metrics_row


@pytest.fixture
def run_plot(run_command):
    return functools.partial(run_command, plot)


def test_a_run_by_its_name_is_plotted_into_its_folder(tmp_path, run_plot, capsys):
    folder = make_run(tmp_path / "saved_models" / "v1.5", 3)
    run_plot("v1.5")
    paths = [folder / "curves.png", folder / "curves.html"]
    assert capsys.readouterr().out.split() == [str(path) for path in paths]
    with Image.open(paths[0]) as image:
        assert image.format == "PNG"
    assert "<title>v1.5</title>" in paths[1].read_text(encoding="utf-8")


def test_several_runs_by_their_folders_are_compared(tmp_path, run_plot):
    folders = [make_run(tmp_path / "elsewhere" / name, 2) for name in ("a", "b")]
    run_plot(*map(str, folders))
    assert (tmp_path / "elsewhere" / "comparison.png").exists()
    page = (tmp_path / "elsewhere" / "comparison.html").read_text(encoding="utf-8")
    assert "<title>a, b</title>" in page


def test_the_output_may_be_elsewhere(tmp_path, run_plot):
    make_run(tmp_path / "saved_models" / "run", 2)
    run_plot("run", f"--output={tmp_path / 'of v1.5.png'}")
    assert (tmp_path / "of v1.5.png").exists()
    assert (tmp_path / "of v1.5.html").exists()
    with pytest.raises(plot.PlotError, match=r"cannot be written.*see --output"):
        run_plot("run", f"--output={tmp_path / 'none' / 'curves'}")


def test_superseded_evaluations_are_reported(tmp_path, run_plot, capsys):
    make_run(tmp_path / "saved_models" / "run", 2, evaluated=[1, 7])
    run_plot("run")
    assert "evaluation.csv: 2 rows are of epochs after" in capsys.readouterr().err


def test_an_unknown_run_is_an_error_that_names_the_known_ones(tmp_path, run_plot):
    make_run(tmp_path / "saved_models" / "mytestrun", 1)
    with pytest.raises(RunError, match=r"no such run \(.* holds: mytestrun\)"):
        run_plot("mytestrum")


@pytest.mark.parametrize(
    ("package", "extra", "flags"),
    [
        ("matplotlib", "plots", []),
        ("matplotlib", "plots", ["--classes"]),
        ("tensorboard", "tensorboard", ["--tensorboard"]),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    tmp_path, run_plot, monkeypatch, package, extra, flags
):
    make_run(tmp_path / "saved_models" / "run", 1)
    for name in list(sys.modules):
        if name.split(".")[0] == package or name.startswith("resnet50.reports."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"{package} is not installed \(pip install -e '\.\[{extra}\]'\)"
    with pytest.raises(MissingPackageError, match=message):
        run_plot("run", *flags)


def test_tensorboard_gets_the_first_batch_if_the_images_are_there(
    tmp_path, run_plot, capsys
):
    folder = make_run(tmp_path / "saved_models" / "run", 1)
    run_plot("run", "--tensorboard")
    assert "no picture of the first batch: " in capsys.readouterr().err
    (without,) = (folder / "tensorboard" / "training").iterdir()
    small = without.stat().st_size
    make_class_folders(tmp_path / "images" / "train", 3, 4)
    run_plot("run", "--tensorboard")
    assert "no picture" not in capsys.readouterr().err
    (with_picture,) = (folder / "tensorboard" / "training").iterdir()
    assert b"\x89PNG" in with_picture.read_bytes()
    assert with_picture.stat().st_size > small


def test_following_plots_again_when_a_table_changes(tmp_path, run_plot, monkeypatch):
    folder = make_run(tmp_path / "saved_models" / "run", 1)
    pages = []

    def sleep(seconds):
        pages.append((folder / "curves.html").read_text(encoding="utf-8"))
        if len(pages) == 1:
            rows = [metrics_row(epoch) for epoch in range(2)]
            write_table(folder / METRICS_FILE, rows)
            os.utime(folder / METRICS_FILE, (5000, 5000))
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(plot.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        run_plot("run", "--follow")
    assert len(pages) == 2
    assert ["<td>6.95</td>" in page for page in pages] == [False, True]
    assert all("refresh" in page for page in pages)


def test_what_a_run_confuses_is_drawn_with_pictures(tmp_path, run_plot, capsys):
    folder = tmp_path / "saved_models" / "run"
    dataset = make_predictions(folder, 3)
    for index in range(dataset.num_images):
        path = tmp_path / "images" / "val" / dataset.names[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(path)
    run_plot("run", "--classes")
    path = folder / "classes.html"
    assert capsys.readouterr() == (f"{path}\n", "")
    page = path.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 3
    assert not (folder / "curves.png").exists()
    (tmp_path / "images/val" / dataset.names[4]).write_bytes(b"no image")
    run_plot("run", "--classes", f"--output={tmp_path / 'page.html'}")
    out, error = capsys.readouterr()
    assert out == f"{tmp_path / 'page.html'}\n"
    assert error == (
        "no picture of class_001/04.png: cannot be read: is no image that Pillow "
        "knows\n"
    )
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2
    assert "<small>cannot be read: is no image that Pillow knows</small>" in page


def test_without_images_the_page_says_why_it_has_no_pictures(
    tmp_path, run_plot, capsys
):
    folder = make_run(tmp_path / "elsewhere", 1)
    make_predictions(folder, 3)
    run_plot(str(folder), "--classes")
    note = f"no pictures of the mistakes: {tmp_path / 'images' / 'val'}: "
    assert note in capsys.readouterr().err
    assert note in (folder / "classes.html").read_text(encoding="utf-8")


def test_images_of_other_classes_give_no_pictures(tmp_path, run_plot, capsys):
    make_predictions(tmp_path / "saved_models" / "run", 2)
    make_class_folders(tmp_path / "images" / "val", 3, 1)
    run_plot("run", "--classes")
    assert "class class_002 is not among the 2 classes" in capsys.readouterr().err


def test_predictions_that_are_missing_come_with_the_command(tmp_path, run_plot):
    folder = tmp_path / "saved_models" / "run"
    folder.mkdir(parents=True)
    with pytest.raises(RunError) as caught:
        run_plot("run", "--classes")
    assert str(caught.value) == (
        f"{folder / PREDICTIONS_FILE}: does not exist yet (`python3 -m resnet50 "
        f"evaluate --config={tmp_path / 'config.txt'} --run_folder=run` writes it)"
    )
    make_predictions(folder, 2)
    command = "evaluate .*--run_folder=run --epoch_start=3 --epoch_end=4` writes it"
    with pytest.raises(RunError, match=rf"is of epoch 7, not 3 \(.*{command}\)"):
        run_plot("run", "--classes", "--epoch=3")
    with pytest.raises(RunError, match=r"not -1 \(.* --run_folder=run --imported`"):
        run_plot("run", "--classes", "--epoch=-1")
    run_plot("run", "--classes", "--epoch=7")
    assert (folder / "classes_7.html").exists()


@pytest.mark.parametrize(
    "flags", [["other", "--classes"], ["--classes", "--follow"], ["--epoch=7"]]
)
def test_flags_that_do_not_fit_are_refused(tmp_path, run_plot, flags):
    make_predictions(tmp_path / "saved_models" / "run", 2)
    with pytest.raises(plot.PlotError, match="--classes"):
        run_plot("run", *flags)


def test_a_class_page_that_cannot_be_written_is_an_error(tmp_path, run_plot):
    make_predictions(tmp_path / "saved_models" / "run", 2)
    with pytest.raises(plot.PlotError, match=r"cannot be written.*see --output"):
        run_plot("run", "--classes", f"--output={tmp_path / 'none' / 'page'}")
