"""Pictures of the images whose wrong predictions are the surest."""

import io
from collections.abc import Iterable
from typing import NamedTuple

from PIL import Image

from resnet50.dataset.decoding import UndecodableImageError, decode_rgb
from resnet50.dataset.images import Dataset
from resnet50.errors import printable_line
from resnet50.reports.classes.outcomes import surest_mistakes
from resnet50.reports.classes.predictions import Predictions

# They fill whole rows of 2, 3, 4 and 6 pictures.
_NUM_MISTAKES = 24

# The longer side in pixels, enough for a dense screen; a picture takes some 12 kB.
_PICTURE_SIDE, _JPEG_QUALITY = 256, 80


class Mistake(NamedTuple):
    """A wrong prediction."""

    # Of the image in the predictions.
    index: int  # type: ignore[assignment]  # hides tuple.index
    picture: bytes | None  # a small JPEG file; None if there is none
    reason: str  # why there is none, or ""


def _find_images(names: Iterable[str], dataset: Dataset) -> dict[str, int]:
    """The indices of some images, by their names in predictions.csv."""
    wanted = set(names)
    found = ((printable_line(name), i) for i, name in enumerate(dataset.names))
    return {name: index for name, index in found if name in wanted}


def _picture(image: Image.Image) -> bytes:
    image.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def collect_mistakes(
    predictions: Predictions, dataset: Dataset | None
) -> list[Mistake]:
    """The surest mistakes, with pictures from the validation images as they are now.

    Without a dataset there are no pictures, and no reasons. An image that now has
    another class is another image.
    """
    indices = surest_mistakes(predictions.outcomes, _NUM_MISTAKES)
    if dataset is None:
        return [Mistake(index, None, "") for index in indices]
    names = [predictions.image_names[index] for index in indices]
    found = _find_images(names, dataset)
    mistakes = []
    for index, name in zip(indices, names):
        picture, reason = None, "is not among the validation images"
        label = predictions.outcomes.labels[index]
        if name in found and dataset.labels[found[name]] == label:
            (source,) = dataset.sources([found[name]])
            try:
                picture, reason = _picture(decode_rgb(source)), ""
            except UndecodableImageError as error:
                reason = f"cannot be read: {error}"
        mistakes.append(Mistake(index, picture, reason))
    return mistakes
