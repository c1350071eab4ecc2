"""Makes the same few images in every known layout. No test.

There are three classes with WordNet ids. Some images are larger than a fragment of a
Snappy stream, one is compressible, one is a PNG named .JPEG.
"""

import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.images import photograph

CLASSES = ("n01440764", "n01443537", "n02119789")
WORDS = ("tench, Tinca tinca", "goldfish", "kit fox, Vulpes macrotis")

# In the order of the names' bytes: "_10." is before "_2.".
_NUMBERS = (10, 2, 293, 3)


def encode(pixels: np.ndarray, kind: str = "JPEG") -> bytes:
    """An image file's content."""
    file = io.BytesIO()
    options = {"quality": 97} if kind == "JPEG" else {"compress_level": 0}
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def make_images() -> dict[str, bytes]:
    """The images' contents by their names in class folders, in order."""
    images = {}
    for label, name in enumerate(CLASSES):
        for index, number in enumerate(_NUMBERS):
            side = 60 + 150 * (index % 2)
            pixels = photograph(side + 7 * label, side + 20, seed=4 * label + index)
            images[f"{name}/{name}_{number}.JPEG"] = encode(pixels)
    flat = np.zeros((70, 90, 3), np.uint8)
    flat[:, 30:] = (10, 200, 90)
    images["n01443537/n01443537_2.JPEG"] = encode(flat, "PNG")
    return images


def flat_names(images: dict[str, bytes]) -> dict[str, str]:
    """Each image's name among the validation images, which does not give its class."""
    return {
        name: f"ILSVRC2012_val_{index:08d}.JPEG" for index, name in enumerate(images, 1)
    }


def as_validation(images: dict[str, bytes]) -> dict[str, bytes]:
    """The images with validation names, in class folders."""
    names = flat_names(images)
    return {f"{name[:9]}/{names[name]}": content for name, content in images.items()}


def write_files(folder: Path, images: dict[str, bytes]) -> Path:
    """Writes images as files."""
    for name, content in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def shuffled(images: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """The images in an order that is not the sorted one."""
    items = list(images.items())
    random.Random(0).shuffle(items)
    return items


def tar_of(
    entries: list[tuple[str, bytes]], tar_format: int = tarfile.USTAR_FORMAT
) -> bytes:
    """A tar archive's content."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def class_tars(images: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """One tar per class, named after it, in an order that is not the sorted one."""
    return [
        (
            f"{name}.tar",
            tar_of([(n[10:], x) for n, x in shuffled(images) if n.startswith(name)]),
        )
        for name in reversed(CLASSES)
    ]


def write_official_archive(folder: Path, images: dict[str, bytes]) -> Path:
    """Writes ILSVRC2012_img_train.tar."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ILSVRC2012_img_train.tar"
    path.write_bytes(tar_of(class_tars(images)))
    return path


def solution_of(validation_images: dict[str, bytes]) -> str:
    """Kaggle's LOC_val_solution.csv."""
    lines = ["ImageId,PredictionString"]
    for name, _ in shuffled(validation_images):
        wordnet_id, file = name.split("/")
        lines.append(f"{file[:-5]},{wordnet_id} 85 1 499 272 {wordnet_id} 1 2 3 4 ")
    return "\n".join(lines) + "\n"


def list_of(images: dict[str, bytes], *, with_folders: bool = True) -> str:
    """Caffe's list."""
    return "".join(
        f"{name if with_folders else name[10:]} {CLASSES.index(name[:9])}\n"
        for name, _ in shuffled(images)
    )


def write_shards(
    folder: Path, images: dict[str, bytes], *, split: str = "train", **options
) -> Path:
    """Writes two Parquet shards, named and described like Hugging Face's."""
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True, exist_ok=True)
    features = {"label": {"names": list(WORDS), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    schema = pyarrow.schema(
        {"image": kind, "label": pyarrow.int64()}, metadata=metadata
    )
    rows = shuffled(images)
    for number, part in enumerate((rows[:5], rows[5:])):
        cells = [
            {"bytes": content, "path": f"{name[10:-5]}_{name[:9]}.JPEG"}
            for name, content in part
        ]
        labels = [CLASSES.index(name[:9]) for name, _ in part]
        table = pyarrow.table({"image": cells, "label": labels}, schema=schema)
        path = folder / f"{split}-0000{number}-of-00002.parquet"
        pyarrow.parquet.write_table(table, path, **options)
    return folder


def write_devkit(folder: Path, validation_images: dict[str, bytes]) -> Path:
    """Writes ImageNet's development kit, unpacked and as an archive.

    Returns:
        The unpacked ground truth. Its numbers are not in the order of the WordNet ids.
    """
    scipy_io = pytest.importorskip("scipy.io")
    numbers = dict(zip(CLASSES, (3, 1, 2)))
    rows = [(n, c, "words", "gloss", 0) for c, n in numbers.items()]
    rows.append((4, "n00001740", "an inner node", "gloss", 3))
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O")]
    synsets = np.array(rows, dtype=[*kinds, ("num_children", "O")])[:, None]
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    scipy_io.savemat(data / "meta.mat", {"synsets": synsets}, do_compression=True)
    by_name = sorted(validation_images, key=lambda name: name[10:])
    truth = data / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{numbers[name[:9]]}\n" for name in by_name))
    with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        archive.add(data.parent, data.parent.name)
    return truth
