"""Where the values of a column of bytes lie in a Parquet file, page by page.

A value lies in the file as it is, or in a Snappy stream, which compressors cut into
fragments of 64 KiB that refer to nothing before them. A page holds values, or indices
into the values of the dictionary page before it.

The format is in apache/parquet-format: README.md, Encodings.md, parquet.thrift.
"""

from collections.abc import Iterator
from typing import BinaryIO

from resnet50.dataset.archives.snappy import snappy_element

# parquet.thrift: PageType and Encoding.
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY = 0, 2, 8

_FRAGMENT = 2**16

# Offset and size in the file; inflated size (0: not compressed), start and size of the
# image in what the range inflates to. See sources.SnappyRange.
Place = tuple[int, int, int, int, int]


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
            head, missing = self.varint(), count - len(numbers)
            if head & 1:
                packed = self.whole((head >> 1) * width)
                mask = (1 << width) - 1
                for place in range(min((head >> 1) * 8, missing)):
                    numbers.append(packed >> place * width & mask)
            else:
                value = self.whole((width + 7) // 8)
                numbers += [value] * min(head >> 1, missing)
        return numbers


def _fragments(stream) -> list[int]:
    """Where the fragments of a Snappy stream begin, and where it ends.

    Returns:
        Offsets in the stream, of what inflates to 64 KiB each, the last to the rest.

    Raises:
        ValueError: An element reaches over a fragment's border, or the stream does not
            inflate to the length that it tells.
    """
    reader = _Reader(stream)
    size, position = reader.varint(), reader.position
    starts, inflated = [], 0
    while position < len(stream):
        if inflated == len(starts) * _FRAGMENT:
            starts.append(position)
        element = snappy_element(stream, position)
        is_inside = inflated + element.length <= len(starts) * _FRAGMENT
        if not is_inside or element.distance > inflated % _FRAGMENT:
            raise ValueError("its Snappy stream is not cut into fragments of 64 KiB")
        position = element.data + element.length * element.is_literal
        inflated += element.length
    if inflated != size or position != len(stream):
        raise ValueError("a page's compressed bytes are damaged")
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
            size = _Reader(body).varint()
            self._starts = _fragments(body)
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
            raise ValueError("a page ends inside a value")
        return places


def _data_page(header, body, offset, codec, levels, dictionary) -> list[Place]:
    """The places of a data page's values.

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
        page, start, num_nulls = _Page(body, offset, codec), 0, 0
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
    if num_nulls:
        raise ValueError("a value is null")
    if encoding == _PLAIN:
        return page.plain(start)
    if encoding not in (_PLAIN_DICTIONARY, _RLE_DICTIONARY):
        raise ValueError(f"its values have the encoding {encoding}, not PLAIN")
    width = page.values[start]
    indices = _Reader(page.values, start + 1).hybrid(width, count)
    return [dictionary[index] for index in indices]


def chunk_places(file: BinaryIO, chunk, levels: int, codec) -> Iterator[Place]:
    """Yields the places of the values of a row group's column, in its order.

    Args:
        file: The Parquet file; the column is read into memory.
        chunk: pyarrow's metadata of the row group's column.
        levels: The definition level of a value that is not null.
        codec: pyarrow's Snappy if the column is compressed with it, else None.

    Raises:
        ValueError: A page is damaged, holds a null, or has an encoding that is not
            known. IndexError and KeyError: a page is damaged.
    """
    first = chunk.data_page_offset
    if chunk.has_dictionary_page:
        first = min(first, chunk.dictionary_page_offset)
    file.seek(first)
    data = memoryview(file.read(chunk.total_compressed_size))
    dictionary: list[Place] = []
    reader = _Reader(data)
    while reader.position < chunk.total_compressed_size:
        header = reader.struct()
        start, size = reader.position, header[3]
        if not 0 <= size <= len(data) - start:
            raise ValueError("a page ends behind its column")
        body = data[start : start + size]
        if header[1] == _DICTIONARY_PAGE:
            dictionary = _Page(body, first + start, codec).plain(0)
        elif header[1] in (_DATA_PAGE, _DATA_PAGE_V2):
            # Before so many numbers are made.
            if header[5 if header[1] == _DATA_PAGE else 8][1] > chunk.num_values:
                raise ValueError("a page tells of more values than its column has")
            yield from _data_page(
                header, body, first + start, codec, levels, dictionary
            )
        reader.position += size
