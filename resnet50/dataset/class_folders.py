"""Images in class folders: n01440764/n01440764_10026.JPEG.

A class's label is the rank of its folder's name. A file whose name says that it is no
image is skipped; any other is decoded by its content, whether it has an image's ending,
an unknown one (``.JPEG_2``, ``.bin``), or none.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resnet50.dataset.images import Dataset, DatasetError, PackedNames, class_ranks
from resnet50.errors import printable_line

# Endings of files that nobody takes for images, by kind. Pillow reads none of them.
_ENDINGS_OF = {
    "a text": ".txt .md .rst .log .nfo .pdf .doc .docx .odt .rtf .tex .html .htm .css",
    "a table, labels or settings": (
        ".csv .tsv .xls .xlsx .json .jsonl .xml .yaml .yml .toml .ini .cfg .db .sqlite"
    ),
    "a drawing without pixels": ".svg .svgz",
    "an archive": ".zip .tar .gz .tgz .bz2 .xz .zst .7z .rar",
    "data": ".npy .npz .mat .pkl .pickle .parquet .arrow .tfrecord .lmdb .mdb .pt .pth",
    "a program": ".py .pyc .ipynb .js .sh .bat .exe",
    "a film or sound": ".mp4 .m4v .avi .mov .mkv .webm .wmv .mp3 .wav .flac .ogg",
    "a checksum": ".md5 .sha1 .sha256 .sha512",
    "a shortcut": ".lnk .url",
}
_KIND_OF = {end: kind for kind, ends in _ENDINGS_OF.items() for end in ends.split()}

_FILES = "files that are no images: {:,} skipped; the first is {}"
_FOLDERS = "folders that links lead to again: {:,} skipped; the first is {}"


def why_no_image(name: str) -> str:
    """Says why a file of some name is skipped; "" if it may be an image."""
    if name[:1] == ".":
        return "hidden"
    return _KIND_OF.get(name[name.rfind(".") :].lower(), "")


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """Returns when a file or folder was modified, ns, and a file's size, bytes."""
    return status.st_mtime_ns, 0 if stat.S_ISDIR(status.st_mode) else status.st_size


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # A link to itself; reading it will report the error.
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _folders_above(folder: Path) -> set[tuple[int, int]]:
    """Identities of the folders that contain a folder, by its path and really."""
    inside = folder.parent.resolve()
    identities = set()
    for path in {inside, *inside.parents, *folder.resolve().parents}:
        with contextlib.suppress(OSError):  # A network file system may forbid it.
            identities.add(_identity(path.stat()))
    return identities


