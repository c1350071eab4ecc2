"""Proves that MLflow gets each value once, whatever happened before."""

import itertools
import types

import pytest

from resnet50.reports.comparison import read_compared
from resnet50.reports.mlflow_run import MlflowExperiment, metrics_of, params_of
from resnet50.reports.starts import STARTS_FILE, record_start
from resnet50.reports.tables import METRICS_FILE, record_epoch, write_table
from tests.reports.runs import make_run, metrics_row
from tests.reports.test_starts import start


class Client:
    """An MlflowClient in memory, with as many calls as the copy needs."""

    def __init__(self):
        self.experiments, self.runs, self.fails_at = {}, {}, None
        self._calls = itertools.count()

    def _count(self):
        if next(self._calls) == self.fails_at:
            raise ConnectionError

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = types.SimpleNamespace(experiment_id="7")
        return "7"

    def create_run(self, experiment_id, run_name, tags):
        self._count()
        assert experiment_id == "7"
        run = types.SimpleNamespace(
            info=types.SimpleNamespace(run_id=str(len(self.runs)), status="RUNNING"),
            data=types.SimpleNamespace(
                params={}, tags={**tags, "mlflow.runName": run_name}
            ),
            history=[],
        )
        self.runs[run.info.run_id] = run
        return run

    def search_runs(self, experiment_ids, filter_string):
        tag, value = filter_string.removeprefix("tags.`").rstrip("'").split("` = '")
        return [r for r in self.runs.values() if r.data.tags[tag] == value]

    def get_run(self, run_id):
        return self.runs[run_id]

    def get_metric_history(self, run_id, key):
        return [m for m in self.runs[run_id].history if m.key == key]

    def log_metric(self, run_id, key, value, timestamp, step):
        self._count()
        metric = types.SimpleNamespace(
            key=key, value=value, timestamp=timestamp, step=step
        )
        self.runs[run_id].history.insert(0, metric)  # In no promised order.

    def log_param(self, run_id, key, value):
        self._count()
        assert key not in self.runs[run_id].data.params
        self.runs[run_id].data.params[key] = value

    def set_tag(self, run_id, key, value):
        self._count()
        self.runs[run_id].data.tags[key] = value

    def update_run(self, run_id, status):
        self._count()
        self.runs[run_id].info.status = status


@pytest.fixture
def folder(tmp_path):
    folder = make_run(tmp_path / "run", 2, evaluated=[1], weights="averaged")
    record_start(folder / STARTS_FILE, start(0, learning_rate=0.1, schedule="step"))
    return folder


def update(client, folder, *, is_running=False):
    experiment = MlflowExperiment(client, "resnet50")
    return experiment.update(read_compared(folder), is_running=is_running)


def values(run):
    return {(m.key, m.step): m.value for m in run.history}


def test_metrics_and_parameters_have_names_that_mlflow_allows(folder):
    run = read_compared(folder)
    metrics = metrics_of(run)
    assert metrics["training/loss"] == {0: 7.0, 1: 6.95}
    assert metrics["validation/10 crops/averaged weights/top1"] == {1: 0.02}
    assert len(metrics) == 6 + 2 * 3
    assert params_of(run) == {
        "numpy": "2",
        "train.learning_rate": "0.1",
        "train.schedule": "step",
    }


def test_a_repetition_adds_nothing_and_an_epoch_its_row(folder):
    client = Client()
    assert update(client, folder, is_running=True) == 6 * 2 + 2 * 3
    (run,) = client.runs.values()
    assert run.info.status == "RUNNING"
    assert run.data.params["train.learning_rate"] == "0.1"
    assert update(client, folder) == 0
    assert run.info.status == "FINISHED"
    record_epoch(folder / METRICS_FILE, metrics_row(2))
    assert update(client, folder) == 6
    assert len(client.runs) == 1
    assert values(run)["training/loss", 2] == 6.9


@pytest.mark.parametrize("fails_at", range(0, 22, 3))
def test_a_copy_that_was_interrupted_is_completed(folder, fails_at):
    whole, client = Client(), Client()
    update(whole, folder)
    client.fails_at = fails_at
    with pytest.raises(ConnectionError):
        update(client, folder)
    update(client, folder)
    (expected,), (run,) = whole.runs.values(), client.runs.values()
    assert values(run) == values(expected)
    assert len(run.history) == len(expected.history)
    assert run.data.params == expected.data.params


def test_a_training_that_was_resumed_earlier_is_another_run(folder):
    client = Client()
    update(client, folder)
    write_table(folder / METRICS_FILE, [metrics_row(0), metrics_row(1, loss=5)])
    update(client, folder)
    old, new = client.runs.values()
    assert (old.info.status, new.info.status) == ("KILLED", "FINISHED")
    assert old.data.tags["mlflow.runName"] == "run, superseded"
    assert values(old)["training/loss", 1] == 6.95
    assert values(new)["training/loss", 1] == 5
    write_table(folder / METRICS_FILE, [metrics_row(0)])
    update(client, folder)
    assert len(client.runs) == 3
    assert update(client, folder) == 0


def test_an_epoch_that_was_evaluated_again_has_its_newest_value(folder):
    client = Client()
    update(client, folder)
    make_again = read_compared(folder).tables.evaluations
    make_again[0]["top1"] = "0.5"
    write_table(folder / "evaluation.csv", make_again)
    assert update(client, folder) == 1
    assert update(client, folder) == 0
    assert len(client.runs) == 1


def test_a_setting_that_changed_later_is_a_tag(folder):
    client = Client()
    update(client, folder)
    record_start(folder / STARTS_FILE, start(1, learning_rate=0.01, schedule="step"))
    for _ in range(2):
        update(client, folder)
    (run,) = client.runs.values()
    assert run.data.params["train.learning_rate"] == "0.1"
    assert run.data.tags["train.learning_rate"] == "0.1, then 0.01"
    assert "train.schedule" not in run.data.tags


def test_folders_are_told_apart(folder, tmp_path):
    client = Client()
    update(client, folder)
    update(client, make_run(tmp_path / "it's another", 1))
    assert len(client.runs) == 2


def test_the_real_mlflow_keeps_the_values(folder, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert update(client, folder, is_running=True) == 18
    record_start(folder / STARTS_FILE, start(1, learning_rate=0.01, schedule="step"))
    assert update(client, folder) == 0
    (experiment,) = (e for e in client.search_experiments() if e.name == "resnet50")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["validation/1 crop/averaged weights/top1"] == 0.011
    assert run.data.params["train.schedule"] == "step"
    assert run.data.tags["train.learning_rate"] == "0.1, then 0.01"
    write_table(folder / METRICS_FILE, [metrics_row(0, loss=3)])
    update(client, folder)
    assert len(client.search_runs([experiment.experiment_id])) == 2
