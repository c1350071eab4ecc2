"""Finds the values of a column of bytes in a Parquet file, page by page.

A value lies in the file as it is, or in a Snappy stream. Compressors cut a stream into
fragments of 64 KiB that refer to nothing before them. A data page holds values, or
indices into the values of the dictionary page before it.

The format: apache/parquet-format, README.md, Encodings.md and parquet.thrift.
"""

import os
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from resnet50.dataset.archives.snappy import LITERAL, snappy_element

# parquet.thrift: PageType and Encoding.
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY = 0, 2, 8

# Types of the fields of a structure in Thrift's compact protocol.
_TRUE, _FALSE, _I16, _I32, _I64, _BINARY, _STRUCT = 1, 2, 4, 5, 6, 8, 12

_FRAGMENT = 2**16

# A number of 64 bits takes ten bytes of seven.
_MAX_BITS = 70


class PageLocation(NamedTuple):
    """Where a value is: a range of the file, and the last three of ``SnappyRange``."""

    offset: int
    size: int
    inflated: int = 0  # 0: not compressed
    start: int = 0
    length: int = 0


class _PageHeader(NamedTuple):
    """The fields of a page's header that are needed here."""

    kind: int
    compressed_size: int
    num_values: int = 0
    encoding: int = _PLAIN
    num_nulls: int | None = None  # None: to be counted in the definition levels
    levels_size: int = 0  # of uncompressed levels before the values, bytes
    is_compressed: bool = True

    @classmethod
    def parse(cls, fields: dict[int, Any]) -> "_PageHeader":
        """Names the fields, which have the numbers of parquet.thrift."""
        header = cls(kind=fields[1], compressed_size=fields[3])
        if header.kind == _DATA_PAGE:
            data = fields[5]
            return header._replace(num_values=data[1], encoding=data[2])
        if header.kind == _DATA_PAGE_V2:
            data = fields[8]
            return header._replace(
                num_values=data[1],
                num_nulls=data[2],
                encoding=data[4],
                levels_size=data[5] + data[6],
                is_compressed=data.get(7, True),
            )
        return header


