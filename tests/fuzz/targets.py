"""Everything that is read and may come from elsewhere: valid files, and how to use one.

Each target's ``process`` uses its file as the programs do, and checks what they rely
on.
"""

import dataclasses
import functools
import gzip
import io
import json
import math
import os
import random
import socket
import tarfile
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from resnet50.config.toml_file import (
    override,
    read_config,
    write_channel_statistics,
)
from resnet50.dataset.class_folders import FolderWalk
from resnet50.dataset.decoding import UndecodableImageError, decode_part, decode_pixels
from resnet50.dataset.images import DatasetError
from resnet50.dataset.listing import open_dataset
from resnet50.dataset.lists import class_words
from resnet50.dataset.sources import ImageSource
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer, BatchSpec
from resnet50.handoff.manifest import adopt_buffer, require_same
from resnet50.handoff.progress import FILE_NAME as PROGRESS_FILE
from resnet50.handoff.progress import Position, read_progress
from resnet50.pixels.augmentation import (
    ChannelStatistics,
    augment,
    crop_footprint,
    sample_params,
)
from resnet50.reports.classes.outcomes import count_confusion, surest_mistakes
from resnet50.reports.classes.predictions import read_predictions
from resnet50.reports.curves import PANELS, read_run
from resnet50.reports.tables import best_epochs, record_epoch, record_evaluation
from tests.dataset import layout_examples as layouts
from tests.fuzz import image_seeds
from tests.fuzz.mutators import (
    mutate,
    mutate_json,
    mutate_lines,
    mutate_safetensors,
    repair_png,
    repair_tar,
    repaired,
    safetensors_file,
)
from tests.fuzz.sandbox import Target
from tests.settings import PROJECT, SHIPPED

_POSITION = Position(0, 0)
_STATISTICS = ChannelStatistics.from_config(SHIPPED.dataset)


# Images


def _use_image(folder: Path, data: bytes) -> None:
    path = folder / "image.JPEG"
    path.write_bytes(data)
    source = ImageSource(str(path))
    params = sample_params(np.random.default_rng(0), SHIPPED.augmentation)
    part = decode_part(source, lambda size: crop_footprint(size, params, 224).region)
    footprint = crop_footprint(part.image_size, params, 224).within(part.corner)
    out = np.empty((224, 224, 3), np.float16)
    augment(part.pixels, footprint, params, _STATISTICS, out=out)
    assert np.isfinite(out).all()


def _seeds_of(kind: str, *, with_bombs: bool) -> list[bytes]:
    seeds = image_seeds.image_seeds(kind, with_bombs=with_bombs)
    with tempfile.TemporaryDirectory() as name:
        # Compiles the loops and loads the decoders, which writes files.
        for loaded in ("PNG", "JPEG"):
            seed, *_ = image_seeds.image_seeds(loaded, with_bombs=False)
            _use_image(Path(name), seed)
    return seeds


def _image_target(kind: str, *, with_bombs: bool) -> Target:
    return Target(
        f"image-{kind}",
        functools.partial(_seeds_of, kind, with_bombs=with_bombs),
        _use_image,
        repaired(repair_png) if kind == "PNG" else mutate,
    )


# Datasets


@functools.cache
def _images() -> dict[str, bytes]:
    """Small: the same names, and contents of some hundred bytes."""
    return {
        name: image_seeds.saved(image_seeds._photograph(12 + i, 9), "JPEG", quality=20)
        for i, name in enumerate(layouts.make_images())
    }


def _read_all(dataset) -> None:
    names = [dataset.names[i] for i in range(dataset.num_images)]
    for name in names:
        assert not name.startswith("/"), name
        assert ".." not in name.split("/"), name
    assert set(dataset.labels) <= set(range(dataset.num_classes))
    for source in dataset.sources(range(dataset.num_images)):
        try:
            decode_pixels(source)
        except UndecodableImageError as error:
            assert str(error).isprintable()
    assert all(map(str.isprintable, dataset.remarks)), dataset.remarks


def _tar_seeds() -> list[bytes]:
    images, seeds = _images(), []
    entries = [*images.items(), ("n01440764/" + "long/" * 60 + "a.JPEG", b"x" * 600)]
    for tar_format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        usable = entries if tar_format != tarfile.USTAR_FORMAT else entries[:-1]
        seeds.append(layouts.tar_of(usable, tar_format))
    seeds.append(layouts.tar_of(layouts.class_tars(images)))
    seeds.append(_tar_of_kinds(tarfile.PAX_FORMAT))
    seeds.append(_tar_of_kinds(tarfile.GNU_FORMAT))
    seeds.append(_sparse_tar())
    return seeds


