"""Proves how outcomes are counted by class, and which mistakes are the surest."""

import numpy as np

from resnet50.reports.classes.outcomes import Outcomes, count_confusion, surest_mistakes
from tests.reports.classes.examples import make_outcomes

# Classes 0 to 3; class 3 has no image, and image 6 is unreadable.
LABELS = [0, 0, 0, 1, 1, 2, 2]
PREDICTED = [0, 1, 1, 1, 0, 3, 2]
SURE = [0.9, 0.6, 0.8, 0.7, 0.8, 0.5, 0.9]


def test_counts_by_hand():
    confusion = count_confusion(make_outcomes(LABELS, PREDICTED, SURE, [6]), 4)
    assert confusion.num_images.tolist() == [3, 2, 1, 0]
    assert confusion.num_right.tolist() == [1, 1, 0, 0]
    assert confusion.num_top5.tolist() == [3, 2, 1, 0]
    assert confusion.pairs == [(0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 1, 1), (2, 3, 1)]
    assert confusion.wrong_pairs == [(0, 1, 2), (1, 0, 1), (2, 3, 1)]


def test_among_outputs_that_are_no_numbers_nothing_is_right():
    outcomes = make_outcomes([0, 1], [0, 0], [np.nan, np.nan])
    outcomes.ranks[:] = 3  # One more than there are classes.
    confusion = count_confusion(outcomes, 2)
    assert confusion.num_images.tolist() == [1, 1]
    assert confusion.num_right.tolist() == confusion.num_top5.tolist() == [0, 0]


def test_counts_of_many_classes_add_up_to_the_accuracy():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 5000).astype(np.int32)
    outcomes = Outcomes.unknown(labels)
    ranks = rng.integers(1, 12, 5000)
    predicted = np.where(ranks == 1, labels, (labels + 1) % 1000)
    outcomes.put(list(range(5000)), predicted, ranks, ranks / 20, ranks / 20)
    confusion = count_confusion(outcomes, 1000)
    assert confusion.num_images.sum() == 5000
    assert confusion.num_right.sum() == np.sum(ranks == 1)
    assert confusion.num_top5.sum() == np.sum(ranks <= 5)
    assert sum(pair.num_images for pair in confusion.pairs) == 5000
    assert sum(p.num_images for p in confusion.wrong_pairs) == np.sum(ranks > 1)
    for label in (0, 999):
        own = [p.num_images for p in confusion.pairs if p.label == label]
        assert sum(own) == np.sum(labels == label)


def test_the_surest_mistake_comes_first():
    outcomes = make_outcomes(LABELS, PREDICTED, SURE, [6])
    outcomes.label_probabilities[[2, 4]] = 0.15, 0.05  # Both predictions have 0.8.
    assert surest_mistakes(outcomes, 9) == [4, 2, 1, 5]
    assert surest_mistakes(outcomes, 2) == [4, 2]


def test_a_probability_that_is_no_number_is_the_least_sure():
    outcomes = make_outcomes([0, 0], [1, 1], [np.nan, 0.6])
    assert surest_mistakes(outcomes, 2) == [1, 0]


def test_without_mistakes_there_is_none():
    assert surest_mistakes(make_outcomes([0, 1], [0, 1], [0.9, 0.9]), 5) == []
