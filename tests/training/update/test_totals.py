"""Proves that hits and the means of an epoch are as by hand."""

import tensorflow as tf

from resnet50.training.update.loss import ForwardPass
from resnet50.training.update.totals import Totals, count_correct


def test_hits_among_the_k_highest():
    predictions = tf.constant([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4], [0.7, 0.1, 0.2]])
    labels = tf.constant([1, 2, 1])
    assert [int(count_correct(predictions, labels, k)) for k in (1, 2, 3)] == [1, 2, 3]
    assert int(count_correct(predictions, labels, 5)) == 3  # Fewer than five classes.


def test_totals_are_means_over_the_batches_and_the_images():
    totals = Totals()
    logits = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    totals.add(ForwardPass(logits, tf.constant([0, 0]), 1.0), 0.5)
    totals.add(ForwardPass(logits, tf.constant([0, 1]), 2.0), 0.5)
    assert totals.means() == {"loss": 1.5, "l2_loss": 0.5, "top1": 0.75, "top5": 1.0}
    totals.reset()
    assert totals.means() == {"loss": 0, "l2_loss": 0, "top1": 0, "top5": 0}