def _tar_of_kinds(tar_format: int) -> bytes:
    """An archive with links, devices, odd names, and pax records."""
    file = io.BytesIO()
    content = next(iter(_images().values()))
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as archive:
        for number, kind in enumerate(
            (
                tarfile.REGTYPE,
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
                tarfile.DIRTYPE,
            )
        ):
            info = tarfile.TarInfo(f"n01440764/{number}.JPEG")
            info.type, info.linkname = kind, "../../../etc/passwd"
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                info.pax_headers = {"comment": "x" * 300, "mtime": "1.5"}
            archive.addfile(info, io.BytesIO(content))
        for name in ("../../x.JPEG", "/tmp/x.JPEG", "n01443537/a\nb.JPEG"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _sparse_tar() -> bytes:
    """An archive with a GNU sparse file: 1,000 bytes, the last 20 are stored."""
    info = tarfile.TarInfo("n01440764/sparse.JPEG")
    info.size = 20
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386 : 386 + 24] = b"%011o\0%011o\0" % (980, 20)
    header[483 : 483 + 12] = b"%011o\0" % 1_000
    tail = layouts.tar_of(list(_images().items())[:8])
    return repair_tar(bytes(header) + b"s" * 20 + bytes(492) + tail)


def _use_tar(folder: Path, data: bytes) -> None:
    path = folder / "ILSVRC2012_img_train.tar"
    path.write_bytes(data)
    _read_all(open_dataset(folder, None))


def _use_class_tar(folder: Path, data: bytes) -> None:
    for name, content in layouts.class_tars(_images()):
        (folder / name).write_bytes(content)
    (folder / "n01440764.tar").write_bytes(data)
    _read_all(open_dataset(folder, None))


