"""Where the images in Parquet shards are, as Hugging Face has ImageNet.

Columns ``image`` {bytes, path} and ``label``. Parquet hands out whole row groups, of
100 to 1,000 images, to those who want one image. So the pages of the bytes' column are
walked once, and what is remembered is where each image lies in the file: as it is, or
in a Snappy stream, which compressors cut into fragments of 64 KiB that refer to nothing
before them. Only this index needs pyarrow (extra ``parquet``), not the workers.

The page format is in apache/parquet-format: README.md, Encodings.md, parquet.thrift.
"""

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from resnet50.preprocessing.archived import snappy_element
from resnet50.preprocessing.imagenet import DatasetError

_BYTES, _PATH, _LABEL = "image.bytes", "image.path", "label"

# parquet.thrift: PageType and Encoding.
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY = 0, 2, 8

_FRAGMENT = 2**16

# Hugging Face's names, n01440764_10026_n01440764.JPEG, hold the class a second time.
_CLASS_IN_NAME = re.compile(r"_(n\d{8})(?=\.\w+$)")
_CLASS_FIRST = re.compile(r"n\d{8}_")

# Of the schema's metadata: a description of the data set, as JSON.
_HUB_KEY = b"huggingface"

# Offset and size in the file; inflated size (0: not compressed), start and size of the
# image in what the range inflates to. See archived.SnappyRange.
Place = tuple[int, int, int, int, int]


class Row(NamedTuple):
    """An image of a shard."""

    class_name: str  # its WordNet id; "" if the names do not tell it
    name: str
    label: int
    place: Place


class Shard(NamedTuple):
    """What a shard holds."""

    rows: list[Row]
    words: tuple[str, ...]  # what its metadata call the classes


