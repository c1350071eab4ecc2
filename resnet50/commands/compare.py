"""Compares runs: which settings, versions and commits differ, and the results.

    python -m resnet50 compare mytestrun another

A run is a name in saved_models_folder of config.txt, or a folder. Reads starts.jsonl,
metrics.csv and evaluation.csv of each run, so it can run during a training.
"""

import argparse

from resnet50 import command_line
from resnet50.errors import printable_line
from resnet50.reports.comparison import comparison_lines, read_runs
from resnet50.reports.starts import STARTS_FILE
from resnet50.terminal import say


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="name or folder")
    return parser


def main() -> None:
    """Prints the table."""
    parser = build_parser()
    args = parser.parse_args()
    if len(args.runs) < 2:
        parser.error("give at least two runs")
    runs = read_runs([command_line.find_run(word, args) for word in args.runs])
    for run in runs:
        if not run.starts:
            say(
                f"{run.tables.folder}: has no {STARTS_FILE} (train.py writes it), so "
                "its settings are unknown"
            )
    for line in comparison_lines(runs):
        print(printable_line(line))
