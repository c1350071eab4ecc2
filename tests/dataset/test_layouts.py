"""Proves that the same images make the same batches in every layout.

An incomplete, torn or unknown layout gives one clear line.
"""

import errno
import functools
import gzip
import os
import pickle
import struct
import sys
import tarfile
import time
import zlib
from multiprocessing import get_context

import numpy as np
import pytest

from resnet50.dataset import sources
from resnet50.dataset.class_folders import list_class_folders
from resnet50.dataset.decoding import UndecodableImageError, read_image
from resnet50.dataset.devkit import read_devkit
from resnet50.dataset.images import DatasetError
from resnet50.dataset.listing import open_dataset
from resnet50.handoff.progress import Position
from resnet50.preprocessing.batches import Assignments, make_batch
from tests.dataset import folders
from tests.dataset.layout_examples import (
    CLASSES,
    WORDS,
    as_validation,
    class_tars,
    flat_names,
    list_of,
    make_images,
    shuffled,
    solution_of,
    tar_of,
    write_devkit,
    write_files,
    write_official_archive,
    write_shards,
)
from tests.preprocessing.batch_settings import make_settings

IMAGES = make_images()
VALIDATION = as_validation(IMAGES)
FLAT = {name[10:]: content for name, content in VALIDATION.items()}


def kaggle_tree(root):
    """Kaggle's tree with training and validation images; returns its root."""
    images = root / "ILSVRC" / "Data" / "CLS-LOC"
    write_files(images / "train", IMAGES)
    write_files(images / "val", FLAT)
    (root / "LOC_val_solution.csv").write_text(solution_of(VALIDATION))
    lines = [f"{name} {words}\n" for name, words in zip(CLASSES, WORDS)]
    (root / "LOC_synset_mapping.txt").write_text("".join(lines))
    return root


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def listed_training(folder):
    write_files(folder / "images", IMAGES)
    return folder / "images", written(folder / "train.txt", list_of(IMAGES))


def listed_archive(folder):
    path = written(folder / "images.tar", tar_of([(n, x) for n, x in shuffled(IMAGES)]))
    return path, written(folder / "train.txt", list_of(IMAGES))


def shards(**options):
    def make(folder):
        pytest.importorskip("pyarrow")
        return write_shards(folder, IMAGES, **options), None

    return make


def hub_repository(folder):
    pytest.importorskip("pyarrow")
    write_shards(folder / "data", IMAGES)
    write_shards(folder / "data", VALIDATION, split="validation")
    return folder, None


# Each writes the training images into a folder, and returns what config.txt would name.
TRAINING = {
    "class folders": lambda f: (write_files(f, IMAGES), None),
    "folder above train and val": lambda f: (
        write_files(f / "val", VALIDATION) and write_files(f / "train", IMAGES).parent,
        None,
    ),
    "Caffe list": listed_training,
    "Kaggle's root": lambda f: (kaggle_tree(f), None),
    "Kaggle's ILSVRC": lambda f: (kaggle_tree(f) / "ILSVRC", None),
    "Kaggle's train": lambda f: (kaggle_tree(f) / "ILSVRC/Data/CLS-LOC/train", None),
    "official archive": lambda f: (write_official_archive(f, IMAGES), None),
    "folder of the official archives": lambda f: (
        write_official_archive(f, IMAGES).parent,
        None,
    ),
    "class archives": lambda f: (
        write_files(f, dict([*class_tars(IMAGES), ("readme.txt", b"")])),
        None,
    ),
    "archive of class folders": lambda f: (
        written(f / "a.tar", tar_of([(f"./{n}", x) for n, x in shuffled(IMAGES)])),
        None,
    ),
    "archive with a list": listed_archive,
    "numbered archives": lambda f: (write_shard_tars(f, shuffled(IMAGES)), None),
    "WebDataset's shards": lambda f: (write_shard_tars(f, webdataset(IMAGES)), None),
    "shards": shards(),
    "shards, plain": shards(compression="none", use_dictionary=False),
    "shards, plain with dictionary": shards(compression="none"),
    "shards, compressed without dictionary": shards(use_dictionary=False),
    "shards, small pages and row groups": shards(
        row_group_size=2, data_page_size=1000, write_batch_size=1
    ),
    "shards, dictionary given up": shards(
        dictionary_pagesize_limit=1000, write_batch_size=1, data_page_size=1000
    ),
    "shards, second page format": shards(data_page_version="2.0"),
    "shards, second page format, no dictionary": shards(
        data_page_version="2.0", use_dictionary=False, write_batch_size=2
    ),
    "the hub's repository": hub_repository,
}


