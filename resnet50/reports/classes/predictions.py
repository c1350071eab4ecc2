"""predictions.csv, classes.csv and confusion.csv: an evaluation, image by image.

They are in the run's folder, and about the checkpoint that was evaluated last. Each row
begins with its epoch, crops and weights, as in evaluation.csv. Images have the names
that they have in the dataset, so that they can be found after it has moved.

    predictions.csv   a row per image: the predicted class, and the true one's rank
    classes.csv       a row per class: how many of its predictions are right
    confusion.csv     a row per true and predicted class, if they have an image

predictions_EPOCH.csv is a predictions.csv that the next epochs' do not replace.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnet50.dataset.images import Dataset
from resnet50.errors import printable_line
from resnet50.reports.classes.outcomes import Outcomes, count_confusion
from resnet50.reports.curves import RunError
from resnet50.reports.tables import TableError, open_table, write_table

PREDICTIONS_FILE = "predictions.csv"
CLASSES_FILE, CONFUSION_FILE = "classes.csv", "confusion.csv"

# The epoch of imported weights: the one before epoch 0.
IMPORTED_EPOCH = -1

# The columns of predictions.csv with the arrays of Outcomes.
_OUTCOME = ("label", "predicted", "rank", "probability", "label_probability")


class Evaluated(NamedTuple):
    """Which weights were evaluated, and how."""

    epoch: int  # or IMPORTED_EPOCH
    crops: int  # per image
    weights: str  # one of tables.WEIGHTS


class Predictions(NamedTuple):
    """The content of predictions.csv, with the classes of classes.csv."""

    path: Path
    evaluated: Evaluated
    class_names: tuple[str, ...]
    class_words: tuple[str, ...]  # "" for a class without words
    image_names: list[str]
    outcomes: Outcomes


def kept_path(folder: Path, epoch: int) -> Path:
    """Where the predictions of an epoch are kept."""
    return folder / f"predictions_{epoch}.csv"


def _prediction_rows(dataset: Dataset, outcomes: Outcomes) -> Iterator[dict]:
    classes = [printable_line(name) for name in dataset.class_names]
    columns = zip(*(column.tolist() for column in outcomes[:-1]))
    for index, (label, predicted, rank, *shares) in enumerate(columns):
        values = [classes[label], classes[predicted], rank]
        values += [f"{share:.6g}" for share in shares]
        reason = outcomes.unreadable.get(index)
        if reason is not None:
            values[1:] = [""] * len(values[1:])
        yield {
            "image": printable_line(dataset.names[index]),
            **dict(zip(_OUTCOME, values)),
            "unreadable": reason or "",
        }


def write_predictions(
    folder: Path,
    evaluated: Evaluated,
    dataset: Dataset,
    class_words: tuple[str, ...],
    outcomes: Outcomes,
    *,
    is_kept: bool,
) -> None:
    """Writes the three tables, and predictions_EPOCH.csv if they are to be kept.

    The words are those of the training images, like the classes.

    Raises:
        TableError: A table cannot be written.
    """
    confusion = count_confusion(outcomes, dataset.num_classes)
    names = [printable_line(name) for name in dataset.class_names]
    classes = [
        {
            "class": name,
            "words": "" if words == own_name else printable_line(words),
            "num_images": total,
            "top1": f"{right / total:.6f}" if total else "",
            "top5": f"{top5 / total:.6f}" if total else "",
        }
        for name, own_name, words, total, right, top5 in zip(
            names, dataset.class_names, class_words, *confusion[:3]
        )
    ]
    pairs = [
        {"label": names[label], "predicted": names[predicted], "num_images": number}
        for label, predicted, number in confusion.pairs
    ]
    predictions = list(_prediction_rows(dataset, outcomes))
    tables = {
        folder / CLASSES_FILE: classes,
        folder / CONFUSION_FILE: pairs,
        folder / PREDICTIONS_FILE: predictions,
    }
    if is_kept:
        tables[kept_path(folder, evaluated.epoch)] = predictions
    for path, rows in tables.items():
        try:
            write_table(path, [evaluated._asdict() | row for row in rows])
        except OSError as error:
            raise TableError(f"{path}: cannot be written: {error.strerror}") from None


def _read_rows(path: Path, columns: set[str], remedy: str) -> list[dict[str, str]]:
    try:
        with open_table(path, remedy) as table:
            rows, found = list(table), set(table.fieldnames or ())
    except FileNotFoundError:
        raise RunError(f"{path}: does not exist yet ({remedy})") from None
    if not rows or not found >= columns:
        missing = ", ".join(sorted(columns - found)) or "row"
        raise TableError(f"{path}: is damaged: it has no {missing} ({remedy})")
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise TableError(
                f"{path}, row {number}: has too many or too few cells ({remedy})"
            )
    return rows


def _share(cell: str) -> float:
    # "nan" is allowed: the weights of a network may be no numbers.
    if float(cell) < 0 or float(cell) > 1:
        raise ValueError(cell)
    return float(cell)


def _read_outcomes(
    path: Path, rows: list[dict[str, str]], names: tuple[str, ...], remedy: str
) -> Outcomes:
    labels = {name: label for label, name in enumerate(names)}

    def rank(cell: str) -> int:
        # It is K + 1 if the network's outputs are no numbers.
        if not 1 <= int(cell) <= len(names) + 1:
            raise ValueError(cell)
        return int(cell)

    # In the order of the fields of Outcomes.
    kinds = (labels.__getitem__, labels.__getitem__, rank, _share, _share)
    outcomes = Outcomes.unknown(np.zeros(len(rows), np.int32))
    for index, row in enumerate(rows):
        if row["unreadable"]:
            outcomes.unreadable[index] = row["unreadable"]
        columns = _OUTCOME[:1] if row["unreadable"] else _OUTCOME
        for column, kind, field in zip(columns, kinds, outcomes[:-1]):
            try:
                field[index] = kind(row[column])
            except KeyError:
                raise TableError(
                    f"{path}, row {index + 1}: {column} is {row[column]!r}, not in "
                    f"{CLASSES_FILE} ({remedy})"
                ) from None
            except ValueError:
                raise TableError(
                    f"{path}, row {index + 1}: {column} is {row[column]!r} ({remedy})"
                ) from None
    is_odd = (outcomes.ranks == 1) & (outcomes.predicted != outcomes.labels)
    if is_odd.any():
        raise TableError(
            f"{path}, row {is_odd.argmax() + 1}: a wrong class has rank 1 ({remedy})"
        )
    if not outcomes.is_readable.any():
        raise TableError(f"{path}: is damaged: all images are unreadable ({remedy})")
    return outcomes


def read_predictions(folder: Path, epoch: int | None, remedy: str) -> Predictions:
    """Reads the predictions of an epoch, or the last ones.

    ``remedy`` says, in messages, what makes them.

    Raises:
        RunError: There are none, or those of another epoch only.
        TableError: They are damaged, or their classes are not those of classes.csv.
    """
    path = folder / PREDICTIONS_FILE
    if epoch is not None and kept_path(folder, epoch).exists():
        path = kept_path(folder, epoch)
    columns = {*Evaluated._fields, "image", *_OUTCOME, "unreadable"}
    rows = _read_rows(path, columns, remedy)
    classes = _read_rows(folder / CLASSES_FILE, {"class", "words"}, remedy)
    evaluations = {tuple(row[column] for column in Evaluated._fields) for row in rows}
    try:
        ((of_epoch, crops, weights),) = evaluations
        evaluated = Evaluated(int(of_epoch), int(crops), weights)
    except ValueError:
        raise TableError(
            f"{path}: is damaged: it is not of one evaluation ({remedy})"
        ) from None
    if epoch not in (None, evaluated.epoch):
        raise RunError(f"{path}: is of epoch {evaluated.epoch}, not {epoch} ({remedy})")
    names = tuple(row["class"] for row in classes)
    return Predictions(
        path,
        evaluated,
        names,
        tuple(row["words"] for row in classes),
        [row["image"] for row in rows],
        _read_outcomes(path, rows, names, remedy),
    )