class FolderWalk:
    """Lists folders, and remembers when each was modified before it was listed.

    ``notify`` is called with a line for the user before what may take minutes;
    ``remedy`` is the advice about an unreadable folder; ``stamps`` has the stamp of
    each folder that was listed and each file that was read.
    """

    def __init__(
        self,
        notify: Callable[[str], None] = lambda line: None,
        *,
        remedy: str = "see [dataset] in config.txt",
    ):
        self.notify = notify
        self._remedy = remedy
        self.stamps: dict[str, tuple[int, int]] = {}
        self._skipped: dict[str, list[Any]] = {}  # number and first of each kind

    def _skip(self, kind: str, path: str) -> None:
        self._skipped.setdefault(kind, [0, path])[0] += 1

    def skip_file(self, path: str, why: str) -> None:
        """Counts a file that is no image; see ``why_no_image``."""
        self._skip(_FILES, f"{path} ({why})")

    def remarks(self) -> tuple[str, ...]:
        """Returns a line for the user about each kind of what was skipped."""
        skipped = sorted(self._skipped.items())
        return tuple(printable_line(line.format(*found)) for line, found in skipped)

    @contextlib.contextmanager
    def _reading(self, path: str | Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DatasetError(
                f"{path}: cannot be read: {error.strerror} ({self._remedy})"
            ) from None

    def _stat(self, path: str | Path) -> os.stat_result:
        with self._reading(path):
            return os.stat(path)  # noqa: PTH116 - half the time of Path's.

    def note(self, path: str | Path) -> None:
        """Remembers the stamp of a file or folder that is about to be read."""
        self.stamps[str(path)] = stamp_of(self._stat(path))

    def entries(self, folder: str) -> list[os.DirEntry[str]]:
        """Lists a folder without hidden entries, sorted by the bytes of their names."""
        self.note(folder)
        return [e for e in self._sorted_entries(folder) if e.name[0] != "."]

    def _sorted_entries(self, folder: str) -> list[os.DirEntry[str]]:
        with self._reading(folder), os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))

    def class_folders(self, folder: Path) -> list[str]:
        """Names of the folders in a folder, without links that lead back up."""
        found = [entry for entry in self.entries(str(folder)) if is_folder(entry)]
        links = [entry for entry in found if entry.is_symlink()]
        above = _folders_above(folder / "class") if links else set()
        circles = [entry for entry in links if _identity(entry.stat()) in above]
        for entry in circles:
            self._skip(_FOLDERS, entry.path)
        return [entry.name for entry in found if entry not in circles]

    def images_below(self, folder: str | Path, prefix: str = "") -> Iterator[str]:
        """Yields relative paths of possible images in a folder and its subfolders.

        Links to folders are followed, but each real folder counts once, and the folders
        above do not count. Each path begins with ``prefix``.
        """
        root, counted, has_links = Path(folder), set(), False

        def enter(folder: str, *, is_link: bool) -> Iterator[os.DirEntry[str]]:
            nonlocal has_links
            if is_link and not has_links:
                has_links = True
                counted.update(_folders_above(root))
            status = self._stat(folder)
            # Only with links: some file systems give several folders the same number.
            if has_links and _identity(status) in counted:
                self._skip(_FOLDERS, folder)
                return iter(())
            counted.add(_identity(status))
            self.stamps[folder] = stamp_of(status)
            return iter(self._sorted_entries(folder))

        # No recursion: folders may be nested more deeply than Python's calls may be.
        unfinished = [(prefix, enter(str(folder), is_link=False))]
        while unfinished:
            prefix, entries = unfinished[-1]
            for entry in entries:
                name = entry.name
                if is_folder(entry):
                    if name[0] != ".":
                        inner = enter(entry.path, is_link=entry.is_symlink())
                        unfinished.append((f"{prefix}{name}/", inner))
                        break
                elif why := why_no_image(name):
                    self.skip_file(entry.path, why)
                else:
                    yield f"{prefix}{name}"
            else:
                unfinished.pop()


def list_class_folders(
    folder: Path, class_names: tuple[str, ...] = (), walk: FolderWalk | None = None
) -> Dataset:
    """Lists a folder with one subfolder of images per class.

    Hidden entries, loose files and links back up are ignored; folders inside a class
    folder belong to the class.

    ``class_names`` has the classes of the training set, if this is the validation set.
    It may lack a class, but must have no other.

    Raises:
        DatasetError: The folder is unreadable, or holds no class, an empty class or an
            unknown one.
    """
    walk = walk or FolderWalk()
    found = walk.class_folders(folder)
    if not found:
        raise DatasetError(
            f"{folder}: holds no class folders (expected one folder of images for each "
            "class; see [dataset] in config.txt)"
        )
    class_names = class_names or tuple(found)
    rank = class_ranks(folder, found, class_names)
    counts = dict.fromkeys(found, 0)

    def all_files() -> Iterator[str]:
        for name in found:
            for file in walk.images_below(f"{folder}/{name}", f"{name}/"):
                counts[name] += 1
                yield file
            if not counts[name]:
                raise DatasetError(
                    f"{folder / name}: class folder without images (add some, or "
                    "remove it)"
                )

    names = PackedNames.pack(all_files())
    labels = np.repeat([rank[n] for n in found], list(counts.values()))
    return Dataset(folder, names, labels.astype(np.int32), class_names)
