"""Finds the images in Parquet shards, as Hugging Face distributes ImageNet.

The columns are ``image`` {bytes, path} and ``label``. Parquet libraries read whole row
groups of 100 to 1,000 images: for one image that takes 6.8 ms of processor time from
memory, and 100 times its bytes from a disk. So parquet_pages.py walks through the pages
once, and each image is read alone (0.06 ms compressed, 0.01 ms plain). Only this index
needs pyarrow (extra ``parquet``), not the workers.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from resnet50.dataset.archives.parquet_pages import PageLocation, column_locations
from resnet50.dataset.images import DatasetError
from resnet50.input_file import open_regular
from resnet50.installation import install_command

_BYTES, _PATH, _LABEL = "image.bytes", "image.path", "label"

# Hugging Face's names, n01440764_10026_n01440764.JPEG, hold the class a second time.
_CLASS_IN_NAME = re.compile(r"_(n\d{8})(?=\.\w+$)")
_CLASS_FIRST = re.compile(r"n\d{8}_")

# Key of the schema's metadata with a description of the data set, as JSON.
_HUB_KEY = b"huggingface"


class Row(NamedTuple):
    """An image of a shard."""

    class_name: str  # its WordNet id; "" if the image's name does not hold it
    name: str
    label: int
    location: PageLocation


def id_before(name: str) -> str:
    """The WordNet id at the beginning of a file's name; "" if there is none."""
    return name[:9] * bool(_CLASS_FIRST.match(name))


def _locations(path: Path, metadata: Any) -> list[PageLocation]:
    """Returns the locations of all images of a shard."""
    import pyarrow

    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    if _BYTES not in names or _LABEL not in names:
        raise ValueError(
            f"has the columns {', '.join(names)} (expected {_BYTES}, {_PATH} and "
            f"{_LABEL})"
        )
    column = names.index(_BYTES)
    schema = metadata.schema.column(column)
    if schema.max_repetition_level:
        raise ValueError("has several images in a row")
    locations: list[PageLocation] = []
    with path.open("rb") as file:
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(column)
            if chunk.compression not in ("UNCOMPRESSED", "SNAPPY"):
                raise ValueError(
                    f"its images are compressed by {chunk.compression}, so none can be "
                    "read alone (write it again, uncompressed: "
                    "pyarrow.parquet.write_table(table, path, compression='none'))"
                )
            codec = pyarrow.Codec("snappy") if chunk.compression == "SNAPPY" else None
            locations += column_locations(
                file, chunk, schema.max_definition_level, codec
            )
    if len(locations) != metadata.num_rows:
        raise ValueError(f"{metadata.num_rows} rows, but {len(locations)} images")
    return locations


def _read_shard(path: Path) -> tuple[list[Row], list[str]]:
    import pyarrow.parquet

    with open_regular(path) as file, pyarrow.parquet.ParquetFile(file) as shard:
        locations = _locations(path, shard.metadata)
        table = shard.read(columns=[_LABEL, _PATH], use_threads=False)
        described = json.loads((shard.schema_arrow.metadata or {}).get(_HUB_KEY, "{}"))
    labels = table.column(_LABEL).to_pylist()
    if any(not isinstance(label, int) or label < 0 for label in labels):
        raise ValueError("has labels that are no whole numbers from 0")
    rows = []
    for index, image in enumerate(table.column("image").to_pylist()):
        name = (image.get("path") or f"{path.stem}_{index:08d}").rpartition("/")[2]
        found = _CLASS_IN_NAME.search(name)
        wordnet_id = found[1] if found else id_before(name)
        name = _CLASS_IN_NAME.sub("", name)
        rows.append(Row(wordnet_id, name, labels[index], locations[index]))
    features = described.get("info", {}).get("features", {})
    return rows, features.get(_LABEL, {}).get("names", [])


def read_shard(path: Path) -> tuple[list[Row], list[str]]:
    """Reads a shard's images, and what its metadata calls the classes.

    Raises:
        DatasetError: pyarrow is not installed, the shard cannot be read or is damaged,
            or its images are stored such that none can be read alone.
    """
    try:
        return _read_shard(path)
    except ImportError:
        raise DatasetError(
            f"{path}: needs pyarrow ({install_command('parquet')})"
        ) from None
    # pyarrow and damaged bytes lead to nearly any error.
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
    reason = " ".join(str(reason).split())
    raise DatasetError(f"{path}: cannot be read: {reason}") from None
