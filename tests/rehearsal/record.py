"""What the stand-in records of each step. No test."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnet50.dataset.images import Dataset, epoch_order

# The modulus is a prime of 31 bits, so that the products fit into an int64.
_FACTOR, _MODULUS = 31, 2**31 - 1


class Step(NamedTuple):
    """One step of one start of the trainer; seconds of the monotonic clock."""

    step: int
    started: float
    waited: float  # how long the loop waited for the batch
    idle: float  # how long the device had no step to do
    missing: float = 0.0  # how long the reader waited for a batch that did not exist


class Start(NamedTuple):
    """One start of the trainer."""

    loading_seconds: float  # of TensorFlow
    steps: list[Step]


def read_record(path: Path) -> list[Start]:
    """Reads the whole lines: one with the loading time begins each start."""
    starts: list[Start] = []
    for line in path.read_text().split("\n")[:-1] if path.exists() else ():
        first, *others = map(float, line.split())
        if others:
            starts[-1].steps.append(Step(int(first), *others))
        else:
            starts.append(Start(first, []))
    return starts


def next_digest(digest, total):
    """The digest of all batches, after one more; of integers or tensors.

    The total is the sum of the batch's labels, each times its place from 1 on.
    """
    return (digest * _FACTOR + total) % _MODULUS


def expected_digest(dataset: Dataset, seed: int, batch_size: int, epochs: int) -> int:
    """The digest after a training that takes each batch once, in order."""
    digest, places = 0, np.arange(1, batch_size + 1)
    size = dataset.num_images // batch_size * batch_size
    for epoch in range(epochs):
        order = epoch_order(dataset.num_images, seed, epoch)[:size]
        labels = dataset.labels[order].reshape(-1, batch_size).astype(np.int64)
        for total in (labels @ places).tolist():
            digest = next_digest(digest, total)
    return digest
