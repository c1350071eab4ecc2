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


class Entry(NamedTuple):
    """A file in an archive."""

    name: str  # in an inner archive: "inner archive's stem/name"
    offset: int  # of its bytes in the outermost archive
    size: int


def _members(path: Path, file: BinaryIO, end: int) -> Iterator[Entry]:
    """Yields the regular files of the archive from the file's position up to ``end``.

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
                yield Entry(name, member.offset_data, member.size)
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


def tar_files(path: Path) -> Iterator[Entry]:
    """Yields the files in an uncompressed tar archive and in the tar archives in it.

    Files in hidden folders are left out.

    Raises:
        DatasetError: It cannot be read, is no tar archive, or is cut off.
    """
    try:
        with open_regular(path, buffering=0) as file:
            for member in _members(path, file, os.fstat(file.fileno()).st_size):
                entries: Iterable[Entry] = [member]
                folder = ""
                file_name = member.name.rpartition("/")[2]
                if file_name.endswith(".tar") and file_name[0] != ".":
                    file.seek(member.offset)
                    entries = _members(path, file, member.offset + member.size)
                    folder = file_name.removesuffix(".tar") + "/"
                for entry in entries:
                    name = folder + entry.name
                    if not any(part[:1] == "." for part in name.split("/")[:-1]):
                        yield entry._replace(name=name)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
