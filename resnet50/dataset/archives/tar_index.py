"""Finds the files in tar archives by reading only the archives' headers.

Of ImageNet's official archives, ILSVRC2012_img_train.tar holds one tar archive per
class and ILSVRC2012_img_val.tar holds images. Nothing is unpacked.
"""

import contextlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from resnet50.dataset.images import DatasetError
from resnet50.input_file import open_regular

# A label is a number. A longer file whose name ends with .cls holds something else.
_LABEL_BYTES = 64


class Entry(NamedTuple):
    """A file in an archive."""

    name: str  # in an inner archive: "inner archive's stem/name"
    offset: int  # of its bytes in the outermost archive
    size: int
    label: bytes = b""  # the content of WebDataset's files whose names end with .cls
    header: int | None = None  # CRC-32 of its header, if the archive is on a server

    @property
    def location(self) -> tuple[int, ...]:
        """The end of its row in the table of ``sources.Locations``."""
        place = (self.offset, self.size)
        return place if self.header is None else (*place, self.header)


def members(path: Path | str, file: BinaryIO, end: int) -> Iterator[Entry]:
    """Yields the regular files of the archive from the file's position up to ``end``.

    The file's position may be changed in between.

    tarfile takes a damaged header for the end of the archive. So the block that ends
    the archive is checked here: it must be zeros.
    """
    offset = file.tell()
    # Damaged headers lead to other errors than tarfile's own, too.
    errors = (tarfile.TarError, ValueError, ArithmeticError, MemoryError)
    with contextlib.suppress(*errors):
        archive = tarfile.TarFile(fileobj=file, encoding="utf-8")
        while member := archive.next():
            # A million members would take a GB.
            archive.members.clear()  # type: ignore[attr-defined]  # is not public
            if member.size < 0 or member.offset_data > end:
                break
            if member.offset_data + member.size > end:
                raise DatasetError(
                    f"{path}: is cut off: {member.name} ends at byte "
                    f"{member.offset_data + member.size:,}, the archive at byte "
                    f"{end:,} (copy or download it again)"
                )
            offset = archive.offset
            if member.issparse():
                raise DatasetError(
                    f"{path}: {member.name} is stored as a sparse file, without its "
                    "zeros (make the archive without tar's --sparse)"
                )
            if member.isreg():
                name = member.name.removeprefix("./")
                label = b""
                if name.endswith(".cls") and member.size <= _LABEL_BYTES:
                    file.seek(member.offset_data)
                    label = file.read(member.size)
                yield Entry(name, member.offset_data, member.size, label)
    is_at_end = file.tell() >= end
    file.seek(offset)
    is_header = any(file.read(tarfile.BLOCKSIZE))
    if offset + tarfile.BLOCKSIZE > end or (is_header and is_at_end):
        raise DatasetError(
            f"{path}: is cut off: its last header begins at byte {offset:,}, and the "
            f"archive ends at byte {end:,} (copy or download it again)"
        )
    if is_header:
        raise DatasetError(
            f"{path}: byte {offset:,} is no header of a tar archive (it must not be "
            "compressed; if it is not, copy or download it again)"
        )


def inner_folder(entry: Entry) -> str:
    """The folder that stands for an archive in an archive; "" for any other file."""
    name = entry.name.rpartition("/")[2]
    is_inner = name.endswith(".tar") and name[0] != "."
    return name.removesuffix(".tar") + "/" if is_inner else ""


def is_visible(entry: Entry) -> bool:
    """Whether a file is in no hidden folder."""
    return not any(part[:1] == "." for part in entry.name.split("/")[:-1])


def tar_files(path: Path) -> Iterator[Entry]:
    """Yields the files in an uncompressed tar archive and in the tar archives in it.

    Files in hidden folders are left out.

    Raises:
        DatasetError: It cannot be read, is no tar archive, or is cut off.
    """
    try:
        with open_regular(path, buffering=0) as file:
            for member in members(path, file, os.fstat(file.fileno()).st_size):
                entries: Iterable[Entry] = [member]
                if folder := inner_folder(member):
                    file.seek(member.offset)
                    entries = members(path, file, member.offset + member.size)
                for entry in entries:
                    found = entry._replace(name=folder + entry.name)
                    if is_visible(found):
                        yield found
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
