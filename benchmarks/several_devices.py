"""Measures what several hosts and devices add: sums, start, checkpoint. Needs no GPU.

    python3 -m benchmarks.several_devices

Two to four trainers on this machine sum one number, and as many numbers as the network
has weights, in TensorFlow's ring over gRPC. Then a trainer creates the network on one,
two and eight logical devices of the CPU, traces its step, and saves a checkpoint.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from resnet50.config.toml_file import read_config

PROJECT = Path(__file__).parent.parent
NUM_WEIGHTS = 25_557_032
FIRST_PORT = 24_700


def milliseconds(action: Callable, repetitions: int) -> list[float]:
    """The times that an action takes, sorted."""
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - started))
    return sorted(times)


def run_host(num_hosts: int, index: int) -> None:
    """One of the hosts; the first one prints."""
    addresses = [f"127.0.0.1:{FIRST_PORT + i}" for i in range(num_hosts)]
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": addresses}, "task": task}
    )
    import tensorflow as tf

    from resnet50.training.devices.mirrored import MirroredDevices

    devices = MirroredDevices(tf.distribute.MultiWorkerMirroredStrategy())

    @tf.function
    def add(numbers):
        results = devices.strategy.run(
            lambda numbers: devices.sum([tf.identity(numbers)])[0], (numbers,)
        )
        return devices.strategy.experimental_local_results(results)[0]

    for size, repetitions in (1, 200), (NUM_WEIGHTS, 8):
        numbers = tf.ones(size)
        add(numbers)  # Traces.
        times = milliseconds(
            lambda numbers=numbers: add(numbers)[0].numpy(), repetitions
        )
        if index == 0:
            print(
                f"{num_hosts} hosts, a sum of {size:10,} numbers: {times[0]:8.2f} ms, "
                f"median {times[len(times) // 2]:8.2f}",
                flush=True,
            )


def run_start(num_devices: int) -> None:
    """A trainer's start, on logical devices of the CPU."""
    started = time.perf_counter()
    import numpy as np
    import tensorflow as tf

    from resnet50.handoff.progress import Position
    from resnet50.pixels.augmentation import ChannelStatistics
    from resnet50.training import checkpoint
    from resnet50.training.devices.mirrored import MirroredDevices
    from resnet50.training.devices.protocol import ONE_DEVICE
    from resnet50.training.update.schedules import StepNumbers
    from resnet50.training.update.step import create_training

    seconds = [time.perf_counter() - started]
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * num_devices,
    )
    devices = ONE_DEVICE
    if num_devices > 1:
        names = [f"CPU:{index}" for index in range(num_devices)]
        devices = MirroredDevices(tf.distribute.MirroredStrategy(names))
    config = read_config(PROJECT / "config.txt")
    settings = dataclasses.replace(config.train, precision="float32", xla=False)
    statistics = ChannelStatistics((0.5,) * 3, (0.25,) * 3)
    started = time.perf_counter()
    training = create_training(1000, config.model, settings, statistics, devices)
    seconds.append(time.perf_counter() - started)
    images, labels = np.zeros((8, 32, 32, 3), np.float32), np.zeros(8, np.int32)
    for _ in range(2):
        started = time.perf_counter()
        float(training.step(images, labels, None, StepNumbers(0.1, 1.0, 0.0, 1.0)))
        seconds.append(time.perf_counter() - started)
    described = {"precision": "float32", "accumulate_batches": 1}
    with tempfile.TemporaryDirectory() as folder:
        positions = iter(range(5))
        saved = milliseconds(
            lambda: checkpoint.save(
                training, Path(folder) / "run", Position(0, next(positions)), described
            ),
            5,
        )
    imported, created, first, second = seconds
    print(
        f"{num_devices} devices: TensorFlow {imported:.1f} s, network {created:.1f} s, "
        f"trace {first - second:.1f} s; a checkpoint {saved[2] / 1000:.1f} s; "
        f"{len(training.variables)} variables",
        flush=True,
    )


def main() -> None:
    """Starts each measurement in processes of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.host:
        run_host(*args.host)
    elif args.start:
        run_start(args.start)
    else:
        command = [sys.executable, "-m", "benchmarks.several_devices"]
        for num_hosts in 2, 3, 4:
            hosts = [
                subprocess.Popen(
                    [*command, "--host", str(num_hosts), str(index)],
                    stderr=subprocess.DEVNULL,
                )
                for index in range(num_hosts)
            ]
            for host in hosts:
                host.wait()
        for num_devices in 1, 2, 8:
            subprocess.run(
                [*command, "--start", str(num_devices)], stderr=subprocess.DEVNULL
            )


if __name__ == "__main__":
    main()
