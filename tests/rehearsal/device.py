"""A stand-in for a GPU: a step takes its time, but computes hardly anything. No test.

Everything else of train.py is real: the reader and its threads, the copies, the loop,
TensorFlow, the variables of the ResNet-50 and of its optimizer, and their checkpoints.
"""

import time
from pathlib import Path

import tensorflow as tf

from resnet50.handoff.reader import BatchReader
from resnet50.training.update import step as update_step
from resnet50.training.update.loss import ForwardPass
from resnet50.training.update.schedules import StepNumbers
from resnet50.training.update.step import Training
from tests.rehearsal.record import next_digest


class Device:
    """Works on one step while the host prepares the next, as a GPU does."""

    def __init__(self, record: Path, step_seconds: float, loading_seconds: float):
        """Notes how long TensorFlow took to load."""
        self._step_seconds = step_seconds
        self._file = record.open("a", buffering=1)
        self._file.write(f"{loading_seconds:.2f}\n")
        self._free_at: float | None = None
        self._next = 0, 0.0, 0.0

    def note_batch(self, step: int, waited: float, missing: float) -> None:
        """Notes the next step; for the seconds see ``record.Step``."""
        self._next = step, waited, missing

    def start_step(self) -> None:
        """Returns when the step before has ended."""
        now = time.monotonic()
        free_at = now if self._free_at is None else self._free_at
        time.sleep(max(0.0, free_at - now))
        started = max(now, free_at)
        self._free_at = started + self._step_seconds
        step, waited, missing = self._next
        idle = started - free_at
        self._file.write(
            f"{step} {started:.4f} {waited:.4f} {idle:.4f} {missing:.4f}\n"
        )


def install(record: Path, step_seconds: float, loading_seconds: float) -> None:
    """Lets the training use the stand-in."""
    device = Device(record, step_seconds, loading_seconds)
    next_batch = BatchReader.__next__

    def missing_seconds(reader: BatchReader) -> float:
        return reader.absent_seconds + reader.unattended_seconds

    counted = 0.0

    def noted_next(reader: BatchReader):
        nonlocal counted
        started = time.monotonic()
        batch = next_batch(reader)
        before, counted = counted, missing_seconds(reader)
        waited = time.monotonic() - started
        device.note_batch(batch.step, waited, counted - before)
        return batch

    class StandInTraining(Training):
        """Learns the frequencies of the classes, as the classifier's bias."""

        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            # Of the labels in the order of training: it proves that each batch was
            # trained on once. A part of the checkpoints.
            self.digest = tf.Variable(0, dtype=tf.int64, trainable=False)

        def step(self, *arguments):
            device.start_step()
            return super().step(*arguments)

        def _step(self, images, labels, shifts, numbers):
            bias = self.model.classifier.bias
            with tf.GradientTape() as tape:
                logits = tf.tile(bias[None], [labels.shape[0], 1])
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                # With the images, so that a damaged one would be noticed.
                loss = tf.reduce_mean(losses) + tf.reduce_mean(
                    tf.cast(images, tf.float32)
                )
            labels = tf.cast(labels, tf.int32)
            rate = StepNumbers(*tf.unstack(numbers)).learning_rate
            bias.assign_sub(rate * tape.gradient(loss, bias))
            self.totals.add(ForwardPass(logits, labels, loss), 0.0)
            places = tf.range(1, labels.shape[0] + 1)
            total = tf.reduce_sum(tf.cast(labels * places, tf.int64))
            self.digest.assign(next_digest(self.digest, total))
            return loss

    BatchReader.__next__ = noted_next
    update_step.Training = StandInTraining
