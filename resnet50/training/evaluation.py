"""Top-1 and top-5 accuracy, and loss, of a network on the validation images."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet50.errors import UserError
from resnet50.preprocessing.augmentation import ChannelStatistics
from resnet50.preprocessing.decoding import UndecodableImageError
from resnet50.preprocessing.imagenet import Dataset
from resnet50.preprocessing.validation import read_views
from resnet50.preprocessing.workers import map_in_order
from resnet50.training.model import ResNet50
from resnet50.training.step import count_correct


class EvaluationError(UserError):
    """There is nothing to evaluate on."""


class Accuracy(NamedTuple):
    """How often a network is right."""

    top1: float  # 0..1
    top5: float  # 0..1
    loss: float  # mean cross-entropy, without label smoothing
    num_images: int  # readable ones; the shares are of these
    unreadable: list[tuple[str, str]]  # path and reason


class Evaluator:
    """Evaluates one network, whose weights may change between the evaluations."""

    def __init__(
        self,
        model: ResNet50,
        statistics: ChannelStatistics,
        *,
        shorter_side: int,
        crop_size: int,
        num_crops: int,
        batch_size: int,
        num_workers: int,
    ):
        """Prepares.

        Args:
            model: The network.
            statistics: The training set's.
            shorter_side: Of a validation image after its resize, pixels.
            crop_size: Side of a crop, pixels.
            num_crops: 1 or 10; see preprocessing.validation.views.
            batch_size: Crops that go through the network at once, at most, but at
                least those of one image.
            num_workers: Threads that decode; decoding leaves Python's lock free.
        """
        self._model = model
        self._num_crops = num_crops
        self._images_at_once = max(1, batch_size // num_crops)
        self._num_workers = num_workers
        self._read = functools.partial(
            read_views,
            shorter_side=shorter_side,
            crop_size=crop_size,
            num_crops=num_crops,
            statistics=statistics,
        )
        shape = (None, num_crops, crop_size, crop_size, 3)
        self._count = tf.function(
            self._count_hits,
            input_signature=[
                tf.TensorSpec(shape, tf.float32),
                tf.TensorSpec((None,), tf.int32),
            ],
        )

    def _count_hits(
        self, images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Top-1 hits, top-5 hits, and the sum of the losses.

        The probabilities of an image's crops are averaged, as their logarithms, in
        which none underflows to 0.
        """
        crops = tf.reshape(images, (-1, *images.shape[2:]))
        logits = self._model(crops, is_training=False)
        logs = tf.reshape(
            tf.nn.log_softmax(logits), (-1, self._num_crops, logits.shape[-1])
        )
        means = tf.reduce_logsumexp(logs, axis=1) - np.log(self._num_crops)
        loss = -tf.reduce_sum(tf.gather(means, labels, axis=1, batch_dims=1))
        return count_correct(means, labels, 1), count_correct(means, labels, 5), loss

    def evaluate(self, dataset: Dataset, advance: Callable[[int], None]) -> Accuracy:
        """Evaluates the network on all images of a dataset.

        Args:
            dataset: The validation images.
            advance: Called with the number of images of each finished batch.

        Raises:
            EvaluationError: Not one image can be read.
        """
        unreadable: list[tuple[str, str]] = []
        num_images = top1 = top5 = 0
        loss = 0.0

        def read(indices: range):
            images, labels, faults = [], [], []
            for path, label in zip(dataset.paths(indices), dataset.labels[indices]):
                try:
                    images.append(self._read(path))
                    labels.append(label)
                except UndecodableImageError as error:
                    faults.append((path, str(error)))
            return images, labels, faults

        chunks = [
            range(start, min(start + self._images_at_once, dataset.num_images))
            for start in range(0, dataset.num_images, self._images_at_once)
        ]
        with ThreadPoolExecutor(self._num_workers) as pool:
            for images, labels, faults in map_in_order(
                pool, read, chunks, num_ahead=self._num_workers + 1
            ):
                if images:
                    hits = self._count(np.stack(images), np.array(labels, np.int32))
                    top1, top5 = top1 + int(hits[0]), top5 + int(hits[1])
                    loss += float(hits[2])
                    num_images += len(images)
                unreadable.extend(faults)
                advance(len(images) + len(faults))
        if not num_images:
            path, reason = unreadable[0]
            raise EvaluationError(
                f"{dataset.folder}: none of the {dataset.num_images} validation images "
                f"can be read; the first is {path}: {reason}"
            )
        return Accuracy(
            top1 / num_images,
            top5 / num_images,
            loss / num_images,
            num_images,
            unreadable,
        )
