"""Runs a network on images: its predictions, accuracy and loss."""

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet50.config.settings import Config
from resnet50.dataset.decoding import UndecodableImageError, decode_rgb
from resnet50.dataset.images import Dataset
from resnet50.dataset.sources import ImageSource, reading_ahead
from resnet50.errors import UserError
from resnet50.network.model import ResNet50
from resnet50.network.tracing import traced
from resnet50.ordered_map import map_in_order
from resnet50.pixels.augmentation import ChannelStatistics, normalization_table
from resnet50.pixels.resampling import views
from resnet50.reports.classes.outcomes import Outcomes


class EvaluationError(UserError):
    """None of the validation images can be read."""


class Accuracy(NamedTuple):
    """How often a network is right, over the readable images."""

    top1: float  # 0..1
    top5: float  # 0..1
    loss: float  # mean cross-entropy, without label smoothing
    num_images: int  # readable ones
    unreadable: list[tuple[str, str]]  # name and reason
    outcomes: Outcomes  # of each image


class Prediction(NamedTuple):
    """The network's output for one image."""

    source: ImageSource
    probabilities: np.ndarray | None  # float32 [K]; None if the image is unreadable
    reason: str  # why it is unreadable, or ""


class _Chunk(NamedTuple):
    """Images that a thread has read together."""

    readable: list[int]  # indices of the readable images
    views: list[np.ndarray]  # their views, float32 [crops, crop, crop, 3]
    unreadable: dict[int, str]  # why the others cannot be read, by index


class Evaluator:
    """Evaluates a network, whose weights may change between evaluations."""

    def __init__(self, model: ResNet50, config: Config, num_crops: int):
        """Prepares to take 1 or 10 crops of an image; see ``resampling.views``.

        Batches have at most [evaluation] batch_size crops, or those of one image.
        """
        self._model = model
        self._settings = config.evaluation
        self._crop_size = crop_size = config.augmentation.crop_size
        self._num_crops = num_crops
        self._images_at_once = max(1, config.evaluation.batch_size // num_crops)
        statistics = ChannelStatistics.from_config(config.dataset)
        self._table = normalization_table(statistics).astype(np.float32)
        crops = tf.TensorSpec((None, num_crops, crop_size, crop_size, 3), tf.float32)
        labels = tf.TensorSpec((None,), tf.int32)
        self._logs = traced(self._mean_logs, input_signature=[crops])
        self._judge = traced(self._judge_logs, input_signature=[crops, labels])

    def _read(self, source: ImageSource) -> np.ndarray:
        """An image's normalized views, float32 [num_crops, crop, crop, 3], RGB."""
        crops = views(
            decode_rgb(source),
            shorter_side=self._settings.shorter_side,
            crop_size=self._crop_size,
            num_crops=self._num_crops,
        )
        return np.stack([self._table[c].take(crops[..., c]) for c in range(3)], axis=-1)

    def _mean_logs(self, images: tf.Tensor) -> tf.Tensor:
        """Logarithms of the probabilities averaged over an image's crops, [N, K].

        Logarithms do not underflow to 0.
        """
        crops = tf.reshape(images, (-1, *images.shape[2:]))
        logs = tf.nn.log_softmax(self._model(crops, is_training=False))
        logs = tf.reshape(logs, (-1, self._num_crops, logs.shape[-1]))
        return tf.reduce_logsumexp(logs, axis=1) - np.log(self._num_crops)

    def _judge_logs(self, images: tf.Tensor, labels: tf.Tensor) -> tuple:
        """Compares the predictions with the labels, int32 [N].

        Returns:
            int32 [N], the predicted classes; int32 [N], the ranks of the true classes,
            1 or more; float32 [N], the logarithms of the predicted classes'
            probabilities; and float32 [N], those of the true classes.
        """
        logs = self._mean_logs(images)
        true = tf.gather(logs, labels, axis=1, batch_dims=1)
        # Among outputs that are no numbers, no class has rank 1.
        is_above = (logs > true[:, None]) | tf.math.is_nan(true)[:, None]
        ranks = 1 + tf.reduce_sum(tf.cast(is_above, tf.int32), axis=1)
        best = tf.argmax(logs, axis=1, output_type=tf.int32)
        predicted = tf.where(ranks == 1, labels, best)  # Even if others are equal.
        return predicted, ranks, tf.reduce_max(logs, axis=1), true

    def _read_chunk(self, sources_of: Callable, indices: range) -> _Chunk:
        chunk = _Chunk([], [], {})
        sources = sources_of(indices)
        with reading_ahead(sources):
            for index, source in zip(indices, sources):
                try:
                    chunk.views.append(self._read(source))
                    chunk.readable.append(index)
                except UndecodableImageError as error:
                    chunk.unreadable[index] = str(error)
        return chunk

    def _read_chunks(
        self, sources_of: Callable[[range], Sequence[ImageSource]], num_images: int
    ) -> Iterator[_Chunk]:
        """Reads images in order, ahead of the network."""
        chunks = (
            range(start, min(start + self._images_at_once, num_images))
            for start in range(0, num_images, self._images_at_once)
        )
        read = functools.partial(self._read_chunk, sources_of)
        num_workers = self._settings.num_workers
        with ThreadPoolExecutor(num_workers) as pool:  # Decoding releases the GIL.
            yield from map_in_order(pool, read, chunks, num_ahead=num_workers + 1)

    def predict(self, sources: Sequence[ImageSource]) -> Iterator[Prediction]:
        """Predicts images in their order; unreadable ones may come a little early."""
        for chunk in self._read_chunks(
            lambda i: sources[i.start : i.stop], len(sources)
        ):
            for index, reason in chunk.unreadable.items():
                yield Prediction(sources[index], None, reason)
            if chunk.views:
                probabilities = np.exp(self._logs(np.stack(chunk.views)))
                for index, of_image in zip(chunk.readable, probabilities):
                    yield Prediction(sources[index], of_image, "")

    def evaluate(self, dataset: Dataset, show: Callable[[int], None]) -> Accuracy:
        """Evaluates the network on all images of a dataset.

        ``show`` takes, after each batch, the number of images so far.

        Raises:
            EvaluationError: No image can be read.
        """
        outcomes, num_done = Outcomes.unknown(dataset.labels), 0
        losses: list[np.ndarray] = []
        for chunk in self._read_chunks(dataset.sources, dataset.num_images):
            if chunk.views:
                indices = chunk.readable
                results = self._judge(np.stack(chunk.views), dataset.labels[indices])
                predicted, ranks, best, true = (part.numpy() for part in results)
                outcomes.put(indices, predicted, ranks, np.exp(best), np.exp(true))
                losses.append(-true.astype(np.float64))
            outcomes.unreadable.update(chunk.unreadable)
            num_done += len(chunk.readable) + len(chunk.unreadable)
            show(num_done)
        sources = dataset.sources(outcomes.unreadable)
        unreadable = [
            (str(source), reason)
            for source, reason in zip(sources, outcomes.unreadable.values())
        ]
        num_images = dataset.num_images - len(unreadable)
        if not num_images:
            name, reason = unreadable[0]
            raise EvaluationError(
                f"{dataset.folder}: none of the {dataset.num_images} validation images "
                f"can be read; the first is {name}: {reason}"
            )
        ranks = outcomes.ranks[outcomes.is_readable]
        return Accuracy(
            float(np.mean(ranks == 1)),
            float(np.mean(ranks <= min(5, dataset.num_classes))),
            float(np.mean(np.concatenate(losses))),
            num_images,
            unreadable,
            outcomes,
        )
