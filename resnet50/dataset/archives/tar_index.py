"""Where the images in tar archives are, found by reading the archives' headers only.

ImageNet's official archives: ILSVRC2012_img_train.tar holds a tar of each class,
ILSVRC2012_img_val.tar holds images. Nothing is unpacked.
"""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from resnet50.dataset.images import DatasetError

_BLOCK = tarfile.BLOCKSIZE


class Entry(NamedTuple):
    """A file in an archive."""

    name: str  # of a file in an inner archive: "inner archive's stem/name"
    offset: int  # of its bytes in the outermost archive
    size: int


class _Walk:
    """Reads the headers of one archive file."""

    def __init__(self, path: Path, descriptor: int):
        self._path = path
        self._descriptor = descriptor
        self._file_size = os.fstat(descriptor).st_size

    def _read(self, offset: int, size: int, end: int) -> bytes:
        if offset + size > end:
            raise DatasetError(
                f"{self._path}: is cut off: its last header ends at byte "
                f"{offset + size:,}, the archive at byte {end:,} (copy or download it "
                "again)"
            )
        return os.pread(self._descriptor, size, offset)

    def _no_header(self, offset: int) -> DatasetError:
        return DatasetError(
            f"{self._path}: byte {offset:,} is no header of a tar archive (it must not "
            "be compressed; if it is not, copy or download it again)"
        )

    def _members(self, start: int, end: int) -> Iterator[Entry]:
        """The files of the archive between two offsets."""
        offset, overrides = start, {}
        while True:
            block = self._read(offset, _BLOCK, end)
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.EOFHeaderError:
                return
            except tarfile.HeaderError:
                raise self._no_header(offset) from None
            data = offset + _BLOCK
            size = int(overrides.get("size", header.size))
            if size < 0:
                raise self._no_header(offset)
            if data + size > end:
                raise DatasetError(
                    f"{self._path}: is cut off: {header.name} ends at byte "
                    f"{data + size:,}, the archive at byte {end:,} (copy or download "
                    "it again)"
                )
            if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                overrides |= _parse_pax(self._read(data, size, end))
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                name = self._read(data, size, end).rstrip(b"\0")
                overrides["path"] = os.fsdecode(name)
            else:
                if header.isreg():
                    name = overrides.get("path", header.name)
                    yield Entry(name.removeprefix("./"), data, size)
                overrides = {}
            offset = data + -(-size // _BLOCK) * _BLOCK

    def files(self) -> Iterator[Entry]:
        """The files of the archive and of the archives in it; no hidden folders'."""
        for member in self._members(0, self._file_size):
            file = member.name.rpartition("/")[2]
            if not file.endswith(".tar") or file[0] == ".":
                inner = [member]
            else:
                stem = Path(member.name).stem
                end = member.offset + member.size
                inner = [
                    entry._replace(name=f"{stem}/{entry.name}")
                    for entry in self._members(member.offset, end)
                ]
            for entry in inner:
                if not any(part[:1] == "." for part in entry.name.split("/")[:-1]):
                    yield entry


def _parse_pax(data: bytes) -> dict[str, str]:
    """Path and size of an extended header: lines of "length key=value"."""
    found = {}
    while data:
        length = data.partition(b" ")[0]
        if not length.isdigit() or not int(length):
            break
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if key == b"path" or (key == b"size" and value.isdigit()):
            found[key.decode()] = os.fsdecode(value)
        data = data[int(length) :]
    return found


def tar_files(path: Path) -> Iterator[Entry]:
    """Yields the files in a tar archive, and in tar archives inside it.

    Args:
        path: The archive, uncompressed.

    Raises:
        DatasetError: It cannot be read, is no tar archive, or is cut off.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield from _Walk(path, descriptor).files()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
