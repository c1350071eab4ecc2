"""Compares the simulation of several hosts with real programs that stand in for them.

    python3 -m benchmarks.stand_in_hosts [--images DIR] [--seconds 30]

Each "host" is the real runtime_preprocessing.py with a buffer of its own, and the
stand-in for the trainer of ``benchmarks.handoff``. The stand-ins wait for each other
before each step. To run several hosts on one machine, batches are small, and a worker
sleeps until the time is over that a batch takes.
"""

import argparse
import contextlib
import multiprocessing
import random
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.handoff import Bench, take_batches
from benchmarks.photographs import scratch_with_images
from benchmarks.simulation import Settings, Simulation
from resnet50.commands import runtime_preprocessing
from resnet50.preprocessing.process_pool import WorkerPool

BATCH_SIZE = 4  # Takes about 10 ms to make.
SPREAD = 0.05  # of the time for a batch, as in the simulation
SLEEP_SECONDS = 0.2  # that Bench sets


class Trial(NamedTuple):
    """A worker's seconds for a batch on each host; seconds of a step; batches."""

    make_seconds: tuple[float, ...]
    step_seconds: float
    buffer_size: int = 20


TRIALS = (
    Trial((0.2, 0.3), 0.1),
    Trial((0.2, 0.2, 0.2, 0.2), 0.1),
    Trial((0.2, 0.2, 0.2, 0.3), 0.1),
    Trial((0.2, 0.2, 0.2, 0.2), 0.2, 2),
)

_barrier: threading.Barrier  # In each host's process.


class _SlowPool(ThreadPoolExecutor, WorkerPool):
    """Workers that sleep until the time for a batch is over."""

    num_workers = 1

    def __init__(self, make_seconds: float):
        super().__init__(1)
        self._make_seconds = make_seconds

    def submit(self, function, /, *arguments):
        """Runs the function, and then sleeps."""

        def run():
            end = time.monotonic() + self._make_seconds * random.gauss(1.0, SPREAD)
            result = function(*arguments)
            time.sleep(max(0.0, end - time.monotonic()))
            return result

        return super().submit(run)


def preprocess() -> None:
    """The preprocessor with slow workers; the first argument is their seconds."""
    make_seconds = float(sys.argv.pop(1))
    runtime_preprocessing._pool_opener = lambda *_: lambda: _SlowPool(make_seconds)
    runtime_preprocessing.main()


def _set_barrier(barrier: threading.Barrier) -> None:
    global _barrier
    _barrier = barrier


def run_host(bench: Bench, seconds: float, interval: float) -> tuple[float, float]:
    """What ``take_batches`` returns, if each step waits for all hosts."""

    def meet() -> None:
        # The host that finishes first breaks the barrier.
        with contextlib.suppress(threading.BrokenBarrierError):
            _barrier.wait()

    with bench.preprocessor(1):
        bench.wait_for(1)
        try:
            return take_batches(bench, seconds, interval, meet)
        finally:
            _barrier.abort()


def simulated(trial: Trial, seconds: float = 600) -> tuple[float, float]:
    """Steps per second and the share of waiting, from the simulation."""
    settings = Settings(
        num_workers=1,
        make_seconds=1.0,
        make_factors=trial.make_seconds,
        step_seconds=trial.step_seconds,
        buffer_size=trial.buffer_size,
        spread=SPREAD,
        refill_sleep_seconds=SLEEP_SECONDS,
        keeps_pace=True,
        num_hosts=len(trial.make_seconds),
    )
    outcome = Simulation(settings).run(seconds)
    return outcome.num_trained / seconds, outcome.waited_seconds / seconds


def measure(
    trial: Trial, scratch: Path, images: list[Path], seconds: float
) -> list[tuple[float, float]]:
    """Steps per second and the share of waiting of each host."""
    benches = []
    for index, make_seconds in enumerate(trial.make_seconds):
        folder = scratch / str(index)
        bench = Bench(folder, images, trial.buffer_size, batch_size=BATCH_SIZE)
        start = "from benchmarks.stand_in_hosts import preprocess; preprocess()"
        bench.program = "-c", start, str(make_seconds)
        benches.append(bench)
    num_hosts = len(benches)
    spawn = multiprocessing.get_context("spawn")
    initial = (spawn.Barrier(num_hosts),)
    with ProcessPoolExecutor(num_hosts, spawn, _set_barrier, initial) as pool:
        repeated = [seconds] * num_hosts, [trial.step_seconds] * num_hosts
        return list(pool.map(run_host, benches, *repeated))


def main() -> None:
    """Runs the trials and prints measured and simulated figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="default: generated photographs")
    parser.add_argument("--seconds", type=float, default=30, help="of each trial")
    args = parser.parse_args()
    with scratch_with_images(args.images, 20) as (scratch, images):
        for trial in TRIALS:
            results = measure(trial, scratch, images, args.seconds)
            steps, waiting = simulated(trial)
            shares = ", ".join(f"{share:.0%}" for _, share in results)
            print(
                f"{trial}: measured {results[0][0]:.2f} steps/s, waiting {shares}; "
                f"simulated {steps:.2f}, {waiting:.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