def _shard_seeds() -> list[bytes]:
    seeds = []
    for options in (
        {"compression": "none"},
        {"compression": "snappy"},
        {"compression": "snappy", "use_dictionary": False},
        {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"},
    ):
        with tempfile.TemporaryDirectory() as name:
            folder = layouts.write_shards(Path(name), _images(), **options)
            seeds += [path.read_bytes() for path in sorted(folder.iterdir())]
    return seeds


def _use_shard(folder: Path, data: bytes) -> None:
    (folder / "train-00000-of-00001.parquet").write_bytes(data)
    _read_all(open_dataset(folder, None))


def _list_seeds() -> list[bytes]:
    text = layouts.list_of(_images())
    return [text.encode(), text.replace("\n", "\r\n").encode(), b"a/1.JPEG 0\n" * 9]


def _use_list(folder: Path, data: bytes) -> None:
    layouts.write_files(folder / "images", _images())
    (folder / "list.txt").write_bytes(data)
    dataset = open_dataset(folder / "images", folder / "list.txt")
    assert set(dataset.labels) == set(range(dataset.num_classes))
    _read_all(dataset)


def _flat(folder: Path) -> tuple[str, ...]:
    names = layouts.flat_names(_images())
    files = {names[name]: content for name, content in _images().items()}
    layouts.write_files(folder / "images", files)
    return layouts.CLASSES


def _use_solution(folder: Path, data: bytes) -> None:
    classes = _flat(folder)
    (folder / "LOC_val_solution.csv").write_bytes(data)
    _read_all(open_dataset(folder / "images", None, classes))


@functools.cache
def _devkit() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        layouts.write_devkit(Path(name), layouts.as_validation(_images()))
        files = [path for path in Path(name).rglob("*") if path.is_file()]
        return {path.name: path.read_bytes() for path in files}


_ARCHIVE = "ILSVRC2012_devkit_t12.tar.gz"
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def _use_devkit(changed: str, folder: Path, data: bytes) -> None:
    classes = _flat(folder)
    names = (_ARCHIVE,) if changed == _ARCHIVE else (_TRUTH, "meta.mat")
    for name in names:
        (folder / name).write_bytes(data if name == changed else _devkit()[name])
    _read_all(open_dataset(folder / "images", folder / names[0], classes))


def _devkit_archives() -> list[bytes]:
    large = layouts.tar_of([(f"data/{_TRUTH}", bytes(2**20)), ("data/meta.mat", b"")])
    bombs = [large[:124] + b"%011o" % 2**32 + large[135:]]
    squeezed = gzip.compress(bytes(2**26), 9)
    # Gzip members one after the other are one stream; 3 GiB here.
    return [
        _devkit()[_ARCHIVE],
        gzip.compress(repair_tar(bombs[0])[:512], 9) + squeezed * 48,
    ]


def _mutate_devkit(rng: random.Random, seeds) -> bytes:
    if rng.random() < 0.3:
        return mutate(rng, seeds[:1])
    inside = [gzip.decompress(seeds[0])]
    return gzip.compress(repair_tar(mutate(rng, inside)), 1)


def _use_words(folder: Path, data: bytes) -> None:
    (folder / "LOC_synset_mapping.txt").write_bytes(data)
    words = class_words(folder, layouts.CLASSES)
    assert len(words) == len(layouts.CLASSES)
    assert all(words)


# A line of a tree: a kind, a path, and what a link leads to.
_TREE = """
image a/1.JPEG
image a/2.JPEG
image b/1.JPEG
image b/deep/2.JPEG
fifo a/fifo.JPEG
fifo n01440764.tar
fifo train.parquet
fifo list.txt
fifo LOC_val_solution.csv
fifo ILSVRC2012_img_train.tar
socket b/socket.JPEG
socket n01440764.tar
link a/zero.JPEG /dev/zero
link a/null.JPEG /dev/null
link a/kmsg.JPEG /proc/kmsg
link a/pagemap.JPEG /proc/self/pagemap
link n01440764.tar /dev/zero
link ILSVRC2012_img_train.tar /dev/zero
link list.txt /dev/zero
link a/self.JPEG self.JPEG
link a/up ..
link a/round ../b/round
link b/round ../a/round
link c a
link d ..
link e /
link a/outside.JPEG /etc/hostname
link nowhere nowhere
folder a/folder.JPEG
folder n01443537.tar
folder train.parquet
folder list.txt
folder a/empty
tar n01440764.tar
tar n01443537.tar
text list.txt
image a/new\\nline.JPEG
image new\\nclass/1.JPEG
image a/\\x1b[2J.JPEG
image a/\\udcff\\udcfe.JPEG
image \\udcff/1.JPEG
image a/LONG.JPEG
deep a/x 1200
deep a/y 2100
"""


def _tree_seeds() -> list[bytes]:
    lines = _TREE.strip().splitlines()
    usual = "\n".join(lines[:4]) + "\n"
    return [(usual + line + "\n").encode() for line in lines]


def _plant(folder: Path, kind: str, name: str, rest: str) -> None:
    name = name.replace("LONG", "l" * 240)
    path = folder / name.encode().decode("unicode_escape")
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            # Relative, because a socket's path may have 107 bytes.
            back = Path.cwd()
            os.chdir(path.parent)
            try:
                listener.bind(path.name)
            finally:
                os.chdir(back)
    elif kind == "link":
        path.symlink_to(rest)
    elif kind == "folder":
        path.mkdir()
    elif kind == "tar":
        path.write_bytes(layouts.tar_of([("1.JPEG", next(iter(_images().values())))]))
    elif kind == "text":
        path.write_text("a/1.JPEG 0\nb/1.JPEG 1\n")
    elif kind == "deep":
        back = Path.cwd()
        path.mkdir()
        os.chdir(path)
        for _ in range(min(int(rest), 2_100)):
            os.mkdir("d")  # noqa: PTH102 - relative to the folder that is entered.
            os.chdir("d")
        Path("1.JPEG").write_bytes(b"x")
        os.chdir(back)
    else:
        path.write_bytes(next(iter(_images().values())))


def _place_tree(folder: Path, data: bytes) -> None:
    tree = folder / "tree"
    tree.mkdir()
    for line in data.decode(errors="replace").split("\n"):
        kind, _, rest = line.partition(" ")
        name, _, target = rest.partition(" ")
        if ".." in name or name.startswith("/") or not name:
            continue
        try:
            _plant(tree, kind, name, target)
        except (OSError, ValueError):
            continue  # The lines do not fit together.


def _use_tree(folder: Path, data: bytes) -> None:
    tree, faults, num_accepted = folder / "tree", [], 0
    lists = [tree / "list.txt"] if os.path.lexists(tree / "list.txt") else []
    for list_path in (None, *lists):
        for classes in ((), ("a", "b")):
            try:
                _read_all(open_dataset(tree, list_path, classes))
                num_accepted += 1
            except DatasetError as error:
                faults.append(error)
    for name in FolderWalk().images_below(tree):
        try:
            decode_pixels(ImageSource(f"{tree}/{name}"))
        except UndecodableImageError as error:
            assert str(error).isprintable()
    for error in faults:
        # The sandbox judges the message of one of them.
        if not num_accepted or not str(error).isprintable():
            raise error


def _use_index(folder: Path, data: bytes) -> None:
    """Changes an index, which holds the folder's path; ``data`` says how."""
    shards = layouts.write_shards(folder / "data", _images())
    for path in (shards, *shards.iterdir()):
        os.utime(path, (1e9, 1e9))
    listed = open_dataset(shards, None, (), folder)
    (index,) = folder.glob("dataset_index_*")
    rng, content = random.Random(data), index.read_bytes()
    has_checksums = rng.random() < 0.5
    if not data:
        changed = content
    elif has_checksums:
        changed = _repacked(rng, content)
    else:
        changed = mutate(rng, [content])
    index.write_bytes(changed)
    dataset = open_dataset(shards, None, (), folder)
    assert dataset.fingerprint == listed.fingerprint
    if not has_checksums:  # Damage is found. Nobody forges the checksums of an index.
        assert np.array_equal(dataset.locations.table, listed.locations.table)
        assert dataset.class_words == listed.class_words
        _read_all(dataset)


def _repacked(rng: random.Random, content: bytes) -> bytes:
    """An index with a changed array, sometimes compressed, and the right checksums."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    key = rng.choice(list(members))
    members[key] = mutate(rng, [members[key]])
    if rng.random() < 0.05:
        header = members[key][:128].replace(b"(", b"(268435456,#")
        members[key] = header + bytes(2**22)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in members.items():
            archive.writestr(name, part)
    return file.getvalue()


def _random_bytes(rng: random.Random, seeds) -> bytes:
    return rng.randbytes(8)


# Settings


def _config_seeds() -> list[bytes]:
    shipped = (PROJECT / "config.txt").read_bytes()
    small = b'base = "base.txt"\n[train]\nseed = 5\n[augmentation]\ncrop_size = 64\n'
    deep = shipped.replace(b"momentum = 0.9", b"momentum." + b"a." * 9_000 + b"a = 1")
    return [shipped, small, deep, small.replace(b"base.txt", b"config.txt")]


_VALUES = (
    *("true", "-1", "0", "1", "1.5", "1e400", "nan", "-inf", '""', '"x"', "[]", "{}"),
    *("[[]]", "[1, 2]", "[0.5, 0.5, 0.5]", "[nan, 0.5, 1e308]", "9" * 400),
    *("1979-05-27", "'''a\nb'''", '"\\u0000"', '"/dev/zero"', '"../../x"', "1e-320"),
    *('"~"', '"\\ud7ff"', "[[0, 32], [5, 64]]", "[[5, 64], [0, 32]]", "0x7fffffff"),
)


def _mutate_config(rng: random.Random, seeds) -> bytes:
    if rng.random() < 0.5:
        return mutate(rng, seeds)
    lines = rng.choice(seeds).decode().splitlines()
    keys = [
        i for i, x in enumerate(lines) if " = " in x and not x.startswith(("#", "base"))
    ]
    for _ in range(rng.choice((1, 1, 3))):
        index = rng.choice(keys)
        key = lines[index].split(" = ")[0]
        lines[index] = f"{key} = {rng.choice(_VALUES)}"
    return "\n".join(lines).encode()


def _use_config(folder: Path, data: bytes) -> None:
    (folder / "base.txt").write_bytes((PROJECT / "config.txt").read_bytes())
    path = folder / "config.txt"
    path.write_bytes(data)
    config = read_config(path)
    override(config, "train", "batch_size", 8, flag="--batch_size")
    write_channel_statistics(path, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    again = read_config(path)
    assert again.dataset.channel_mean == (0.1, 0.2, 0.3)
    statistics = {"channel_mean": (0.1, 0.2, 0.3), "channel_std": (0.4, 0.5, 0.6)}
    changed = dataclasses.replace(config.dataset, **statistics)
    assert repr(dataclasses.replace(config, dataset=changed)) == repr(again)


# The hand-off

_SPECS = {
    "float16": BatchSpec(2, 4, "float16", 3),
    "uint8": BatchSpec(2, 4, "uint8", 3),
}


@functools.cache
def _batch(dtype: str) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as name:
        buffer = BatchBuffer(Path(name))
        shifts = np.ones((2, 3), np.float32) if dtype == "uint8" else None
        images = np.arange(96).reshape(2, 4, 4, 3).astype(dtype)
        buffer.write(_POSITION, images, np.array([0, 2], np.int32), shifts)
        paths = buffer.images_path(_POSITION), buffer.labels_path(_POSITION)
        return tuple(path.read_bytes() for path in paths)


def _batch_seeds(dtype: str, part: int) -> list[bytes]:
    seed = _batch(dtype)[part]
    shape = b"(2, 4, 4, 3)" if part == 0 else b"(2,)"
    huge = seed.replace(shape + b", }" + b" " * 8, b"(%d,), }" % 2**62)
    return [seed, huge, seed.replace(b"}", b" "), seed.replace(b"'<", b"'>")]


def _use_batch(dtype: str, part: int, folder: Path, data: bytes) -> None:
    buffer, spec = BatchBuffer(folder), _SPECS[dtype]
    parts = list(_batch(dtype))
    parts[part] = data
    buffer.images_path(_POSITION).write_bytes(parts[0])
    buffer.labels_path(_POSITION).write_bytes(parts[1])
    images, labels, shifts = buffer.read(_POSITION, spec)
    assert (images.shape, images.dtype) == ((2, 4, 4, 3), np.dtype(dtype))
    assert np.isfinite(images).all()
    assert labels.dtype == np.int32
    assert 0 <= labels.min() <= labels.max() < 3
    assert shifts is None or np.isfinite(shifts).all()


_MANIFEST = {"seed": 0, "batch_size": 64, "channel_mean": [0.5, 0.5, 0.5], "v": "1.0"}


def _use_manifest(folder: Path, data: bytes) -> None:
    (folder / "manifest.json").write_bytes(data)
    said = []
    try:
        require_same(folder, _MANIFEST)
    finally:
        adopt_buffer(BatchBuffer(folder), _MANIFEST, said.append)
        assert require_same(folder, _MANIFEST)
        assert all(map(str.isprintable, said)), said


def _use_progress(folder: Path, data: bytes) -> None:
    (folder / PROGRESS_FILE).write_bytes(data)
    assert 0 <= read_progress(folder, 20, 600) <= 600


def _use_lock(folder: Path, data: bytes) -> None:
    (folder / f"{locks.TRAINER}.lock").write_bytes(data)
    locks.owner(folder, locks.TRAINER)
    locks.is_alive(folder, locks.TRAINER)
    with locks.exclusive_role(folder, locks.TRAINER):
        assert int(locks.owner(folder, locks.TRAINER)) == os.getpid()


# A run


_METRICS = (
    b"epoch,loss,top1,top5,learning_rate,images_per_second,waiting\n"
    b"0,6.9,0.001,0.005,0.1,250.0,0.01\n1,5.0,0.1,0.2,0.1,251.5,0.0\n"
)
_EVALUATION = (
    b"epoch,crops,weights,loss,top1,top5\n0,1,trained,6,0.5,0.7\n1,10,,5,0.25,1.0\n"
)


def _use_table(name: str, folder: Path, data: bytes) -> None:
    (folder / "metrics.csv").write_bytes(_METRICS)
    (folder / "evaluation.csv").write_bytes(_EVALUATION)
    path = folder / name
    path.write_bytes(data)
    run = read_run(folder)
    for panel in PANELS:
        for curve in run.curves(panel.column):
            assert not any(map(math.isinf, curve.values))
    best_epochs(folder / "evaluation.csv")
    row = {"epoch": 7, "crops": 99, "top1": "0.5"}
    record_evaluation(folder / "evaluation.csv", row)
    assert 7 in best_epochs(folder / "evaluation.csv")
    record_epoch(folder / "metrics.csv", {"epoch": 9, "loss": "1", "top1": "0.5"})
    assert read_run(folder).metrics[-1]["epoch"] == "9"


_PREDICTIONS = (
    b"epoch,crops,weights,image,label,predicted,rank,probability,label_probability,"
    b"unreadable\n3,1,trained,a/0.JPEG,a,a,1,0.75,0.75,\n"
    b"3,1,trained,a/1.JPEG,a,b,2,0.5,0.25,\n3,1,trained,b/2.JPEG,b,,,,,is damaged\n"
)
_CLASSES = b"epoch,crops,weights,class,words\n3,1,trained,a,\n3,1,trained,b,bee\n"


def _use_predictions(name: str, folder: Path, data: bytes) -> None:
    (folder / "predictions.csv").write_bytes(_PREDICTIONS)
    (folder / "classes.csv").write_bytes(_CLASSES)
    (folder / name).write_bytes(data)
    predictions = read_predictions(folder, None, "evaluate again")
    outcomes, num_classes = predictions.outcomes, len(predictions.class_names)
    assert len(predictions.image_names) == len(outcomes.labels)
    confusion = count_confusion(outcomes, num_classes)
    assert confusion.num_images.sum() == sum(p.num_images for p in confusion.pairs) > 0
    mistakes = surest_mistakes(outcomes, 10)
    assert all(outcomes.labels[i] < num_classes for i in mistakes)


_DESCRIPTION = {
    "num_classes": 3,
    "class_names": ["a", "b", "c"],
    "variant": "v1.5",
    "normalization": "batch_norm",
    "class_words": ["a", "b", "c"],
    "dataset_fingerprint": "0123456789abcdef",
    "seed": 0,
    "batches_per_epoch": 6,
    "precision": "float32",
    "tf32": False,
    "xla": False,
    "accumulate_batches": 1,
}
_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _state_seeds() -> list[bytes]:
    import resnet50.training.resume  # noqa: F401 - TensorFlow reads files.

    checksums = {"variables.index": _EMPTY_SHA256}
    state = {"epoch": 1, "batch": 0, "training": _DESCRIPTION, "sha256": checksums}
    outside = {**state, "sha256": {"/dev/zero": _EMPTY_SHA256}}
    above = {**state, "sha256": {"../../canary": _EMPTY_SHA256}}
    return [json.dumps(x, indent=2).encode() for x in (state, outside, above)]


def _use_state(folder: Path, data: bytes) -> None:
    from resnet50.training import resume
    from resnet50.training.checkpoint import read_description
    from resnet50.training.description import has_same_variables, require_agreement

    path = folder / "0"
    path.mkdir()
    (path / "variables.index").touch()
    (path / "state.json").write_bytes(data)
    config = dataclasses.replace(
        SHIPPED,
        dataset=dataclasses.replace(SHIPPED.dataset, training_images=folder / "none"),
    )
    classes = resume._classes_of(path, config)
    answers = classes.best(np.arange(len(classes.names), dtype=np.float32))
    assert all(f"  {a.name}  {a.words}" for a in answers)
    theirs = read_description(path)
    for is_inside_epoch in (False, True):
        require_agreement(path, theirs, _DESCRIPTION, is_inside_epoch=is_inside_epoch)
    has_same_variables(theirs, _DESCRIPTION)


class _Shapes(SimpleNamespace):
    """A network of a few variables without values, as ``torchvision_names`` reads it.

    A ResNet-50's file has 100 MB.
    """


def _small_network() -> _Shapes:
    def variable(*shape):
        return SimpleNamespace(shape=shape)

    def normalization(channels):
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        return SimpleNamespace(**{name: variable(channels) for name in names})

    return _Shapes(
        stem_convolution=SimpleNamespace(kernel=variable(7, 7, 3, 4)),
        stem_normalization=normalization(4),
        stages=[],
        classifier=SimpleNamespace(kernel=variable(4, 3), bias=variable(3)),
    )


def _weights_seeds() -> list[bytes]:
    import resnet50.commands.weights  # noqa: F401 - TensorFlow reads files.

    shapes = {
        "conv1.weight": (4, 3, 7, 7),
        **{f"bn1.{x}": (4,) for x in ("weight", "bias", "running_mean", "running_var")},
        "bn1.num_batches_tracked": (),
        "fc.weight": (3, 4),
        "fc.bias": (3,),
    }
    seeds = []
    for dtype, name in ("<f4", "F32"), ("<f2", "F16"), ("<f8", "F64"), ("<u2", "BF16"):
        header, values = {}, b""
        for key, shape in shapes.items():
            kind, of = ("<i8", "I64") if key.endswith("tracked") else (dtype, name)
            data = np.zeros(shape, kind).tobytes()
            offsets = [len(values), len(values) + len(data)]
            header[key] = {"dtype": of, "shape": shape, "data_offsets": offsets}
            values += data
        seeds.append(safetensors_file(header, values))
        origin = {
            "variant": '"v1.5"',
            "epsilon": "1e-05",
            "channel_mean": "[0.4, 0.5, 0.6]",
            "channel_std": "[0.4, 0.5, 0.6]",
            "class_names": '["a", "b", "c"]',
        }
        seeds.append(safetensors_file({"__metadata__": origin, **header}, values))
    return seeds


def _use_weights(folder: Path, data: bytes) -> None:
    from resnet50.network.weights_file import (
        Origin,
        read_weights,
        require_same_network,
    )
    from resnet50.training.imported_weights import report_differences

    path = folder / "weights.safetensors"
    path.write_bytes(data)
    weights = read_weights(path, _small_network())
    require_same_network(weights, "v1.5", 1e-5)
    here = Origin("v1.5", 1e-5, (0.5,) * 3, (0.5,) * 3, ("a", "b", "c"))
    report_differences(weights, here, notify=lambda _: None)
    assert weights.tensors["conv1.weight"].shape == (4, 3, 7, 7)
    assert all(np.isfinite(t).all() for t in weights.tensors.values())


def _table_targets() -> list[Target]:
    # Without matplotlib there are no pages.
    return [
        Target(
            f"table-{name}",
            lambda seed=seed: [seed],
            functools.partial(use, f"{name}.csv"),
            mutate_lines,
        )
        for name, seed, use in (
            ("metrics", _METRICS, _use_table),
            ("evaluation", _EVALUATION, _use_table),
            ("predictions", _PREDICTIONS, _use_predictions),
            ("classes", _CLASSES, _use_predictions),
        )
    ]


def all_targets(*, with_bombs: bool = True) -> list[Target]:
    """Everything; without bombs, which take seconds each, for a short run."""
    partial = functools.partial
    return [
        *(_image_target(k, with_bombs=with_bombs) for k in image_seeds.formats()),
        Target("tar", _tar_seeds, _use_tar, repaired(repair_tar)),
        Target("tar-of-a-class", _tar_seeds, _use_class_tar, repaired(repair_tar)),
        Target("parquet", _shard_seeds, _use_shard),
        Target("list", _list_seeds, _use_list, mutate_lines),
        Target(
            "list-solution",
            lambda: [layouts.solution_of(layouts.as_validation(_images())).encode()],
            _use_solution,
            mutate_lines,
        ),
        Target(
            "devkit-truth",
            lambda: [_devkit()[_TRUTH]],
            partial(_use_devkit, _TRUTH),
            mutate_lines,
        ),
        Target(
            "devkit-meta",
            lambda: [_devkit()["meta.mat"]],
            partial(_use_devkit, "meta.mat"),
        ),
        Target(
            "devkit-archive",
            lambda: _devkit_archives()[: None if with_bombs else 1],
            partial(_use_devkit, _ARCHIVE),
            _mutate_devkit,
        ),
        Target(
            "words",
            lambda: [b"n01440764 tench, Tinca tinca\nn01443537 goldfish\n"],
            _use_words,
            mutate_lines,
        ),
        Target("tree", _tree_seeds, _use_tree, mutate_lines, _place_tree),
        Target("index", lambda: [b""], _use_index, _random_bytes),
        Target(
            "config", _config_seeds, _use_config, _mutate_config, reads_outside=True
        ),
        *(
            Target(
                f"batch-{dtype}-{name}",
                partial(_batch_seeds, dtype, part),
                partial(_use_batch, dtype, part),
            )
            for dtype in _SPECS
            for part, name in enumerate(("images", "labels"))
        ),
        Target(
            "manifest",
            lambda: [json.dumps(_MANIFEST, indent=2).encode(), b"{}"],
            _use_manifest,
            mutate_json,
        ),
        Target(
            "progress", lambda: [b"3\n17\n", b"3\r\n17", b"9" * 5000], _use_progress
        ),
        Target("lock", lambda: [b"1234\n", b""], _use_lock),
        *_table_targets(),
        Target("state", _state_seeds, _use_state, mutate_json),
        Target("weights", _weights_seeds, _use_weights, mutate_safetensors),
    ]
