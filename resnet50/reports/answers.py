"""The most probable classes of an image, as a table for people or as JSON."""

import json
from typing import NamedTuple

import numpy as np

_NUM_ANSWERS = 5


class Answer(NamedTuple):
    """A class that an image may show."""

    name: str
    words: str  # "" if the dataset has none
    probability: float  # 0..1


class Classes(NamedTuple):
    """The classes of a network, in the order of its outputs."""

    names: list[str]
    words: list[str]  # one per class, or none at all

    def best(self, probabilities: np.ndarray) -> list[Answer]:
        """The five most probable classes; of equal ones the first comes first.

        ``probabilities`` is float32 [K].
        """
        labels = np.argsort(-probabilities, kind="stable")[:_NUM_ANSWERS]
        words = self.words or self.names
        return [
            Answer(
                self.names[label],
                words[label] if words[label] != self.names[label] else "",
                float(probabilities[label]),
            )
            for label in labels
        ]


def as_table(image: str, answers: list[Answer]) -> str:
    """Lines for people: the image, then one line per class."""
    lines = [f"  {a.probability:7.2%}  {a.name}  {a.words}".rstrip() for a in answers]
    return "\n".join([image, *lines])


def as_json(image: str, answers: list[Answer] | None, reason: str) -> str:
    """One line for programs: a JSON object.

    An image without answers is unreadable, for the given reason.
    """
    if answers is None:
        return json.dumps({"image": image, "error": reason})
    return json.dumps({"image": image, "top5": [a._asdict() for a in answers]})
