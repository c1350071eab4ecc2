"""What 1 to 128 hosts of eight cards reach and need, on paper.

    python3 -m benchmarks.many_hosts

Each host has its own preprocessor, which makes its part of each batch, in a local
buffer. All hosts meet before each step and sum their gradients after it. A lost host
ends the training, which resumes from its last checkpoint. The figures are measured on
one card or with a few processes, published, or assumed: see docs/scaling.md.
"""

import argparse
import math
import random
from typing import NamedTuple

from benchmarks.simulation import Settings, Simulation

HOSTS = 1, 2, 8, 32, 128
GPUS = 8  # of a host
MOST_PER_GPU = 256  # images in a step; more are hardly faster
LARGEST_BATCH = 32_768  # of all GPUs, that still reaches the accuracy
EPOCH = 1_281_167  # images

# Images/s of an H100 in bfloat16 without XLA, by batch size.
MEASURED = {64: 1810, 128: 1902, 256: 1999}
BANDWIDTHS = {"A100": 1555, "H100": 3350}  # of the card's memory, GB/s

WORKER_SPEED = 430  # images/s
SPARE = 1.25  # as many workers as the training needs
WORKER_BYTES = 127e6  # without its batch
READ_AHEAD = 4  # batches in the trainer's memory
IMAGE_BYTES = 224 * 224 * 3  # uint8
FILE_BYTES = 117_000  # of an image
PAUSE_SECONDS = 300.0  # that the buffer outlasts
POLL_SECONDS, REFILL_BELOW = 10.0, 0.8

GRADIENT_BYTES = 4 * 25_557_032
# Of gradients, loss, moving statistics and hits, and the exchange before the step.
SUMS = 5
NUM_VARIABLES = 435  # copied at the start, each with a sum of its own
NVLINK, NETWORK = 200e9, 12.5e9  # bytes/s of a GPU, and of a host: 100 Gbit/s
# The latency of a short sum with NCCL: within a host, and for each hop between hosts.
LOCAL_SECONDS, HOP_SECONDS = 1e-4, 2e-5
RING_HOP_SECONDS, RING_SPEED = 0.54e-3, 0.22e9  # TensorFlow's ring; bytes/s
# Standard deviations, relative: of a host's step, and of the hosts' workers.
STEP_SPREAD, WORKER_SPREAD = 0.02, 0.05

WEEK = 7 * 86_400.0
FAILURE_SECONDS = WEEK  # mean time until a host fails
SAVE_SECONDS = 1.2  # a checkpoint
# Until the others notice, until the host is back, and until all train again.
DOWN_SECONDS = 35.0 + 300.0 + 80.0


