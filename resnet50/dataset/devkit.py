"""Reads the labels of the validation images from ImageNet's development kit.

Its ILSVRC2012_validation_ground_truth.txt has one line per image, in the order of the
images' names: an ILSVRC2012_ID from 1 to 1000. These numbers are not the ranks of the
sorted WordNet ids; the kit's meta.mat says which class has which number. It is a Matlab
file, which scipy reads (extra ``devkit``).
"""

import gzip
import io
import struct
import tarfile
import zlib
from pathlib import Path

from resnet50.dataset.images import DatasetError
from resnet50.input_file import read_regular, require_size
from resnet50.installation import install_command

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
ARCHIVE = "ILSVRC2012_devkit_t12.tar.gz"

# Where the kit is searched for, below the images' folder or the one above it, in order.
CANDIDATES = (ARCHIVE, f"ILSVRC2012_devkit_t12/data/{TRUTH}", f"data/{TRUTH}", TRUTH)

_META = "meta.mat"

_GZIP_START = b"\x1f\x8b"
_COMPRESSED = 15  # kind of an element of a Matlab file (miCOMPRESSED)

# The kit has 2.5 MB. A few MB may unpack to gigabytes.
_MAX_BYTES = 2**24
_MAX_UNPACKED_BYTES = 2**26


def _contents(path: Path) -> tuple[bytes, bytes]:
    """Reads the ground truth and meta.mat, from the archive or from one folder."""
    if path.name != ARCHIVE:
        meta = path.parent / _META
        return read_regular(path, _MAX_BYTES), read_regular(meta, _MAX_BYTES)
    found = {}
    unpacked = read_regular(path, _MAX_BYTES)
    if unpacked[:2] == _GZIP_START:  # Some browsers unpack it and keep the name.
        with gzip.open(io.BytesIO(unpacked)) as file:
            unpacked = file.read(_MAX_UNPACKED_BYTES + 1)
    require_size(len(unpacked), _MAX_UNPACKED_BYTES)
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        for member in archive:
            name = Path(member.name).name
            is_wanted = name in (TRUTH, _META) and member.isreg()
            if is_wanted and (content := archive.extractfile(member)):
                found[name] = content.read()
    return found[TRUTH], found[_META]


def _require_small(meta: bytes) -> None:
    """Checks what the compressed parts of a Matlab file unpack to.

    The file is a header of 128 bytes and elements: a kind, a size, and so many bytes.
    """
    order = ">" if meta[126:128] == b"MI" else "<"
    position, total = 128, 0
    while position + 8 <= len(meta):
        kind, size = struct.unpack_from(f"{order}II", meta, position)
        position += 8
        if kind == _COMPRESSED:
            packed = meta[position : position + size]
            unpacked = zlib.decompressobj().decompress(packed, _MAX_UNPACKED_BYTES + 1)
            total += len(unpacked)
            require_size(total, _MAX_UNPACKED_BYTES)
        position += size


def read_devkit(path: Path) -> list[tuple[str, str]]:
    """Reads the names and WordNet ids of the validation images.

    ``path`` is the kit's archive, or the ground truth file next to meta.mat.

    Raises:
        DatasetError: scipy is not installed, or the kit is incomplete or damaged.
    """
    try:
        import scipy.io

        truth, meta = _contents(path)
        _require_small(meta)
        synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        numbers, names = synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist()
        wordnet_ids = dict(zip(numbers, names))
        return [
            (f"ILSVRC2012_val_{number:08d}.JPEG", wordnet_ids[int(line)])
            for number, line in enumerate(truth.split(), 1)
        ]
    except ImportError:
        raise DatasetError(
            f"{path}: needs scipy, for the meta.mat that says which class a number "
            f"means ({install_command('devkit')}, or name Kaggle's "
            "LOC_val_solution.csv)"
        ) from None
    except KeyError as error:
        reason = f"{error.args[0]} is missing"
    # scipy and tarfile raise nearly anything about damaged files.
    except Exception as error:
        reason = str(getattr(error, "strerror", None) or error)
    reason = " ".join(reason.split())
    raise DatasetError(
        f"{path}: cannot be read with its {_META}: {reason} (copy or download the "
        "development kit again)"
    ) from None
