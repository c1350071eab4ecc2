"""Sums over an epoch so far: losses and correct predictions."""

import tensorflow as tf

from resnet50.training.devices.protocol import ONE_DEVICE, Devices
from resnet50.training.update.loss import ForwardPass


def count_correct(predictions: tf.Tensor, labels: tf.Tensor, k: int) -> tf.Tensor:
    """Counts the labels, int32 [N], among the k highest predictions: int64 scalar.

    The predictions, float32 [N, K], are logits or probabilities. With fewer than k
    classes, all of them count.
    """
    hits = tf.math.in_top_k(labels, predictions, min(k, predictions.shape[-1]))
    return tf.math.count_nonzero(hits)


class Totals(tf.Module):
    """Sums over the batches of an epoch so far, kept on the device.

    Reading them makes the host wait for the device. In float16 they leave out batches
    whose gradients are not finite.
    """

    def __init__(self):
        super().__init__(name="totals")
        self.num_batches = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.num_images = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.loss = tf.Variable(0, dtype=tf.float64, trainable=False)
        self.l2_loss = tf.Variable(0, dtype=tf.float64, trainable=False)
        self.top1 = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.top5 = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.num_skipped = tf.Variable(0, dtype=tf.int64, trainable=False)

    def add(
        self,
        forward: ForwardPass,
        l2_loss: tf.Tensor | float,
        is_finite: tf.Tensor | None = None,
        replicas: Devices = ONE_DEVICE,
    ) -> None:
        """Adds one batch, unless it is not finite; runs inside the training step.

        The losses are those of the whole batch; logits and labels are those of this
        replica's part of it. is_finite is a bool scalar, or None for true.
        """
        logits, labels = forward.logits, forward.labels
        num_images, top1, top5 = replicas.sum_counts(
            [tf.size(labels), *(count_correct(logits, labels, k) for k in (1, 5))]
        )
        for variable, addend in (
            (self.num_batches, 1),
            (self.num_images, num_images),
            (self.loss, forward.loss),
            (self.l2_loss, l2_loss),
            (self.top1, top1),
            (self.top5, top5),
        ):
            addend = tf.cast(addend, variable.dtype)
            if is_finite is not None:
                addend = tf.where(is_finite, addend, tf.zeros_like(addend))
            variable.assign_add(addend)

    def reset(self) -> None:
        """Starts an epoch."""
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    def means(self) -> dict[str, float]:
        """Means so far: loss (without l2), l2_loss, and top1 and top5 in 0..1."""
        num_batches = max(int(self.num_batches.numpy()), 1)
        num_images = max(int(self.num_images.numpy()), 1)
        return {
            "loss": float(self.loss.numpy()) / num_batches,
            "l2_loss": float(self.l2_loss.numpy()) / num_batches,
            "top1": int(self.top1.numpy()) / num_images,
            "top5": int(self.top5.numpy()) / num_images,
        }
