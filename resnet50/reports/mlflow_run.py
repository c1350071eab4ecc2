"""Copies a run's settings and tables into MLflow.

A run of MLflow belongs to a run's folder by a tag. Only values that it lacks are added,
so the copy can be interrupted, repeated and continued at any time. If it holds epochs
that the training has since repeated, it is tagged as superseded, and a new one begins.
"""

import hashlib
import math
import time
from pathlib import Path
from typing import Any

from resnet50.reports.comparison import ComparedRun, facts_of_starts
from resnet50.reports.curves import TRAINING, number

FOLDER_TAG, _ID_TAG, _NAME_TAG = "resnet50.folder", "resnet50.id", "mlflow.runName"

# What the epochs of two trainings differ in.
_LOSS = f"{TRAINING}/loss"

_COLUMNS = (
    "loss",
    "top1",
    "top5",
    "learning_rate",
    "images_per_second",
    "waiting",
    "skipped",
    "loss_scale",
)

# The longest value of a parameter that all servers accept.
_MAX_LENGTH = 500


def metrics_of(run: ComparedRun) -> dict[str, dict[int, float]]:
    """The values of a run by metric and epoch.

    The names are such as "training/loss" and "validation/10 crops/top1": MLflow allows
    no commas.
    """
    tables = run.tables
    groups = {TRAINING: tables.metrics, **tables.evaluations_by_kind}
    metrics: dict[str, dict[int, float]] = {}
    for kind, rows in groups.items():
        for column in _COLUMNS:
            values = {int(row["epoch"]): number(row, column) for row in rows}
            values = {e: v for e, v in values.items() if not math.isnan(v)}
            if values:
                metrics[f"{kind.replace(', ', '/')}/{column}"] = values
    return metrics


def params_of(run: ComparedRun) -> dict[str, str]:
    """The settings and versions of a run by name, such as "train.learning_rate".

    If it was continued with other values, each value in order; see ``compare``.
    """
    facts = facts_of_starts(run.starts)
    names = {name: name.replace("[", "").replace("] ", ".") for name in facts}
    return {names[name]: text[:_MAX_LENGTH] for name, text in facts.items()}


class MlflowExperiment:
    """An experiment of MLflow, with a run for each folder."""

    def __init__(self, client: Any, name: str):
        """Opens or creates it with a ``mlflow.MlflowClient``."""
        self._client = client
        found = client.get_experiment_by_name(name)
        self._id = found.experiment_id if found else client.create_experiment(name)

    def update(self, run: ComparedRun, *, is_running: bool) -> int:
        """Adds what MLflow lacks; returns how many values of metrics that were."""
        client, metrics = self._client, metrics_of(run)
        run_id = self._find(run.tables.folder)
        logged = self._logged(run_id, metrics)
        current = metrics.get(_LOSS, {})
        if run_id and logged.get(_LOSS, {}).items() - current.items():
            self._supersede(run_id, run)
            run_id, logged = None, {}
        if run_id is None:
            run_id = self._create(run)
        self._log_params(run_id, params_of(run))
        new = [
            (key, value, step)
            for key, values in metrics.items()
            for step, value in values.items()
            if logged.get(key, {}).get(step) != value
        ]
        now = int(1000 * time.time())
        for key, value, step in new:
            client.log_metric(run_id, key, value, timestamp=now, step=step)
        client.update_run(run_id, status="RUNNING" if is_running else "FINISHED")
        return len(new)

    def _find(self, folder: Path) -> str | None:
        filters = f"tags.`{_ID_TAG}` = '{_folder_id(folder)}'"
        found = self._client.search_runs([self._id], filter_string=filters)
        return found[0].info.run_id if found else None

    def _logged(self, run_id: str | None, keys) -> dict[str, dict[int, float]]:
        """The values that are there; of repeated ones the newest."""
        if run_id is None:
            return {}
        histories = {
            key: sorted(
                self._client.get_metric_history(run_id, key), key=lambda m: m.timestamp
            )
            for key in {*keys, _LOSS}
        }
        return {
            key: {metric.step: metric.value for metric in history}
            for key, history in histories.items()
        }

    def _create(self, run: ComparedRun) -> str:
        folder = run.tables.folder.absolute()
        tags = {FOLDER_TAG: str(folder), _ID_TAG: _folder_id(folder)}
        created = self._client.create_run(self._id, run_name=run.tables.name, tags=tags)
        return created.info.run_id

    def _supersede(self, run_id: str, run: ComparedRun) -> None:
        self._client.set_tag(run_id, _NAME_TAG, f"{run.tables.name}, superseded")
        self._client.update_run(run_id, status="KILLED")
        # Last: until then, a repetition finds the run again.
        self._client.set_tag(run_id, _ID_TAG, "superseded")

    def _log_params(self, run_id: str, params: dict[str, str]) -> None:
        """Logs parameters; one that has changed, which MLflow refuses, as a tag."""
        data = self._client.get_run(run_id).data
        for name, text in params.items():
            if name not in data.params:
                self._client.log_param(run_id, name, text)
            elif text not in (data.params[name], data.tags.get(name)):
                self._client.set_tag(run_id, name, text)


def _folder_id(folder: Path) -> str:
    """A text without the characters that a filter of MLflow would interpret."""
    return hashlib.sha256(bytes(folder.absolute())).hexdigest()[:16]
