"""What a network predicts for the images of a dataset, and counts of it by class."""

from typing import NamedTuple

import numpy as np


class Outcomes(NamedTuple):
    """The predictions for N images. Those of an unreadable image have rank 0."""

    labels: np.ndarray  # int32 [N], the true classes
    predicted: np.ndarray  # int32 [N], the most probable classes
    ranks: np.ndarray  # int32 [N], of the true classes; 1: the prediction is right
    probabilities: np.ndarray  # float32 [N], of the predicted classes
    label_probabilities: np.ndarray  # float32 [N], of the true classes
    unreadable: dict[int, str]  # why images cannot be read, by index

    @classmethod
    def unknown(cls, labels: np.ndarray) -> "Outcomes":
        """Outcomes that are still to come."""
        number = len(labels)
        return cls(
            labels,
            np.zeros(number, np.int32),
            np.zeros(number, np.int32),
            np.zeros(number, np.float32),
            np.zeros(number, np.float32),
            {},
        )

    def put(self, indices: list[int], *values: np.ndarray) -> None:
        """Sets some images' values: all fields between the first and the last."""
        for field, part in zip(self[1:-1], values, strict=True):
            field[indices] = part

    @property
    def is_readable(self) -> np.ndarray:
        """Which images can be read: bool [N]."""
        return self.ranks > 0

    @property
    def is_wrong(self) -> np.ndarray:
        """Which predictions are wrong: bool [N]."""
        return self.ranks > 1


class Pair(NamedTuple):
    """The images of one class that the network takes for some class."""

    label: int  # the true class
    predicted: int
    num_images: int


class Confusion(NamedTuple):
    """Counts of readable images, for K classes."""

    num_images: np.ndarray  # int64 [K], of each true class
    num_right: np.ndarray  # int64 [K], those whose prediction is right
    num_top5: np.ndarray  # int64 [K], those whose true class has rank 5 or less
    pairs: list[Pair]  # those that have an image, by label, then by predicted class

    @property
    def wrong_pairs(self) -> list[Pair]:
        """The pairs of two different classes, those with the most images first."""
        wrong = [pair for pair in self.pairs if pair.label != pair.predicted]
        return sorted(wrong, key=lambda pair: -pair.num_images)


def count_confusion(outcomes: Outcomes, num_classes: int) -> Confusion:
    """Counts how often images of each class are predicted rightly, and as which."""
    readable = outcomes.is_readable
    labels, ranks = outcomes.labels[readable], outcomes.ranks[readable]
    codes = labels.astype(np.int64) * num_classes + outcomes.predicted[readable]
    found, counts = np.unique(codes, return_counts=True)
    pairs = zip(*(part.tolist() for part in (*np.divmod(found, num_classes), counts)))
    return Confusion(
        np.bincount(labels, minlength=num_classes),
        np.bincount(labels[ranks == 1], minlength=num_classes),
        np.bincount(labels[ranks <= min(5, num_classes)], minlength=num_classes),
        [Pair(*pair) for pair in pairs],
    )


def surest_mistakes(outcomes: Outcomes, most: int) -> list[int]:
    """Indices of the wrong predictions with the highest probabilities, highest first.

    Of equal ones, that with the least probability of the true class comes first.
    """
    wrong = np.flatnonzero(outcomes.is_wrong)
    # Sorting puts what is no number last.
    keys = outcomes.label_probabilities[wrong], -outcomes.probabilities[wrong]
    order = np.lexsort(keys)
    return wrong[order[:most]].tolist()
