"""Proves when log copies, and what it says if MLflow is missing or fails."""

import sys
import types

import pytest

from resnet50.command_line import MissingPackageError
from resnet50.commands import log
from resnet50.reports.tables import METRICS_FILE, record_epoch
from tests.reports.runs import make_run, metrics_row
from tests.reports.test_mlflow_run import Client


class MlflowException(Exception):  # noqa: N818, as MLflow calls it.
    pass


@pytest.fixture
def mlflow(monkeypatch):
    """An MLflow with one client, which ``uri`` has been given to."""
    client = Client()

    def create(tracking_uri):
        client.uri = tracking_uri
        return client

    exceptions = types.SimpleNamespace(MlflowException=MlflowException)
    package = types.SimpleNamespace(MlflowClient=create, exceptions=exceptions)
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", exceptions)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return client


@pytest.fixture
def run_log(tmp_path, monkeypatch):
    make_run(tmp_path / "run", 2)

    def call(*flags):
        monkeypatch.setattr("sys.argv", ["log", str(tmp_path / "run"), *flags])
        log.main()

    return call


def test_the_database_is_next_to_the_run(tmp_path, run_log, mlflow, capsys):
    run_log()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert mlflow.uri == uri
    assert capsys.readouterr().err == (
        f"{tmp_path / 'run'}: 12 values added in {uri}\n"
    )


def test_the_server_of_the_environment_or_of_the_flag_is_used(
    run_log, mlflow, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://one")
    run_log()
    assert mlflow.uri == "http://one"
    run_log("--uri=http://two", "--experiment=mine")
    assert mlflow.uri == "http://two"
    assert "mine" in mlflow.experiments


def test_following_copies_when_a_table_changes(
    tmp_path, run_log, mlflow, monkeypatch, capsys
):
    """A failure in between is one line, and the next poll tries again."""
    polls = []

    def sleep(seconds):
        polls.append(len(capsys.readouterr().err.splitlines()))
        if len(polls) == 2:
            record_epoch(tmp_path / "run" / METRICS_FILE, metrics_row(2))
            monkeypatch.setattr(mlflow, "log_metric", fail)
        if len(polls) == 3:
            monkeypatch.undo()
            monkeypatch.setattr(log.time, "sleep", sleep)
        if len(polls) == 5:
            raise KeyboardInterrupt

    def fail(*arguments, **options):
        raise MlflowException("no connection\nand more")

    monkeypatch.setattr(log.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        run_log("--follow")
    assert polls == [1, 0, 1, 1, 0]
    (run,) = mlflow.runs.values()
    assert len(run.history) == 18


def test_a_failure_is_one_line(run_log, mlflow, monkeypatch):
    def fail(*arguments, **options):
        raise MlflowException("no connection\nand more")

    monkeypatch.setattr(mlflow, "create_run", fail)
    with pytest.raises(log.LogError) as caught:
        run_log("--uri=http://one")
    assert str(caught.value) == ("http://one: MLflow fails: no connection (see --uri)")


def test_without_mlflow_its_installation_is_named(run_log, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    message = r"mlflow is not installed \(pip install -e '\.\[mlflow\]'\)"
    with pytest.raises(MissingPackageError, match=message):
        run_log()
