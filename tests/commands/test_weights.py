"""Proves that weights can be exported, imported, evaluated and trained."""

import importlib

import numpy as np
import pytest

from resnet50 import command_line
from resnet50.reports.tables import read_table
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.checkpoints import different_variables, read_variables
from tests.images import make_class_folders
from tests.settings import SETTINGS, write_small_config
from tests.test_scripts import finish, start

pytest.importorskip("safetensors")

PUBLISHED_STATISTICS = {
    "channel_mean": [0.485, 0.456, 0.406],
    "channel_std": [0.229, 0.224, 0.225],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    make_class_folders(folder / "images/train", 3, 4)
    make_class_folders(folder / "images/val", 3, 2)
    write_small_config(folder, dataset=PUBLISHED_STATISTICS)
    return folder


@pytest.fixture
def run(project, monkeypatch, capsys):
    """Runs a command as `python -m resnet50` does; returns its output."""

    def call(name, *flags, status=0, config="config.txt"):
        module = importlib.import_module(f"resnet50.commands.{name}")
        words = [f"resnet50 {name}", f"--config={project / config}", *map(str, flags)]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            command_line.run(module.main)
        output = capsys.readouterr()
        assert ended.value.code == status, output.err
        return output.out + output.err

    return call


@pytest.fixture(scope="module")
def published(project):
    """A file of five classes without metadata, like torchvision's."""
    from safetensors.numpy import save_file

    from resnet50.network.model import ResNet50
    from resnet50.network.torchvision_names import to_state_dict

    path = project / "published.safetensors"
    save_file(to_state_dict(ResNet50(5, SETTINGS.model, seed=3)), path)
    return path


def test_weights_go_round_and_are_evaluated_and_trained(project, published, run):
    saved = project / "saved_models"
    output = run("weights", "import", published, "--run_folder=first")
    assert "has 5 classes, the training images have 3: the last" in output
    assert "warning" not in output
    assert "--run_folder=first --imported" in output
    imported = read_variables(saved / "first/0_00000")
    velocities = [v for n, v in imported.items() if "velocities" in n]
    assert len(velocities) == 161
    assert not any(np.any(v) for v in velocities)

    file = project / "ours.safetensors"
    output = run("weights", "export", file, "--run_folder=first")
    assert "first/0_00000, 3 classes" in output
    output = run("weights", "import", file, "--run_folder=second")
    assert "training images have" not in output
    again = read_variables(saved / "second/0_00000")
    assert not different_variables(again, imported)

    evaluation = run("evaluate", "--run_folder=second", "--imported")
    assert "imported weights: top-1 " in evaluation
    (row,) = read_table(saved / "second" / "evaluation.csv")
    assert (row["epoch"], row["num_images"]) == ("-1", "6")

    config = f"--config={project / 'config.txt'}"
    preprocessor = start("runtime_preprocessing.py", config, "--epoch_end=1")
    trainer = start(
        "train.py", config, "--run_folder=second", "--resume", "--epoch_end=1"
    )
    assert "0_00000: resumed; next is epoch 0, batch 0" in finish(trainer)
    finish(preprocessor)
    assert [c.path.name for c in list_checkpoints(saved / "second")] == ["0"]
    output = run("evaluate", "--run_folder=second", "--imported", status=1)
    assert "no imported weights" in output

    model = project / "model"
    output = run("export", "--run_folder=second", "--epoch=0", f"--output={model}")
    assert output == f"{model}: holds the network of {saved / 'second' / '0'}\n"
    assert [p.name for p in (model / "assets").iterdir()] == ["class_names.json"]


def test_differences_from_the_weights_origin_are_reported(project, published, run):
    write_small_config(project).rename(project / "own.txt")
    write_small_config(project, dataset=PUBLISHED_STATISTICS)
    output = run("weights", "import", published, "--run_folder=t", config="own.txt")
    assert "expects channel_std = [0.229, 0.224, 0.225] (as published" in output
    output = run("weights", "import", published, "--run_folder=t", status=1)
    assert "t: already holds a training" in output


def test_another_network_is_refused_and_leaves_no_checkpoint(project, published, run):
    write_small_config(project, model={"variant": "v1"}).rename(project / "v1.txt")
    write_small_config(project, dataset=PUBLISHED_STATISTICS)
    output = run(
        "weights", "import", published, "--run_folder=u", config="v1.txt", status=1
    )
    assert "was trained with variant = v1.5 (what published ones have)" in output
    assert list_checkpoints(project / "saved_models/u") == []
    output = run("weights", "export", "x", "--run_folder=u", status=1)
    assert "holds no checkpoint" in output
    assert "Traceback" not in output
