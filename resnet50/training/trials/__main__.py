"""Runs one trial; see the package."""

import json
import sys

import resnet50.training  # noqa: F401, which makes TensorFlow quiet.

# isort: split
import tensorflow as tf

from resnet50.training.trials import correctness, limits, throughput
from resnet50.training.trials.subject import Subject

TRIALS = {
    function.__name__: function
    for function in (
        limits.describe_gpus,
        correctness.compare_devices,
        correctness.hash_weights,
        correctness.find_ops_elsewhere,
        throughput.measure_step,
        throughput.measure_copy,
        throughput.measure_files,
        limits.measure_growth,
        limits.overfill,
    )
}


def main() -> None:
    """Runs the trial and prints its result."""
    _, name, text = sys.argv
    arguments = json.loads(text)
    if "subject" in arguments:
        arguments["subject"] = Subject(**arguments["subject"])
    try:
        print(json.dumps(TRIALS[name](**arguments)))
    except tf.errors.OpError as error:
        # Its traceback, and a message of many lines, would hide what it says first.
        first, *_ = error.message.splitlines() or [""]
        sys.exit(f"{type(error).__name__}: {first}")


if __name__ == "__main__":
    main()
