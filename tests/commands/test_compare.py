"""Proves that compare finds its runs and says which settings are unknown."""

import functools

import pytest

from resnet50.commands import compare
from resnet50.reports.starts import STARTS_FILE, record_start
from tests.reports.runs import make_run
from tests.reports.test_starts import start


@pytest.fixture
def run_compare(run_command):
    return functools.partial(run_command, compare)


def test_runs_are_compared_by_name_or_folder(tmp_path, run_compare, capsys):
    make_run(tmp_path / "saved_models" / "run", 2)
    other = make_run(tmp_path / "elsewhere" / "run", 3)
    record_start(other / STARTS_FILE, start(0))
    run_compare("run", str(other))
    shown = capsys.readouterr()
    assert str(other) in shown.out  # Two runs of one name have their folders as names.
    assert "no setting" not in shown.out
    assert shown.err == (
        f"{tmp_path / 'saved_models' / 'run'}: has no starts.jsonl (train.py writes "
        "it), so its settings are unknown\n"
    )


def test_a_folder_that_has_only_started_is_a_run(
    tmp_path, run_compare, capsys, monkeypatch
):
    for name in "ab":
        folder = tmp_path / "elsewhere" / name
        folder.mkdir(parents=True)
        record_start(folder / STARTS_FILE, start(0))
    monkeypatch.chdir(tmp_path)
    run_compare("elsewhere/a", "elsewhere/b")
    assert "no setting, version or commit differs" in capsys.readouterr().out


def test_one_run_is_too_few(tmp_path, run_compare, capsys):
    make_run(tmp_path / "saved_models" / "run", 2)
    with pytest.raises(SystemExit):
        run_compare("run")
    assert "give at least two runs" in capsys.readouterr().err