class _Reader:
    """Reads numbers from bytes, one after the other."""

    def __init__(self, data, position: int = 0):
        self.data, self.position = data, position

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def whole(self, width: int) -> int:
        self.position += width
        return int.from_bytes(
            self.data[self.position - width : self.position], "little"
        )

    def struct(self) -> dict:
        """A structure of Thrift's compact protocol: field number to value."""
        fields, number = {}, 0
        while byte := self.whole(1):
            kind, step = byte & 15, byte >> 4
            number = number + step if step else self._zigzag()
            if kind in (1, 2):
                fields[number] = kind == 1
            elif kind in (4, 5, 6):
                fields[number] = self._zigzag()
            elif kind == 8:
                length = self.varint()
                self.position += length
            elif kind == 12:
                fields[number] = self.struct()
            else:
                raise ValueError(f"unknown field type {kind} in a page's header")
        return fields

    def _zigzag(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def hybrid(self, width: int, count: int) -> list[int]:
        """Numbers in runs and bit-packed groups of eight (Encodings.md, RLE)."""
        numbers = []
        while len(numbers) < count:
            head = self.varint()
            if head & 1:
                packed = self.whole((head >> 1) * width)
                mask = (1 << width) - 1
                for place in range((head >> 1) * 8):
                    numbers.append(packed >> place * width & mask)
            else:
                numbers += [self.whole((width + 7) // 8)] * (head >> 1)
        return numbers[:count]


def _fragments(stream, start: int) -> list[int]:
    """Where the fragments of a Snappy stream begin, and where it ends.

    Args:
        stream: The whole stream.
        start: Of its first element, after the leading length.

    Returns:
        Offsets in the stream, of what inflates to 64 KiB each, the last to the rest.

    Raises:
        ValueError: An element reaches over a fragment's border.
    """
    starts, inflated, position = [], 0, start
    while position < len(stream):
        if inflated == len(starts) * _FRAGMENT:
            starts.append(position)
        data, length, distance = snappy_element(stream, position)
        is_inside = inflated + length <= len(starts) * _FRAGMENT
        if not is_inside or distance > inflated % _FRAGMENT:
            raise ValueError("its Snappy stream is not cut into fragments of 64 KiB")
        position = data if distance else data + length
        inflated += length
    return [*starts, position]


class _Page:
    """The values of a page, inflated, and where they lie in the file."""

    def __init__(self, body, offset: int, codec):
        """Inflates a page.

        Args:
            body: Its values, as they are in the file.
            offset: Of the body in the file.
            codec: pyarrow's Snappy that it is compressed with, or None.
        """
        self.values, self._offset, self._starts = body, offset, []
        if codec is not None:
            reader = _Reader(body)
            size = reader.varint()
            self._starts = _fragments(body, reader.position)
            self.values = codec.decompress(body, decompressed_size=size, asbytes=True)

    def _place(self, start: int, length: int) -> Place:
        if not self._starts:
            return self._offset + start, length, 0, 0, 0
        first = start // _FRAGMENT
        stop = -(-(start + length) // _FRAGMENT)
        inflated = min(stop * _FRAGMENT, len(self.values)) - first * _FRAGMENT
        offset, end = self._starts[first], self._starts[stop]
        start -= first * _FRAGMENT
        return self._offset + offset, end - offset, inflated, start, length

    def plain(self, start: int) -> list[Place]:
        """The places of values from a start on: each is its length, 4 bytes, and it."""
        places, reader = [], _Reader(self.values, start)
        while reader.position < len(self.values):
            length = reader.whole(4)
            places.append(self._place(reader.position, length))
            reader.position += length
        if reader.position > len(self.values):
            raise ValueError("a page ends inside an image")
        return places


def _data_page(header, body, offset, codec, levels, dictionary) -> list[Place]:
    """The places of a data page's images.

    Args:
        header: The page's header.
        body: Its bytes.
        offset: Of the body in the file.
        codec: That the column is compressed with, or None.
        levels: The definition level of a value that is not null.
        dictionary: Places that the page may refer to.
    """
    if header[1] == _DATA_PAGE:
        count, encoding = header[5][1], header[5][2]
        page, start = _Page(body, offset, codec), 0
        if levels:
            start = 4 + _Reader(page.values).whole(4)
            found = _Reader(page.values, 4).hybrid(levels.bit_length(), count)
            num_nulls = count - found.count(levels)
    else:
        count, num_nulls, encoding = (header[8][field] for field in (1, 2, 4))
        # The levels stand before the values, never compressed.
        prefix, start = header[8][5] + header[8][6], 0
        codec = codec if header[8].get(7, True) else None
        page = _Page(body[prefix:], offset + prefix, codec)
    if levels and num_nulls:
        raise ValueError("an image is null")
    if encoding == _PLAIN:
        return page.plain(start)
    if encoding not in (_PLAIN_DICTIONARY, _RLE_DICTIONARY):
        raise ValueError(f"its images have the encoding {encoding}, not PLAIN")
    width = page.values[start]
    indices = _Reader(page.values, start + 1).hybrid(width, count)
    return [dictionary[index] for index in indices]


def _chunk_places(file, chunk, levels: int, codec) -> Iterator[Place]:
    """The places of the images of a row group, in the order of its rows."""
    position = chunk.data_page_offset
    if chunk.has_dictionary_page:
        position = min(position, chunk.dictionary_page_offset)
    end = position + chunk.total_compressed_size
    if end > len(file):
        raise ValueError(f"has {len(file):,} bytes, but pages up to {end:,}")
    dictionary: list[Place] = []
    while position < end:
        reader = _Reader(file, position)
        header = reader.struct()
        position = reader.position + header[3]
        body = file[reader.position : position]
        if header[1] == _DICTIONARY_PAGE:
            dictionary = _Page(body, reader.position, codec).plain(0)
        elif header[1] in (_DATA_PAGE, _DATA_PAGE_V2):
            yield from _data_page(
                header, body, reader.position, codec, levels, dictionary
            )


def _places(path: Path, metadata) -> list[Place]:
    """The places of all images of a shard."""
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
    places: list[Place] = []
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    for group in range(metadata.num_row_groups):
        chunk = metadata.row_group(group).column(column)
        if chunk.compression not in ("UNCOMPRESSED", "SNAPPY"):
            raise ValueError(
                f"its images are compressed by {chunk.compression}, of which none can "
                "be read alone (write it again, uncompressed: "
                "pyarrow.parquet.write_table(table, path, compression='none'))"
            )
        codec = pyarrow.Codec("snappy") if chunk.compression == "SNAPPY" else None
        places += _chunk_places(content, chunk, schema.max_definition_level, codec)
    if len(places) != metadata.num_rows:
        raise ValueError(f"{metadata.num_rows} rows, but {len(places)} images")
    return places


def _read_shard(path: Path) -> Shard:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as shard:
        places = _places(path, shard.metadata)
        table = shard.read(columns=[_LABEL, _PATH])
        described = json.loads((shard.schema_arrow.metadata or {}).get(_HUB_KEY, "{}"))
    labels = table.column(_LABEL).to_pylist()
    if any(not isinstance(label, int) or label < 0 for label in labels):
        raise ValueError("has labels that are no whole numbers from 0")
    rows = []
    for index, image in enumerate(table.column("image").to_pylist()):
        name = (image.get("path") or f"{path.stem}_{index:08d}").rpartition("/")[2]
        found = _CLASS_IN_NAME.search(name)
        wordnet_id = found[1] if found else name[:9] * bool(_CLASS_FIRST.match(name))
        name = _CLASS_IN_NAME.sub("", name)
        rows.append(Row(wordnet_id, name, labels[index], places[index]))
    features = described.get("info", {}).get("features", {})
    return Shard(rows, tuple(features.get(_LABEL, {}).get("names", ())))


def read_shard(path: Path) -> Shard:
    """Reads where the images of a shard are, with their names and labels.

    Raises:
        DatasetError: pyarrow is not installed, the shard cannot be read or is damaged,
            or its images are stored in a way that none can be read alone.
    """
    try:
        return _read_shard(path)
    except ImportError:
        raise DatasetError(
            f"{path}: needs pyarrow (pip install -e '.[parquet]')"
        ) from None
    except OSError as error:
        reason = error.strerror or error
    # pyarrow's errors are ValueErrors; the others are what damaged bytes lead to.
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = error
    reason = " ".join(str(reason).split())
    raise DatasetError(f"{path}: cannot be read: {reason}") from None