def open_training(folder, layout, **options):
    return open_dataset(*TRAINING[layout](folder), **options)


def all_batches(dataset):
    """Images and labels of the three batches of two epochs."""
    settings = make_settings(batch_size=4)
    assignments = Assignments(dataset, settings)
    return [
        make_batch(settings, assignments[Position(epoch, batch_index)])
        for epoch in range(2)
        for batch_index in range(3)
    ]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    dataset = list_class_folders(
        write_files(tmp_path_factory.mktemp("reference"), IMAGES)
    )
    return dataset, all_batches(dataset)


@pytest.mark.parametrize("layout", TRAINING)
def test_the_same_images_make_the_same_batches(tmp_path, reference, layout):
    expected, expected_batches = reference
    dataset = open_training(tmp_path, layout)
    assert dataset.fingerprint == expected.fingerprint
    assert dataset.class_names == CLASSES
    contents = [read_image(source) for source in dataset.sources(range(len(IMAGES)))]
    assert contents == list(IMAGES.values())
    for batch, wanted in zip(all_batches(dataset), expected_batches):
        assert batch.unreadable == []
        np.testing.assert_array_equal(batch.images, wanted.images)
        np.testing.assert_array_equal(batch.labels, wanted.labels)


def flat_list(folder):
    write_files(folder / "val", FLAT)
    text = list_of(VALIDATION, with_folders=False)
    return folder / "val", written(folder / "labels.txt", text)


def beside(name, text):
    def make(folder):
        written(folder / name, text)
        return write_files(folder / "val", FLAT), None

    return make


def solution_for_archive(folder):
    path = written(folder / "ILSVRC2012_img_val.tar", tar_of(shuffled(FLAT)))
    written(folder / "LOC_val_solution.csv", solution_of(VALIDATION))
    return path, None


def named_solution(folder):
    path = write_files(folder / "val", FLAT)
    return path, written(folder / "labels.csv", solution_of(VALIDATION))


def validation_shards(folder):
    pytest.importorskip("pyarrow")
    return write_shards(folder, VALIDATION, split="validation"), None


def beside_devkit(name):
    def make(folder):
        write_devkit(folder / "kit", VALIDATION)
        (folder / "kit" / name).rename(folder / name)
        return write_files(folder / "val", FLAT), None

    return make


def named_ground_truth(folder):
    path = write_files(folder / "val", FLAT)
    return path, write_devkit(folder / "kit", VALIDATION)


CAFFE_LIST = list_of(VALIDATION, with_folders=False)
VALIDATIONS = {
    "class folders": lambda f: (write_files(f, VALIDATION), None),
    "flat with a list": flat_list,
    "flat with Kaggle's list": named_solution,
    "flat beside Kaggle's list": beside(
        "LOC_val_solution.csv", solution_of(VALIDATION)
    ),
    "flat with val.txt inside": beside("val/val.txt", CAFFE_LIST),
    "flat with val.txt beside": beside("val.txt", CAFFE_LIST),
    "Kaggle's root": lambda f: (kaggle_tree(f), None),
    "flat beside the development kit": beside_devkit("ILSVRC2012_devkit_t12.tar.gz"),
    "flat beside the unpacked kit": beside_devkit("ILSVRC2012_devkit_t12"),
    "flat with the kit's ground truth": named_ground_truth,
    "Kaggle's val": lambda f: (kaggle_tree(f) / "ILSVRC/Data/CLS-LOC/val", None),
    "official archive": solution_for_archive,
    "shards": validation_shards,
    "the hub's repository": hub_repository,
}


