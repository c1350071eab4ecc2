"""Proves that two hosts train together; here both are processes on this machine.

They communicate over the loopback interface. One is stopped, one is killed, and a
single process finishes the training.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from resnet50.demo.pictures import make_images
from resnet50.handoff.progress import FILE_NAME
from resnet50.reports.tables import read_table
from tests.settings import PROJECT, write_small_config

SECONDS = 120  # On an idle machine no step here takes a third of this.
PER_CLASS, EPOCHS = 8, 2


@pytest.fixture
def config(tmp_path):
    make_images(tmp_path / "images/train", PER_CLASS, 1, with_odd_files=False)
    return write_small_config(
        tmp_path,
        model={"synchronized_batch_norm": True},
        train={"epochs": EPOCHS, "buffer_size": 8, "learning_rate": 0.002},
    )


@contextlib.contextmanager
def started(*command, environment=None):
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


def trainer(config, run, *flags, environment=None):
    return started(
        "tests/training/devices/two_block_trainer.py",
        f"--config={config}",
        f"--run_folder={run}",
        *flags,
        environment=environment,
    )


@contextlib.contextmanager
def two_hosts(config, run, *flags):
    """Starts two trainers, each with the addresses of both."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                trainer(
                    config,
                    run,
                    *flags,
                    environment={
                        "TF_CONFIG": json.dumps(
                            {
                                "cluster": {"worker": addresses},
                                "task": {"type": "worker", "index": index},
                            }
                        )
                    },
                )
            )
            for index in range(2)
        ]


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
    _, errors = process.communicate(timeout=SECONDS)
    return process.returncode, errors


def test_two_hosts_stopped_killed_and_resumed_on_one(config):
    preprocessing = "runtime_preprocessing.py", f"--config={config}"
    with started(*preprocessing), trainer(config, "reference") as reference:
        code, errors = ended(reference)
        assert code == 0, errors
    # With it, the next preprocessor would find that everything is trained, and end.
    (config.parent / "buffer" / FILE_NAME).unlink()
    with started(*preprocessing):
        with two_hosts(config, "run") as (chief, other):
            wait_for_progress(config, (0, 2), [chief, other])
            other.send_signal(signal.SIGTERM)
            results = [ended(host) for host in (chief, other)]
        for code, errors in results:
            assert code == 130, errors
            assert "Traceback" not in errors
        stops = {
            line
            for _, errors in results
            for line in errors.splitlines()
            if line.startswith("stopped before")
        }
        assert len(stops) == 1, results
        run = config.parent / "saved_models/run"
        [stopped_at] = [path for path in run.iterdir() if path.is_dir()]
        epoch, batch_index = map(int, stopped_at.name.split("_"))

        with two_hosts(config, "run", "--resume") as (chief, other):
            wait_for_progress(config, (epoch, batch_index + 2), [chief, other])
            other.kill()
            code, errors = ended(chief)
        assert code == 1, errors
        assert "Traceback" not in errors
        assert errors.splitlines()[-1].startswith("worker 1, 127.0.0.1:"), errors

        with trainer(config, "run", "--resume") as alone:
            code, errors = ended(alone)
            assert code == 0, errors
    expected = read_table(config.parent / "saved_models/reference/metrics.csv")
    found = read_table(run / "metrics.csv")
    assert [row["epoch"] for row in found] == [str(e) for e in range(EPOCHS)]
    for ours, theirs in zip(found, expected, strict=True):
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-4)
