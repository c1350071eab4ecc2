"""The memory of a GPU that a training needs: an estimate, made before the start."""

import bisect
import contextlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from resnet50.checks.cuda import find_memory
from resnet50.config.settings import TrainConfig
from resnet50.errors import UserError
from resnet50.handoff.placer import MAX_PLACED

# The most bytes that the tensors of a step need at once, for each pixel of a batch:
# mainly activations that are kept for the gradients. From the step's graph, with which
# tests/training/devices/test_memory.py compares them.
_BYTES_PER_PIXEL = {"float32": 1770, "float16": 925, "bfloat16": 925}
# The share of them for each value of [model] trainable: activations of frozen parts are
# not kept.
_SHARES = {
    "all": 1.0,
    "stage1": 0.89,
    "stage2": 0.57,
    "stage3": 0.3,
    "stage4": 0.11,
    "classifier": 0.11,
}
# With XLA the graph has copies with padding.
_XLA_FACTOR = 1.11
_FLOAT_BYTES = 4

# Not in the graph, and not measured: gaps between tensors; and CUDA's context, the
# kernels and cuDNN's workspaces.
_GAPS_FACTOR = 1.1
_CONTEXT_BYTES = 600e6


class GpuMemoryError(UserError):
    """A step needs more memory than the GPU has free."""


class MemoryNeed:
    """What a training with some settings needs on each GPU."""

    def __init__(
        self,
        train: TrainConfig,
        crop_size: int,
        num_parameters: int,
        *,
        num_trained: int | None = None,
        trainable: str = "all",
    ):
        """Takes [train] after ``choices.choose``, and what is trained; None for all."""
        self._train = train
        self._pixels = crop_size**2
        self._kept_share = _SHARES[trainable]
        if num_trained is None:
            num_trained = num_parameters
        self._trained_bytes = _FLOAT_BYTES * num_trained
        # The weights and the velocity, and what some settings add.
        copies = 1 + (train.weight_average_decay > 0)
        copies_of_trained = 1 + (train.accumulate_batches > 1)
        # LAMB has two moments instead of the velocity.
        copies_of_trained += train.optimizer == "lamb"
        self._variables_bytes = (
            copies * _FLOAT_BYTES * num_parameters
            + copies_of_trained * self._trained_bytes
        )

    def step_bytes(self, batch_size: int) -> float:
        """The live tensors of a step with so many images on the GPU."""
        per_pixel = self._kept_share * _BYTES_PER_PIXEL[self._train.precision]
        if self._train.xla:
            per_pixel *= _XLA_FACTOR
        # At the end, the gradients are there three times, as tensors and as vectors.
        return max(per_pixel * self._pixels * batch_size, 3 * self._trained_bytes)

    def estimate_bytes(self, batch_size: int) -> float:
        """All memory that a training needs with so many images on the GPU."""
        # Those that were copied ahead, and that of the step.
        num_batches = min(self._train.read_ahead, MAX_PLACED) + 1
        value_bytes = np.dtype(self._train.dtype).itemsize
        batches = num_batches * batch_size * self._pixels * 3 * value_bytes
        tensors = self.step_bytes(batch_size) + self._variables_bytes + batches
        return _GAPS_FACTOR * tensors + _CONTEXT_BYTES

    def largest_batch(self, free_bytes: float) -> int:
        """The most images that fit, or 0."""
        return bisect.bisect_right(
            range(1, 100_001), free_bytes, key=self.estimate_bytes
        )

    def line(self, batch_size: int, free_bytes: float) -> str:
        """Says before the start what is needed, and what to do if it is too much."""
        need = self._words(batch_size)
        free = f"{free_bytes / 1e9:.1f} GB of the GPU's memory are free"
        if self.estimate_bytes(batch_size) <= free_bytes:
            return f"{need}; {free}"
        fits = self.largest_batch(free_bytes)
        return f"warning: {need}, but {free}; batches of {fits} should fit"

    def _words(self, batch_size: int) -> str:
        gigabytes = self.estimate_bytes(batch_size) / 1e9
        return (
            f"batches of {batch_size} in {self._train.precision} need about "
            f"{gigabytes:.1f} GB"
        )

    @contextlib.contextmanager
    def reported(self, batch_size: int, free_bytes: float | None) -> Iterator[None]:
        """Turns TensorFlow's error about full memory into one line.

        Raises:
            GpuMemoryError: With a batch size that should fit.
        """
        try:
            yield
        except tf.errors.ResourceExhaustedError:
            # The estimate may have been too low.
            fits, free = max(1, 3 * batch_size // 4), ""
            if free_bytes is not None:
                fits = max(1, min(fits, self.largest_batch(free_bytes)))
                free = f", {free_bytes / 1e9:.1f} GB were free at the start"
            raise GpuMemoryError(
                f"the memory of the GPU is full: {self._words(batch_size)}{free} (use "
                f"--batch_size={fits} in both terminals)"
            ) from None


def free_gpu_bytes(name: str) -> int | None:
    """The free memory of the GPU with a name; the least of several; None if unknown."""
    cards = [card.free_bytes for card in find_memory() if card.name == name]
    return min(cards, default=None)