@pytest.mark.parametrize("layout", VALIDATIONS)
def test_validation_images_have_their_labels(tmp_path, layout):
    dataset = open_dataset(*VALIDATIONS[layout](tmp_path), CLASSES)
    assert dataset.class_names == CLASSES
    labels = [CLASSES.index(name[:9]) for name in IMAGES]
    assert dataset.labels.tolist() == labels
    contents = [read_image(source) for source in dataset.sources(range(len(IMAGES)))]
    assert contents == list(IMAGES.values())


@pytest.mark.parametrize(
    ("layout", "where", "found"),
    [
        ("class folders", "", "class folders"),
        ("Caffe list", "/images", "the images of train.txt"),
        (
            "Kaggle's root",
            "/ILSVRC/Data/CLS-LOC/train",
            "Kaggle's ILSVRC tree, class folders",
        ),
        (
            "folder of the official archives",
            "/ILSVRC2012_img_train.tar",
            "archive in place",
        ),
        ("class archives", "", "archives of one class each, in place"),
        ("shards", "", "Hugging Face's Parquet shards, in place"),
    ],
)
def test_the_summary_names_the_layout(tmp_path, layout, where, found):
    dataset = open_training(tmp_path, layout)
    assert dataset.summary == f"{tmp_path}{where}: {found}, 12 images of 3 classes"


@pytest.mark.parametrize(
    ("layout", "words"),
    [("Kaggle's train", WORDS), ("shards", WORDS), ("class folders", CLASSES)],
)
def test_words_of_the_classes(tmp_path, layout, words):
    assert open_training(tmp_path, layout).class_words == words


ARCHIVED = ["official archive", "class archives", "shards"]


def age(folder):
    past = time.time() - 3600
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (past, past))


@pytest.mark.parametrize("layout", [*ARCHIVED, "Caffe list", "Kaggle's root"])
def test_the_index_remembers_every_layout(tmp_path, monkeypatch, layout):
    images, list_path = TRAINING[layout](tmp_path / "images")
    age(tmp_path)
    expected = open_dataset(images, list_path, index_folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("resnet50.dataset.listing.find_images", None)
        dataset = open_dataset(images, list_path, index_folder=tmp_path)
    assert dataset.fingerprint == expected.fingerprint
    assert dataset.summary == expected.summary
    assert dataset.class_words == expected.class_words
    paths = dataset.sources(range(12))
    assert [read_image(source) for source in paths] == list(IMAGES.values())


@pytest.mark.parametrize("layout", ARCHIVED)
def test_a_changed_archive_is_listed_again(tmp_path, layout):
    images, _ = TRAINING[layout](tmp_path / "images")
    age(tmp_path)
    open_dataset(images, None, index_folder=tmp_path)
    others = {name: IMAGES[other] for name, other in zip(IMAGES, reversed(IMAGES))}
    if layout == "official archive":
        write_official_archive(tmp_path / "images", others)
    elif layout == "class archives":
        write_files(images, dict(class_tars(others)))
    else:
        write_shards(images, others)
    dataset = open_dataset(images, None, index_folder=tmp_path)
    contents = [read_image(source) for source in dataset.sources(range(12))]
    assert contents == list(others.values())


def read_all(images):
    return [read_image(source) for source in images]


@pytest.mark.parametrize("layout", ARCHIVED)
def test_workers_can_read_the_sources(tmp_path, layout):
    """Spawned workers get pickled sources and share no handle."""
    paths = open_training(tmp_path, layout).sources(range(12))
    assert pickle.loads(pickle.dumps(paths)) == paths
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_all, (paths,)) == list(IMAGES.values())


def test_more_archives_than_are_kept_open(tmp_path, monkeypatch):
    """Every descriptor that is opened is closed again."""
    cache = functools.lru_cache(maxsize=2)(sources.Handle)
    monkeypatch.setattr(sources, "_open", cache)
    paths = open_training(tmp_path, "class archives").sources(range(12))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        assert read_all(paths[::-1] + paths[::5]) == [
            *list(IMAGES.values())[::-1],
            *list(IMAGES.values())[::5],
        ]
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208


