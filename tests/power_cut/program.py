"""Runs a program as its script does, with a tiny network.

    python -m tests.power_cut.program train --config=... --run_folder=one

The trainer also prints a line after each checkpoint: from then on the checkpoint must
survive a power cut.

    python -m tests.power_cut.program --serve train evaluate

reads requests from stdin and runs these programs one after another in this process:
TensorFlow's import and the compilation of the step take longer than a recovery.
"""

import contextlib
import functools
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from resnet50 import command_line

NEEDS_TENSORFLOW = {"train", "evaluate"}


def shrink_network() -> None:
    """Makes every ResNet-50 of this process one block with few channels."""
    from resnet50.network import model
    from resnet50.training import session

    stages = (model.Stage(1, 4, 2),)
    model.STEM_CHANNELS = 4
    model.ResNet50.__init__.__kwdefaults__["stages"] = stages
    session.create_training = functools.partial(session.create_training, stages=stages)


def announce_checkpoints() -> None:
    """Prints "saved RUN EPOCH BATCH" after each checkpoint."""
    from resnet50.training import checkpoint

    save = checkpoint.save

    def save_and_announce(training, run_folder, position, description):
        path = save(training, run_folder, position, description)
        # In one write, around Python's buffer: the recorder sees it at once.
        os.write(1, "saved {} {} {}\n".format(run_folder.name, *position).encode())
        return path

    checkpoint.save = save_and_announce


def prepare(name: str) -> None:
    """Imports and changes what the program needs."""
    if name in NEEDS_TENSORFLOW:
        shrink_network()
        announce_checkpoints()


@contextlib.contextmanager
def _one_thread(num_workers: int) -> Iterator[ThreadPoolExecutor]:
    """Replaces worker_pool: a worker process would import numpy for each recovery."""
    with ThreadPoolExecutor(1) as pool:
        pool.num_workers = 1
        yield pool


def reuse_training() -> None:
    """Lets trainings of the same network share one, with its variables as at first."""
    from resnet50.training import session

    create = session.create_training
    made = {}

    def create_or_reset(num_classes, model, train, *others, **settings):
        key = num_classes, model, train.seed
        if key not in made:
            training = create(num_classes, model, train, *others, **settings)
            made[key] = training, [v.numpy() for v in training.variables]
        training, values = made[key]
        for variable, value in zip(training.variables, values):
            variable.assign(value)
        return training

    session.create_training = create_or_reset


def _run_here(name: str, flags: list[str], log: str) -> int:
    """Runs a program, with its output in a file; returns its status."""
    streams = sys.stdout, sys.stderr
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.argv = [name, *flags]
    try:
        command_line.run_command(name)
    except SystemExit as end:
        return end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = streams
    return 1


def serve(names: list[str]) -> None:
    """Runs the requested programs; answers with a line, the status, after each."""
    answers = os.fdopen(os.dup(1), "w")
    for name in names:
        module = importlib.import_module(f"resnet50.commands.{name}")
        prepare(name)
        if name == "runtime_preprocessing":
            module.worker_pool = _one_thread
        if name == "train":
            reuse_training()
    for line in sys.stdin:
        print(_run_here(*json.loads(line)), file=answers, flush=True)


def main() -> None:
    """Runs the program that the command line names, or the server."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # The network is too small for a GPU.
    name = sys.argv.pop(1)
    if name == "--serve":
        serve(sys.argv[1:])
        return
    prepare(name)
    command_line.run_command(name)


if __name__ == "__main__":
    main()