def per_gpu(num_hosts: int) -> int:
    """Images of a GPU in each step."""
    return min(MOST_PER_GPU, LARGEST_BATCH // (GPUS * num_hosts))


def step_seconds(card: str, images: int) -> float:
    """A card's time for its part of a step, without XLA.

    A fixed part, and one for each image, which grows with the memory's slowness. Both
    follow from the smallest and the largest batch measured on an H100.
    """
    small, large = min(MEASURED), max(MEASURED)
    times = {batch: batch / speed for batch, speed in MEASURED.items()}
    for_image = (times[large] - times[small]) / (large - small)
    fixed = times[large] - large * for_image
    return fixed + images * for_image * BANDWIDTHS["H100"] / BANDWIDTHS[card]


def sum_seconds(num_hosts: int, network: float = NETWORK) -> float:
    """All sums of a step with NCCL: within each host, then over all hosts."""
    hops = 2 * math.log2(num_hosts)
    seconds = SUMS * (LOCAL_SECONDS + hops * HOP_SECONDS)
    seconds += _ring_bytes(GPUS) / NVLINK
    return seconds + _ring_bytes(num_hosts) / network


def ring_seconds(num_hosts: int) -> float:
    """All sums of a step with TensorFlow's ring of all GPUs, over gRPC."""
    members = GPUS * num_hosts
    hops = 2 * (members - 1)
    return SUMS * hops * RING_HOP_SECONDS + _ring_bytes(num_hosts) / RING_SPEED


def _ring_bytes(members: int) -> float:
    """What each member sends for a sum of the gradients, and receives."""
    return GRADIENT_BYTES * 2 * (members - 1) / members


def smallest_buffer_seconds(batch: int) -> float:
    """How long a buffer must last so that the trainer never waits.

    The preprocessor may have just begun to sleep when the buffer falls below
    refill_below; then a worker needs some time for the first batch, at most about 1.5
    times the usual.
    """
    return (POLL_SECONDS + 1.5 * batch / WORKER_SPEED) / REFILL_BELOW


class Needs(NamedTuple):
    """What one host needs."""

    workers: int
    memory: float  # bytes, of workers and of the batches that the trainer holds
    smallest_buffer: float  # bytes
    buffer: float  # bytes, for a pause
    written: float  # bytes/s, and as much is read
    files: float  # bytes/s of image files
    gradients: float  # bytes/s, sent and received


def needs(images_per_second: float, num_hosts: int) -> Needs:
    """What one host needs for its images/s and its part of the sums."""
    workers = math.ceil(SPARE * images_per_second / WORKER_SPEED)
    batch = GPUS * per_gpu(num_hosts)
    written = images_per_second * IMAGE_BYTES
    smallest = smallest_buffer_seconds(batch)
    return Needs(
        workers,
        workers * WORKER_BYTES + (workers + READ_AHEAD) * batch * IMAGE_BYTES,
        written * smallest,
        written * (smallest + PAUSE_SECONDS / REFILL_BELOW),
        written,
        images_per_second * FILE_BYTES,
        _ring_bytes(num_hosts) * images_per_second / batch,
    )


class Speed(NamedTuple):
    """The result of a simulated training."""

    images_per_second: float  # of all hosts
    share_in_steps: float  # of the time that a GPU computes
    share_waiting: float  # of the time that all wait for batches


def simulate(card: str, num_hosts: int, sums: float, seconds: float = 25.0) -> Speed:
    """Simulates the loops of all hosts, with buffers that are full at the start.

    The buffers are so small that each is refilled in that time: at the refill's worst
    moment they last until the first new batch is ready.

    Args:
        card: Of all hosts.
        num_hosts: How many.
        sums: Seconds of each step for the sums.
        seconds: How long to simulate.
    """
    batch = GPUS * per_gpu(num_hosts)
    step = step_seconds(card, per_gpu(num_hosts))
    expected = batch / (step + sums)
    rng = random.Random(0)
    factors = [max(0.5, rng.gauss(1.0, WORKER_SPREAD)) for _ in range(num_hosts)]
    settings = Settings(
        num_workers=math.ceil(SPARE * expected / WORKER_SPEED),
        make_seconds=batch / WORKER_SPEED,
        make_factors=tuple(factors),
        step_seconds=step,
        step_spread=STEP_SPREAD,
        sum_seconds=sums,
        buffer_size=math.ceil(expected * smallest_buffer_seconds(batch) / batch),
        read_seconds=0.0,  # Several threads read, at the same time as the card trains.
        starts_full=True,
        num_hosts=num_hosts,
    )
    outcome = Simulation(settings).run(seconds)
    return Speed(
        outcome.num_trained * batch * num_hosts / seconds,
        outcome.num_trained * step / seconds,
        outcome.waited_seconds / seconds,
    )


def best_interval(num_hosts: int) -> float:
    """Young's interval between two checkpoints, seconds (CACM 17, 1974)."""
    return math.sqrt(2 * SAVE_SECONDS * FAILURE_SECONDS / num_hosts)


def lost_by_formula(num_hosts: int, interval: float) -> float:
    """The share of time lost: saving, half an interval and the downtime per failure."""
    rate = num_hosts / FAILURE_SECONDS
    return SAVE_SECONDS / interval + rate * (interval / 2 + DOWN_SECONDS)


def simulate_lost(num_hosts: int, interval: float, num_failures: int = 20_000) -> float:
    """The share of time lost, with hosts that fail at random moments."""
    rng = random.Random(0)
    kept = total = 0.0
    for _ in range(num_failures):
        seconds = rng.expovariate(num_hosts / FAILURE_SECONDS)
        kept += seconds // (interval + SAVE_SECONDS) * interval
        total += seconds + DOWN_SECONDS
    return 1 - kept / total


def copy_seconds(latency: float) -> float:
    """The copy of weights, momentum and statistics to all hosts at the start."""
    return NUM_VARIABLES * latency + 2 * 2 * GRADIENT_BYTES / NETWORK


def main() -> None:
    """Prints the tables of docs/scaling.md."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for card in BANDWIDTHS:
        for num_hosts in HOSTS:
            images = per_gpu(num_hosts)
            step, sums = step_seconds(card, images), sum_seconds(num_hosts)
            speed = simulate(card, num_hosts, sums)
            print(
                f"{card} x {GPUS * num_hosts:5}: {images:3} images per GPU, "
                f"step {1e3 * step:5.1f} ms, sums {1e3 * sums:4.1f} ms, "
                f"in steps {speed.share_in_steps:4.0%}, "
                f"waiting {speed.share_waiting:.1%}, "
                f"{speed.images_per_second:9,.0f} images/s, "
                f"epoch {EPOCH / speed.images_per_second:6.1f} s"
            )
            need = needs(speed.images_per_second / num_hosts, num_hosts)
            print(
                f"    each host: {need.workers} workers, "
                f"memory {need.memory / 1e9:.0f} GB, "
                f"buffer {need.smallest_buffer / 1e9:,.0f} GB, "
                f"for 5 minutes {need.buffer / 1e9:,.0f} GB, "
                f"{need.written / 1e9:.1f} GB/s, files {need.files / 1e9:.1f} GB/s, "
                f"gradients {need.gradients / 1e9:.1f} GB/s"
            )
            if num_hosts > 1:
                ring = ring_seconds(num_hosts)
                share = simulate(card, num_hosts, ring).share_in_steps
                print(f"    with TensorFlow's ring: {ring:.2f} s, {share:.1%}")
    for num_hosts in HOSTS:
        best = best_interval(num_hosts)
        print(
            f"{num_hosts:3} hosts: a checkpoint every {best / 60:.1f} min loses "
            f"{lost_by_formula(num_hosts, best):.1%} by the formula, "
            f"{simulate_lost(num_hosts, best):.1%} simulated; "
            f"every 20 min {simulate_lost(num_hosts, 1200):.1%}"
        )


if __name__ == "__main__":
    main()