def message_of(*args):
    with pytest.raises(DatasetError) as caught:
        open_dataset(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_odd_names_in_archives(tmp_path, tar_format):
    names = [f"n01440764/{'x' * 150}.JPEG", "n01443537/größe 日本.JPEG"]
    hidden = [("n01440764/._x.JPEG", b"-"), (".DS_Store", b"-")]
    entries = [*hidden, (names[0], b"0"), (names[1], b"1")]
    path = written(tmp_path / "a.tar", tar_of(entries, tar_format))
    dataset = open_dataset(path, None)
    assert list(dataset.names) == names
    assert read_all(dataset.sources(range(2))) == [b"0", b"1"]
    assert str(dataset.sources([1])[0]) == f"{path}/{names[1]}"


def test_a_torn_archive_is_reported_at_every_cut(tmp_path):
    path = write_official_archive(tmp_path, IMAGES)
    whole = path.read_bytes()
    last = whole.rindex(b"ustar") - 257
    end = len(whole.rstrip(b"\0"))
    for cut in (len(whole) // 3, last, last + 100, last + 512, end - 1, end):
        path.write_bytes(whole[:cut])
        assert message_of(path, None).startswith(f"{path}: is cut off: "), cut
    path.write_bytes(whole[:1000] + b"damaged" + whole[1007:])
    assert "byte 512 is no header of a tar archive" in message_of(path, None)
    path.write_bytes(b"\x1f\x8b" + whole[2:])
    assert message_of(path, None) == (
        f"{path}: byte 0 is no header of a tar archive (it must not be compressed; if "
        "it is not, copy or download it again)"
    )


def test_an_archive_torn_after_it_was_indexed_is_an_unreadable_image(tmp_path):
    path = write_official_archive(tmp_path, IMAGES)
    *_, last = open_dataset(path, None).sources(range(12))
    os.truncate(path, last.offset + 5)
    with pytest.raises(UndecodableImageError, match="archive ends before the image"):
        read_image(last)
    path.unlink()
    sources._open.cache_clear()
    with pytest.raises(UndecodableImageError, match="No such file"):
        read_image(last)


def test_a_stale_handle_is_opened_again(tmp_path, monkeypatch):
    first, *_ = open_training(tmp_path, "official archive").sources(range(12))
    real, calls = os.pread, []

    def pread(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(*arguments)

    read_image(first)
    monkeypatch.setattr(os, "pread", pread)
    assert read_image(first) == next(iter(IMAGES.values()))
    assert len(calls) == 2


def test_faults_of_shards(tmp_path):
    pytest.importorskip("pyarrow")
    write_shards(tmp_path, IMAGES)
    path = tmp_path / "train-00001-of-00002.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert message_of(tmp_path, None).startswith(f"{path}: cannot be read: ")
    path.write_bytes(b"")
    assert message_of(tmp_path, None).startswith(f"{path}: cannot be read: ")
    write_shards(tmp_path, IMAGES, compression="zstd")
    assert "compressed by ZSTD, so none can be read alone" in message_of(tmp_path, None)


def write_shard(path, cells, labels):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"image": cells, "label": labels})
    parquet.write_table(table, written(path, b""))
    return path


def test_what_shards_must_hold(tmp_path):
    path = tmp_path / "train-0.parquet"
    a, b = ({"bytes": x, "path": f"{x.decode()}.JPEG"} for x in (b"a", b"b"))
    write_shard(path, [a, b, {"bytes": None, "path": "c.JPEG"}], [0, 1, 2])
    assert message_of(tmp_path, None) == f"{path}: cannot be read: a value is null"
    write_shard(path, [a, b], [0, -1])
    assert "labels that are no whole numbers from 0" in message_of(tmp_path, None)
    write_shard(path, [a, b], [0, 2])
    assert message_of(path, None) == (
        f"{path}: no image has label 1, but one has 2 (are all shards there?)"
    )
    write_shard(path, ["a", "b"], [0, 1])
    assert "has the columns image, label (expected image.bytes" in message_of(
        path, None
    )
    names = ["n01443537_1.JPEG", "n01440764_1.JPEG"]
    write_shard(path, [{"bytes": b"", "path": name} for name in names], [0, 1])
    assert "labels are not in the order of the WordNet ids" in message_of(path, None)
    write_shard(path, [], [])
    assert message_of(path, None).startswith(f"{path}: ")


def test_shards_of_other_data_sets_have_their_labels_as_names(tmp_path):
    cells = [{"bytes": x, "path": None} for x in (b"b", b"a", b"c")]
    path = write_shard(tmp_path / "x.parquet", cells, [1, 0, 1])
    dataset = open_dataset(path, None)
    assert dataset.class_names == ("0", "1")
    assert read_all(dataset.sources(range(3))) == [b"a", b"b", b"c"]
    assert str(dataset.sources([0])[0]) == f"{path}/0/x_00000001"
    assert open_dataset(path, None, ("x", "y", "z")).labels.tolist() == [0, 1, 1]
    assert "class 1 is not among the 1 classes" in message_of(path, None, ("x",))


def test_an_image_is_read_without_its_neighbours(tmp_path):
    """Reads at most a fragment before and one after it, not its whole row group."""
    dataset = open_training(tmp_path, "shards")
    for path, content in zip(dataset.sources(range(12)), IMAGES.values()):
        assert path.size <= len(content) + 2 * 2**16 + 100
    shard = tmp_path / "train-00001-of-00002.parquet"
    assert shard.stat().st_size > 3 * max(map(len, IMAGES.values()))


def test_damaged_shards_are_one_line(tmp_path):
    """Damaged pages give an error, or images with other pixels.

    The footer is left alone: pyarrow 26 may crash on a damaged one.
    """
    pytest.importorskip("pyarrow")
    write_shards(tmp_path, IMAGES)
    path = tmp_path / "train-00000-of-00002.parquet"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for _ in range(60):
        at = int(rng.choice([rng.integers(100), rng.integers(footer)]))
        path.write_bytes(whole[:at] + rng.bytes(3) + whole[at + 3 :])
        try:
            dataset = open_dataset(tmp_path, None)
        except DatasetError as error:
            assert str(error).startswith(f"{tmp_path}")
            assert "\n" not in str(error)
            continue
        assert dataset.num_images == 12


def test_shards_without_pyarrow(tmp_path, monkeypatch):
    path = written(tmp_path / "train-0.parquet", b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert message_of(tmp_path, None) == (
        f"{path}: needs pyarrow (pip install -e '.[parquet]')"
    )


def test_a_list_that_names_a_missing_image(tmp_path):
    images, path = listed_training(tmp_path)
    (images / "n01443537" / "n01443537_10.JPEG").unlink()
    hint = "(is this the list of these images?)"
    name = "n01443537/n01443537_10.JPEG"
    assert message_of(images, path) == f"{path}: {name} is not in {images} {hint}"
    path.write_text("n01440764/x/y.JPEG 0\nn01443537/a 1\n")
    assert "n01440764/x/y.JPEG is not in" in message_of(images, path)
    archive, path = listed_archive(tmp_path)
    path.write_text(path.read_text() + "n02119789/other.JPEG 2\n")
    assert message_of(archive, path) == (
        f"{path}: n02119789/other.JPEG is not in {archive} {hint}"
    )


def test_faults_of_kaggles_list(tmp_path):
    images, path = named_solution(tmp_path)
    path.write_text(path.read_text().replace("n02119789", "n09999999", 1))
    assert "class n09999999 is not among the 3 classes" in message_of(
        images, path, CLASSES
    )
    path.write_text("ImageId,PredictionString\nILSVRC2012_val_1\n")
    assert message_of(images, path, CLASSES) == (
        f"{path}, line 2: 'ILSVRC2012_val_1' (expected 'image,class ...')"
    )


def test_faults_of_the_development_kit(tmp_path, monkeypatch):
    images, path = named_ground_truth(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "scipy", None)
        assert message_of(images, path, CLASSES).startswith(
            f"{path}: needs scipy, for the meta.mat that says which class a number"
        )
    again = "(copy or download the development kit again)"
    path.write_text("3\n9\n")
    assert message_of(images, path, CLASSES) == (
        f"{path}: cannot be read with its meta.mat: 9 is missing {again}"
    )
    meta, whole = path.parent / "meta.mat", (path.parent / "meta.mat").read_bytes()
    for content in (whole[:300], whole[:100], b"", b"x" * 300):
        meta.write_bytes(content)
        assert message_of(images, path, CLASSES).endswith(again)
    kit = tmp_path / "kit" / "ILSVRC2012_devkit_t12.tar.gz"
    for content in (kit.read_bytes()[:-50], b"", b"x" * 300):
        kit.write_bytes(content)
        assert message_of(images, kit, CLASSES).endswith(again)
    meta.unlink()
    assert "No such file or directory" in message_of(images, path, CLASSES)


def test_images_without_labels(tmp_path):
    write_files(tmp_path / "val", FLAT)
    archive = written(
        tmp_path / "a" / "ILSVRC2012_img_val.tar", tar_of([*FLAT.items()])
    )
    val = tmp_path / "val"
    for path in (val, archive):
        assert message_of(path, None, CLASSES) == (
            f"{path}: images without class folders, and no list of their labels (put "
            "LOC_val_solution.csv, Caffe's val.txt or ILSVRC2012_devkit_t12.tar.gz "
            "beside them, or name one as validation_list in [dataset] of config.txt)"
        )
        assert message_of(path, None) == (
            f"{path}: holds no class folders (expected one folder of images for each "
            "class, or a list of labels as training_list in [dataset] of config.txt)"
        )


def test_an_unknown_layout(tmp_path):
    (tmp_path / "notes.txt").touch()
    looked_for = (
        "holds no class folders, nor anything else that is known (looked for "
        "ILSVRC/Data/CLS-LOC, ILSVRC2012_img_train.tar, n01440764.tar ..., *.parquet, "
        "and images with a list, not for TFRecords; see [dataset] in config.txt)"
    )
    for path in (tmp_path, tmp_path / "notes.txt"):
        assert message_of(path, None) == f"{path}: {looked_for}"


def write_tar(path, *names):
    return written(path, tar_of([(name, name.encode()) for name in names]))


def test_archives_of_classes_may_have_any_names(tmp_path):
    """Classes and order are those of class folders with the same names."""
    for name in ("ship", "frog", "sea.horse"):
        write_tar(tmp_path / "tars" / f"{name}.tar", "2.png", f"{name}/1.png", "z/3")
        write_files(tmp_path / "folders" / name, dict.fromkeys(("1.png", "2.png"), b""))
        written(tmp_path / "folders" / name / "z" / "3", b"")
    # Neither the development kit nor the other split is a class.
    written(tmp_path / "tars" / "ILSVRC2012_devkit_t12.tar.gz", b"")
    written(tmp_path / "tars" / "ILSVRC2012_img_val.tar", b"")
    dataset = open_dataset(tmp_path / "tars", None)
    assert dataset.class_names == ("frog", "sea.horse", "ship")
    assert dataset.layout == "archives of one class each, in place"
    expected = open_dataset(tmp_path / "folders", None)
    assert dataset.fingerprint == expected.fingerprint
    assert read_all(dataset.sources([0, 1])) == [b"frog/1.png", b"2.png"]
    validation = tmp_path / "validation"
    write_tar(validation / "ship.tar", "7.png")
    assert open_dataset(validation, None, expected.class_names).labels.tolist() == [2]


def test_archives_that_are_no_class(tmp_path):
    write_tar(tmp_path / "n01440764.tar", "1.png")
    write_tar(tmp_path / "n01443537.tar", "2.png")
    copy = write_tar(tmp_path / "backup.tar", "x/3.png")
    dataset = open_dataset(tmp_path, None)
    assert dataset.class_names == CLASSES[:2]
    assert dataset.remarks == (
        f"files that are no images: 1 skipped; the first is {copy} (an archive "
        "that is no class)",
    )


def webdataset(images):
    """The files of shards, with each image's label in a file of its own."""
    return [
        (f"{name[10:].partition('.')[0]}.{end}", x)
        for name, content in shuffled(images)
        for end, x in (
            ("cls", str(CLASSES.index(name[:9])).encode()),
            ("json", b"{}"),
            ("JPEG", content),
        )
    ]


def write_shard_tars(folder, files, split="train"):
    half = len(files) // 6 * 3
    for number, part in enumerate((files[:half], files[half:])):
        written(folder / f"imagenet-{split}-{number:04}.tar", tar_of(part))
    return folder


def test_labels_of_webdataset_are_read_and_checked(tmp_path):
    dataset = open_dataset(write_shard_tars(tmp_path, webdataset(IMAGES)), None)
    assert dataset.layout == "WebDataset's shards, in place"
    validation = write_shard_tars(tmp_path / "val", webdataset(VALIDATION), "val")
    # The names of validation images do not hold the class.
    labels = [CLASSES.index(name[:9]) for name in IMAGES]
    assert open_dataset(validation, None, CLASSES).labels.tolist() == labels
    files = webdataset(IMAGES)
    key = files[0][0].removesuffix(".cls")
    missing = write_shard_tars(tmp_path / "missing", files[1:])
    assert message_of(missing, None) == (
        f"{missing}: {key}.JPEG has no label (expected a file {key}.cls in the same "
        "archive)"
    )
    path = write_shard_tars(tmp_path / "bad", [(f"{key}.cls", b"tench"), *files[1:]])
    assert message_of(path, None) == (
        f"{path}/imagenet-train-0000.tar: {key}.cls holds b'tench' (expected a label, "
        "a whole number from 0)"
    )


def test_numbered_archives_of_flat_files_are_classes(tmp_path):
    for name in ("class_0", "class_1"):
        write_tar(tmp_path / f"{name}.tar", "1.png", f"{name}/2.png")
    assert open_dataset(tmp_path, None).class_names == ("class_0", "class_1")
    write_tar(tmp_path / "class_1.tar", "1.png", "1.cls")
    assert message_of(tmp_path, None) == (
        f"{tmp_path}/class_1.tar: holds 1.cls, a label: it is a shard of WebDataset, "
        "not a class (unpack all of them into class folders, or number the shards at "
        "the end of their names: train-0000.tar)"
    )


@pytest.mark.parametrize("name", ["pets.tar", "train.tar", "images.tar"])
def test_a_single_archive_in_a_folder_must_be_named(tmp_path, name):
    path = write_tar(tmp_path / name, "a/1.png", "b/2.png")
    assert message_of(tmp_path, None) == (
        f"{path}: is no class (if all images are in it, name it as training_images in "
        "[dataset] of config.txt)"
    )
    assert open_dataset(path, None).class_names == ("a", "b")


def test_compressed_archives_must_be_decompressed(tmp_path):
    path = written(tmp_path / "ship.tar.gz", b"\x1f\x8b")
    for where in (tmp_path, path):
        assert message_of(where, None) == (
            f"{path}: is compressed, and none of its images can be read alone "
            "(decompress it to a .tar)"
        )


@pytest.mark.parametrize(
    ("folder", "tar"), [("cat", "dog"), ("n01440764", "n01443537"), ("n01440764", "x")]
)
def test_class_folders_beside_archives_are_refused(tmp_path, folder, tar):
    """After an interrupted unpacking, the remaining classes would be lost."""
    write_files(tmp_path, {f"{folder}/1.png": b"", f"{folder}b/2.png": b""})
    write_tar(tmp_path / f"{tar}.tar", "1.png")
    assert message_of(tmp_path, None) == (
        f"{tmp_path}: holds class folders, such as {folder}, and archives, such as "
        f"{tar}.tar (unpack each archive into a folder of its name, or move the "
        "archives elsewhere)"
    )


def test_files_in_archives_that_are_no_images(tmp_path):
    path = write_tar(
        tmp_path / "a.tar", "readme.txt", "a/1.JPEG", "a/notes.txt", "b/2", "b/._2"
    )
    dataset = open_dataset(path, None)
    assert list(dataset.names) == ["a/1.JPEG", "b/2"]
    assert dataset.remarks == (
        f"files that are no images: 3 skipped; the first is {path}/readme.txt (a text)",
    )
    write_tar(path, "a/1.JPEG", "b/2", "c/notes.txt")
    assert message_of(path, None) == (
        f"{path}: class c without images (add some, or remove it)"
    )
    for name in ("ship", "frog"):
        write_tar(tmp_path / "tars" / f"{name}.tar", "1.JPEG")
    write_tar(tmp_path / "tars" / "cat.tar", "notes.txt")
    assert message_of(tmp_path / "tars", None) == (
        f"{tmp_path / 'tars'}: class cat without images (add some, or remove it)"
    )
    write_tar(path, "notes.txt")
    assert message_of(path, None) == f"{path}: holds no images"


def test_macs_leftovers_beside_inner_archives(tmp_path):
    inner = [(f"{name}.tar", tar_of([("1.JPEG", b"")])) for name in CLASSES]
    path = written(
        tmp_path / "ILSVRC2012_img_train.tar",
        tar_of([("._n01440764.tar", b"\0\5\x16\7"), *inner]),
    )
    assert open_dataset(path, None).class_names == CLASSES


def test_class_folders_come_before_what_lies_beside_them(tmp_path):
    write_files(tmp_path / "wordnet", IMAGES)
    written(tmp_path / "wordnet" / "ILSVRC2012_img_train.tar", b"")
    written(tmp_path / "wordnet" / "train-0.parquet", b"")
    write_files(tmp_path / "pets", {"cats/1.png": b"", "dogs/1.png": b""})
    written(tmp_path / "pets" / "train.parquet", b"")
    written(tmp_path / "pets" / "images.tar", b"")
    assert open_dataset(tmp_path / "wordnet", None).layout == "class folders"
    assert open_dataset(tmp_path / "pets", None).class_names == ("cats", "dogs")


def test_an_archive_of_a_folder_of_class_folders(tmp_path):
    path = write_tar(
        tmp_path / "train.tar", "train/b/2", "train/a/x/1.JPEG", "train/notes.txt"
    )
    dataset = open_dataset(path, None)
    assert dataset.class_names == ("a", "b")
    assert list(dataset.names) == ["train/a/x/1.JPEG", "train/b/2"]
    assert dataset.labels.tolist() == [0, 1]
    assert open_dataset(path, None, ("0", "a", "b")).labels.tolist() == [1, 2]
    write_tar(path, "train/b/2", "train/a/1.JPEG", "train/c/notes.txt")
    assert message_of(path, None) == (
        f"{path}: class c without images (add some, or remove it)"
    )


def test_unknown_class_in_an_archive(tmp_path):
    path = write_official_archive(tmp_path, IMAGES)
    assert message_of(path, None, CLASSES[:2]) == (
        f"{path}: class n02119789 is not among the 2 classes of the training images"
    )


def test_flat_names_are_in_the_order_of_the_classes():
    assert list(flat_names(IMAGES).values()) == sorted(FLAT)


@pytest.mark.parametrize(
    "name", ["ILSVRC2012_img_train.tar", "n01440764.tar", "train-0.parquet", "list.txt"]
)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_archive_and_no_list(tmp_path, name, kind):
    """Opening a pipe would block until somebody writes into it."""
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    list_path = path if name == "list.txt" else None
    message = message_of(tmp_path, list_path)
    assert message == f"{path}: cannot be read: is not a regular file"


def test_a_kit_that_unpacks_to_gigabytes(tmp_path):
    kit = tmp_path / "ILSVRC2012_devkit_t12.tar.gz"
    kit.write_bytes(gzip.compress(bytes(2**26 + 1)))
    assert folders.message_of(read_devkit, kit) == (
        f"{kit}: cannot be read with its meta.mat: has 67,108,865 bytes, more than "
        "67,108,864 (copy or download the development kit again)"
    )
    truth = write_devkit(tmp_path / "kit", VALIDATION)
    packed = zlib.compress(bytes(2**26 + 1))
    meta = bytes(126) + b"IM" + struct.pack("<II", 15, len(packed)) + packed
    (truth.parent / "meta.mat").write_bytes(meta)
    message = folders.message_of(read_devkit, truth)
    assert "has 67,108,865 bytes, more than 67,108,864" in message


def test_a_list_with_a_name_that_is_too_long_for_a_file(tmp_path):
    write_files(tmp_path / "images", IMAGES)
    name = f"{'x' * 300}/1.JPEG"
    path = folders.list_file(tmp_path, f"{name} 0\n")
    assert message_of(tmp_path / "images", path) == (
        f"{path}: {name} is not in {tmp_path / 'images'} (is this the list of these "
        "images?)"
    )
