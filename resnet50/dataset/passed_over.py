"""Which files among the images are no images, by their names.

Any other file is decoded by its content, whether it has an image's ending, an unknown
one (``.JPEG_2``, ``.bin``), or none.
"""

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


def why_no_image(name: str) -> str:
    """Says why a file of some name is passed over; "" if it may be an image."""
    if name[:1] == ".":
        return "hidden"
    return _KIND_OF.get(name[name.rfind(".") :].lower(), "")


_FILES = "files that are no images: {:,} passed over; the first is {}"
_FOLDERS = "folders that links lead to again: {:,} passed over; the first is {}"


class PassedOver:
    """Counts what a listing passes over, and remembers the first of each kind."""

    def __init__(self):
        self._found: dict[str, list] = {}

    def _add(self, remark: str, path: str) -> None:
        self._found.setdefault(remark, [0, path])[0] += 1

    def add_file(self, path: str, why: str) -> None:
        """Adds a file; see ``why_no_image``."""
        self._add(_FILES, f"{path} ({why})")

    def add_folder(self, path: str) -> None:
        """Adds a folder whose images count already, or that leads back up."""
        self._add(_FOLDERS, path)

    def remarks(self) -> tuple[str, ...]:
        """Returns a line for the user about each kind."""
        return tuple(x.format(*found) for x, found in sorted(self._found.items()))
