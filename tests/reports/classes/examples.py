"""Makes the predictions of runs, for other tests."""

from pathlib import Path

import numpy as np

from resnet50.dataset.images import Dataset
from resnet50.reports.classes.outcomes import Outcomes
from resnet50.reports.classes.predictions import Evaluated, write_predictions


def make_outcomes(labels, predicted, probabilities, unreadable=()) -> Outcomes:
    """Outcomes with rank 1 where the prediction is right, else 2."""
    labels = np.array(labels, np.int32)
    ranks = np.where(labels == predicted, 1, 2)
    shares = np.array(probabilities, np.float32)
    own = np.where(ranks == 1, shares, (1 - shares) / 2)
    outcomes = Outcomes.unknown(labels)
    indices = [i for i in range(len(labels)) if i not in unreadable]
    columns = (np.array(predicted), ranks, shares, own)
    outcomes.put(indices, *(column[indices] for column in columns))
    reason = "is no image that Pillow knows"
    outcomes.unreadable.update(dict.fromkeys(unreadable, reason))
    return outcomes


def make_dataset(labels, classes, folder=Path("images")) -> Dataset:
    """A dataset whose image i is called CLASS/i.png, with two digits."""
    names = [f"{classes[label]}/{i:02d}.png" for i, label in enumerate(labels)]
    return Dataset.in_order(folder, names, list(labels), tuple(classes))


def make_predictions(
    folder: Path, num_classes: int, per_class: int = 4, *, epoch: int = 7, words=None
) -> Dataset:
    """Writes predictions that take one image of each class for the next class."""
    classes = [f"class_{label:03d}" for label in range(num_classes)]
    labels = np.repeat(np.arange(num_classes), per_class)
    predicted = labels.copy()
    predicted[::per_class] = (labels[::per_class] + 1) % num_classes
    probabilities = np.linspace(0.5, 0.9, len(labels))
    dataset = make_dataset(labels.tolist(), classes)
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(
        folder,
        Evaluated(epoch, 10, "averaged"),
        dataset,
        tuple(words or classes),
        make_outcomes(labels, predicted, probabilities),
        is_kept=False,
    )
    return dataset
