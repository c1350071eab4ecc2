"""Copies the settings and tables of runs into MLflow, once or whenever they change.

    python -m resnet50 log mytestrun --follow

A run is a name in saved_models_folder of config.txt, or a folder. Each epoch is a step
of MLflow. The copy can be interrupted and repeated: only what MLflow lacks is added. It
can run during a training, and needs no server: without --uri and MLFLOW_TRACKING_URI it
writes the database mlflow.db next to the first run.
"""

import argparse
import os
import time

from resnet50 import command_line
from resnet50.errors import UserError
from resnet50.handoff import locks
from resnet50.reports.comparison import read_runs
from resnet50.reports.mlflow_run import MlflowExperiment
from resnet50.terminal import say

# Seconds between two polls of the tables with --follow.
_POLL_SECONDS = 5.0


class LogError(UserError):
    """MLflow cannot be reached, or refuses a value."""


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="name or folder")
    parser.add_argument(
        "--to", choices=("mlflow",), default="mlflow", help="where to; default: mlflow"
    )
    parser.add_argument(
        "--uri",
        help="of MLflow's server or database; default: MLFLOW_TRACKING_URI, or "
        "mlflow.db next to the first run",
    )
    parser.add_argument(
        "--experiment", default="resnet50", help="in MLflow; default: resnet50"
    )
    parser.add_argument(
        "--follow", action="store_true", help="copy again when a table has changed"
    )
    return parser


def main() -> None:
    """Copies, once or again and again."""
    args = build_parser().parse_args()
    folders = [command_line.find_run(word, args) for word in args.runs]
    uri = args.uri or os.environ.get("MLFLOW_TRACKING_URI")
    uri = uri or f"sqlite:///{folders[0].absolute().parent / 'mlflow.db'}"
    # By default MLflow retries for minutes if a server does not answer.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    with command_line.needing("mlflow", "mlflow"):
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    last, experiment = None, None
    while True:
        runs = read_runs(folders)
        are_running = [locks.is_alive(f, locks.TRAINER) for f in folders]
        if (runs, are_running) != last:
            try:
                experiment = experiment or MlflowExperiment(
                    MlflowClient(tracking_uri=uri), args.experiment
                )
                for run, is_running in zip(runs, are_running):
                    num_added = experiment.update(run, is_running=is_running)
                    say(f"{run.tables.folder}: {num_added:,} values added in {uri}")
                last = runs, are_running
            except MlflowException as error:
                reason = str(error).splitlines()[0]
                problem = LogError(f"{uri}: MLflow fails: {reason} (see --uri)")
                if not args.follow:
                    raise problem from None
                say(str(problem))
        if not args.follow:
            return
        time.sleep(_POLL_SECONDS)