class _Reader:
    """Reads numbers from bytes, one after the other."""

    def __init__(self, data: bytes | memoryview, position: int = 0):
        self.data, self.position = data, position

    def varint(self) -> int:
        value = shift = 0
        while shift < _MAX_BITS:
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
        raise ValueError("a number has too many bytes")

    def whole(self, width: int) -> int:
        start, self.position = self.position, self.position + width
        return int.from_bytes(self.data[start : self.position], "little")

    def struct(self) -> dict[int, Any]:
        """Reads a structure of Thrift's compact protocol: field number to value."""
        fields: dict[int, Any] = {}
        number = 0
        while byte := self.whole(1):
            kind, step = byte & 15, byte >> 4
            number = number + step if step else self._zigzag()
            if kind in (_TRUE, _FALSE):
                fields[number] = kind == _TRUE
            elif kind in (_I16, _I32, _I64):
                fields[number] = self._zigzag()
            elif kind == _BINARY:
                length = self.varint()
                self.position += length
            elif kind == _STRUCT:
                fields[number] = self.struct()
            else:
                raise ValueError(f"unknown field type {kind} in a page's header")
        return fields

    def _zigzag(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def hybrid(self, width: int, count: int) -> list[int]:
        """Reads runs and bit-packed groups of eight (Encodings.md, RLE)."""
        numbers: list[int] = []
        while len(numbers) < count:
            head, missing = self.varint(), count - len(numbers)
            if head & 1:
                mask = (1 << width) - 1
                for left in range(min((head >> 1) * 8, missing), 0, -8):
                    packed = self.whole(width)
                    numbers += [packed >> i * width & mask for i in range(min(left, 8))]
            else:
                value = self.whole((width + 7) // 8)
                numbers += [value] * min(head >> 1, missing)
        return numbers


def _fragments(stream: bytes | memoryview) -> list[int]:
    """Returns where the fragments of a Snappy stream begin, and where it ends."""
    reader = _Reader(stream)
    size, position = reader.varint(), reader.position
    starts: list[int] = []
    inflated = 0
    while position < len(stream):
        if inflated == len(starts) * _FRAGMENT:
            starts.append(position)
        element = snappy_element(stream, position)
        is_inside = inflated + element.length <= len(starts) * _FRAGMENT
        if not is_inside or element.distance > inflated % _FRAGMENT:
            raise ValueError("its Snappy stream is not cut into fragments of 64 KiB")
        position = element.data + element.length * (element.distance == LITERAL)
        inflated += element.length
    if inflated != size or position != len(stream):
        raise ValueError("a page's compressed bytes are damaged")
    return [*starts, position]


class _Page:
    """The values of a page, inflated, and their locations in the file."""

    def __init__(self, body: memoryview, offset: int, codec: Any):
        self.values: bytes | memoryview = body
        self._offset = offset
        self._starts: list[int] = []
        if codec is not None:
            size = _Reader(body).varint()
            self._starts = _fragments(body)
            self.values = codec.decompress(body, decompressed_size=size, asbytes=True)

    def _location(self, start: int, length: int) -> PageLocation:
        if not self._starts:
            return PageLocation(self._offset + start, length)
        first, stop = start // _FRAGMENT, -(-(start + length) // _FRAGMENT)
        base = first * _FRAGMENT
        inflated = min(stop * _FRAGMENT, len(self.values)) - base
        offset, size = self._starts[first], self._starts[stop] - self._starts[first]
        offset += self._offset
        return PageLocation(offset, size, inflated, start - base, length)

    def plain(self, start: int) -> list[PageLocation]:
        """Returns the locations of the values from ``start``, each after its length."""
        locations, reader = [], _Reader(self.values, start)
        while reader.position < len(self.values):
            length = reader.whole(4)
            locations.append(self._location(reader.position, length))
            reader.position += length
        if reader.position > len(self.values):
            raise ValueError("a page ends inside a value")
        return locations


def _data_page(
    header: _PageHeader,
    body: memoryview,
    offset: int,
    codec: Any,
    levels: int,
    dictionary: list[PageLocation],
) -> list[PageLocation]:
    """Returns the locations of a data page's values; see ``column_locations``."""
    body, offset = body[header.levels_size :], offset + header.levels_size
    page = _Page(body, offset, codec if header.is_compressed else None)
    start, num_nulls = 0, header.num_nulls or 0
    if header.num_nulls is None and levels:
        start = 4 + _Reader(page.values).whole(4)
        reader = _Reader(page.values, 4)
        found = reader.hybrid(levels.bit_length(), header.num_values)
        num_nulls = header.num_values - found.count(levels)
    if num_nulls:
        raise ValueError("a value is null")
    if header.encoding == _PLAIN:
        return page.plain(start)
    if header.encoding not in (_PLAIN_DICTIONARY, _RLE_DICTIONARY):
        raise ValueError(f"its values have the encoding {header.encoding}, not PLAIN")
    width = page.values[start]
    indices = _Reader(page.values, start + 1).hybrid(width, header.num_values)
    return [dictionary[index] for index in indices]


def column_locations(
    file: BinaryIO, chunk: Any, levels: int, codec: Any
) -> Iterator[PageLocation]:
    """Yields the locations of the values of a row group's column, in its order.

    Args:
        file: The Parquet file. The column is read into memory.
        chunk: pyarrow's metadata of the row group's column.
        levels: Definition level of a value that is not null.
        codec: pyarrow's Snappy codec if the column is compressed with it, else None.

    Raises:
        ValueError, LookupError: A page is damaged, holds a null, or has an unknown
            encoding.
    """
    first = chunk.data_page_offset
    if chunk.has_dictionary_page:
        first = min(first, chunk.dictionary_page_offset)
    file_size = file.seek(0, os.SEEK_END)
    file.seek(first)
    data = memoryview(file.read(chunk.total_compressed_size))
    dictionary: list[PageLocation] = []
    reader = _Reader(data)
    while reader.position < chunk.total_compressed_size:
        header = _PageHeader.parse(reader.struct())
        start, size = reader.position, header.compressed_size
        if not 0 <= size <= len(data) - start:
            raise ValueError("a page ends after its column")
        # Checked before so many numbers are made: no image takes less than a byte.
        if not 0 <= header.num_values <= min(chunk.num_values, file_size):
            raise ValueError("a page claims more values than its column has")
        body, offset = data[start : start + size], first + start
        if header.kind == _DICTIONARY_PAGE:
            dictionary = _Page(body, offset, codec).plain(0)
        elif header.kind in (_DATA_PAGE, _DATA_PAGE_V2):
            yield from _data_page(header, body, offset, codec, levels, dictionary)
        reader.position += size
