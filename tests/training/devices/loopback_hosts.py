"""Hosts of a training that are processes on this machine; no test.

They communicate over the loopback interface.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from resnet50.handoff.progress import FILE_NAME
from tests.settings import PROJECT, write_small_config

SECONDS = 600  # On an idle machine nothing here takes a tenth of this.


def write_config(folder: Path, images: Path, **train) -> Path:
    """Writes the settings of a tiny training that normalizes whole batches."""
    folder.mkdir(exist_ok=True)
    return write_small_config(
        folder,
        dataset={"training_images": str(images / "train")},
        model={"synchronized_batch_norm": True},
        train={"buffer_size": 8, "learning_rate": 0.002} | train,
    )


@contextlib.contextmanager
def started(*command, environment=None):
    """Runs a Python program whose stderr is read at its end; kills it at last."""
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=PROJECT,
        env=os.environ | (environment or {}),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def preprocessor(config, environment=None):
    """Runs runtime_preprocessing.py."""
    return started(
        "runtime_preprocessing.py", f"--config={config}", environment=environment
    )


def trainer(config, *flags, environment=None):
    """Runs train.py with a network of two blocks; the run is called run."""
    return started(
        "tests/training/devices/two_block_trainer.py",
        f"--config={config}",
        "--run_folder=run",
        *flags,
        environment=environment,
    )


def two_environments() -> list[dict[str, str]]:
    """TF_CONFIG of two hosts, with ports that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return [
        {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            )
        }
        for index in range(2)
    ]


@contextlib.contextmanager
def two_trainers(configs, *flags):
    """Starts a trainer with each configuration."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(trainer(config, *flags, environment=environment))
            for config, environment in zip(configs, two_environments(), strict=True)
        ]


@contextlib.contextmanager
def two_local_hosts(configs, *flags):
    """Starts a preprocessor and a trainer with each configuration.

    Yields the preprocessors and the trainers.
    """
    with contextlib.ExitStack() as stack:
        environments = two_environments()
        preprocessors = [
            stack.enter_context(preprocessor(config, environment))
            for config, environment in zip(configs, environments, strict=True)
        ]
        trainers = [
            stack.enter_context(trainer(config, *flags, environment=environment))
            for config, environment in zip(configs, environments, strict=True)
        ]
        yield preprocessors, trainers


def wait_for_progress(config, past, trainers):
    """Waits until a training is past a position; fails if it ends before."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            words = (config.parent / "buffer" / FILE_NAME).read_text().split()
            if tuple(map(int, words)) > past:
                return
        time.sleep(0.05)
        for process in trainers:
            assert process.poll() is None, process.communicate()[1]
    raise AssertionError("no progress")


def ended(process):
    """Waits for a process; returns its exit status and stderr."""
    _, errors = process.communicate(timeout=SECONDS)
    return process.returncode, errors
