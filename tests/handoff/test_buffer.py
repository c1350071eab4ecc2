"""Proves that a batch comes back bitwise or not at all.

Labels are committed first and deleted last. Half batches and temporaries do not count.
A damaged or foreign file is refused, and the message names it.
"""

import errno
import io
import resource
import sys

import numpy as np
import pytest

from resnet50.handoff import buffer as buffer_module
from resnet50.handoff.buffer import BatchBuffer, BatchFileError, BatchSpec, Rows
from resnet50.handoff.npy_file import save_array
from resnet50.handoff.progress import Position

POSITION = Position(3, 120)
SPEC = BatchSpec(batch_size=4, crop_size=8, dtype="float16", num_classes=5)


def make_arrays(dtype="float16"):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 8, 8, 3)).astype(dtype)
    return images, np.array([0, 4, 2, 2], np.int32)


@pytest.fixture
def buffer(tmp_path):
    return BatchBuffer(tmp_path)


@pytest.fixture
def written(buffer):
    """A buffer with one batch at POSITION."""
    buffer.write(POSITION, *make_arrays())
    return buffer


def message_of(buffer, spec=SPEC) -> str:
    with pytest.raises(BatchFileError) as caught:
        buffer.read(POSITION, spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_are_zero_padded_and_grow(buffer):
    assert buffer.images_path(POSITION).name == "images_0003_00120.npy"
    assert buffer.labels_path(POSITION).name == "labels_0003_00120.npy"
    long = Position(12_345, 1_234_567)
    assert buffer.images_path(long).name == "images_12345_1234567.npy"
    buffer.write(long, *make_arrays())
    assert buffer.ready() == {long}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_round_trip_is_bitwise(buffer, dtype):
    images, labels = make_arrays(dtype)
    limits = np.finfo(dtype)
    images.flat[:4] = limits.max, limits.min, limits.smallest_subnormal, -0.0
    buffer.write(POSITION, images, labels)
    read_images, read_labels, _ = buffer.read(POSITION, SPEC._replace(dtype=dtype))
    assert (read_images.dtype, read_labels.dtype) == (dtype, "int32")
    assert read_images.tobytes() == images.tobytes()
    assert read_labels.tobytes() == labels.tobytes()


def test_files_are_plain_npy_of_the_promised_size(written):
    path = written.images_path(POSITION)
    np.testing.assert_array_equal(np.load(path), make_arrays()[0])
    files = (path, written.labels_path(POSITION))
    assert sum(file.stat().st_size for file in files) == SPEC.batch_bytes
    assert SPEC.batch_bytes == 4 * 8 * 8 * 3 * 2 + 4 * 4 + 2 * (128 + 8)


def test_size_of_a_batch_as_shipped():
    spec = BatchSpec(batch_size=64, crop_size=224, dtype="float16", num_classes=1000)
    assert round(spec.batch_bytes / 1e6, 1) == 19.3


def test_labels_are_committed_before_images(buffer, monkeypatch):
    """The second file's write fails half-way, as on a full disk."""
    saved = []

    def save_once(file, array):
        saved.append(array)
        if len(saved) == 2:
            file.write(b"\x93NUMPY half")
            raise OSError(28, "No space left on device")
        save_array(file, array)

    monkeypatch.setattr(buffer_module, "save_array", save_once)
    images, labels = make_arrays()
    with pytest.raises(OSError, match="No space left"):
        buffer.write(POSITION, images, labels)
    assert saved[0] is labels
    assert saved[1] is images
    assert [path.name for path in buffer.folder.iterdir()] == ["labels_0003_00120.npy"]
    assert buffer.ready() == set()
    assert set(buffer.files()) == {POSITION}
    with pytest.raises(FileNotFoundError):
        buffer.read(POSITION, SPEC)


def test_a_file_that_the_disk_refuses_half_way_has_its_reason(buffer):
    """numpy.save has only "196608 requested and 99744 written" to say about it."""
    images = np.zeros((64, 32, 32, 3), np.uint8)
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            buffer.write(POSITION, images, np.zeros(64, np.int32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert buffer.ready() == set()


def test_images_are_deleted_before_labels(written, monkeypatch):
    deleted = []
    unlink = type(written.folder).unlink

    def note(path, missing_ok=False):
        deleted.append(path.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(type(written.folder), "unlink", note)
    written.delete(POSITION)
    assert deleted == ["images_0003_00120.npy", "labels_0003_00120.npy"]
    assert list(written.folder.iterdir()) == []


def test_deleting_what_is_not_there_is_no_error(buffer):
    buffer.delete(POSITION)
    assert buffer.clear() == 0


@pytest.mark.parametrize("absent", ["images", "labels"])
def test_half_a_batch_is_not_ready(written, absent):
    getattr(written, f"{absent}_path")(POSITION).unlink()
    assert written.ready() == set()
    assert set(written.files()) == {POSITION}
    with pytest.raises(FileNotFoundError):
        written.read(POSITION, SPEC)
    written.delete(POSITION)
    assert written.files() == {}


def test_a_listing_costs_few_calls_for_each_file(buffer):
    """The preprocessor lists the folder after each batch: up to 30,000 files."""
    for index in range(100):
        buffer.images_path(Position(0, index)).touch()
        buffer.labels_path(Position(0, index)).touch()
    num_calls = 0

    def count(frame, event, argument):
        nonlocal num_calls
        num_calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        files = buffer.files()
    finally:
        sys.setprofile(None)
    assert files == {Position(0, index): {"images", "labels"} for index in range(100)}
    assert num_calls < 200 * 5


def test_clear_deletes_batches_and_halves_only(written):
    written.write(Position(0, 0), *make_arrays())
    written.images_path(Position(0, 0)).unlink()
    for name in ("training_progress.txt", "manifest.json", "train.lock"):
        (written.folder / name).touch()
    assert written.clear() == 2
    assert sorted(path.name for path in written.folder.iterdir()) == [
        "manifest.json",
        "train.lock",
        "training_progress.txt",
    ]


@pytest.mark.parametrize(
    "name",
    [
        ".writing-0123456789abcdef.tmp",
        "images_0003_00121.npy.tmp",
        "images_0003_00121.npy.tmp.npy",
        ".images_0003_00121.npy",
        "images_3_121.npy",
        "images_0003_00121.NPY",
        "images_-003_00121.npy",
        "copy of images_0003_00121.npy",
        "images_0003_00121.npy\n",
        "images_٠٠٠٣_٠٠١٢١.npy",
    ],
)
def test_other_names_are_never_listed(written, name):
    for kind in ("images", "labels"):
        (written.folder / name.replace("images", kind)).touch()
    assert written.ready() == set(written.files()) == {POSITION}


# Ways to damage the content of a batch file.
DAMAGES = {
    "empty": lambda content: b"",
    "magic only": lambda content: content[:6],
    "half a header": lambda content: content[:50],
    "header only": lambda content: content[:128],
    "one byte short": lambda content: content[:-1],
    "one byte long": lambda content: content + b"x",
    "format 2.0": lambda content: content[:6] + b"\2" + content[7:],
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"not a batch",
    "unclosed header": lambda content: content.replace(b"}", b" "),
    "long header": lambda content: content[:8] + b"\xff\xff" + bytes(100_000),
    "negative size": lambda content: content.replace(b"(4,", b"(-4,").replace(
        b"  \n", b" \n"
    ),
    "enormous size": lambda content: content.replace(
        b"(4,", b"(4" + b"0" * 20 + b","
    ).replace(b" " * 20 + b"\n", b"\n"),
}


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_refused_with_its_path(written, kind, damage):
    path = getattr(written, f"{kind}_path")(POSITION)
    content = path.read_bytes()
    damaged = DAMAGES[damage](content)
    assert damaged != content
    path.write_bytes(damaged)
    assert message_of(written).startswith(f"{path}: ")


@pytest.mark.parametrize("seed", range(4))
def test_flipped_header_bytes_never_raise_anything_else(written, seed):
    path = written.images_path(POSITION)
    content = path.read_bytes()
    images, _ = make_arrays()
    rng = np.random.default_rng(seed)
    num_refused = 0
    for _ in range(100):
        damaged = bytearray(content)
        damaged[rng.integers(0, 128)] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            found, *_ = written.read(POSITION, SPEC)
        except BatchFileError as error:
            assert str(error).startswith(f"{path}: ")
            num_refused += 1
        else:
            assert found.tobytes() == images.tobytes()
    assert num_refused > 50


def test_pickle_and_archive_are_refused(written, tmp_path):
    path = written.images_path(POSITION)
    images, labels = make_arrays()

    pickled = io.BytesIO()
    np.save(pickled, images.astype(object), allow_pickle=True)
    path.write_bytes(pickled.getvalue())
    assert message_of(written).startswith(f"{path}: object [4, 8, 8, 3], expected")

    np.save(path, np.asfortranarray(images))
    assert message_of(written).startswith(f"{path}: float16 [4, 8, 8, 3], expected")

    archive = io.BytesIO()
    np.savez(archive, images=images, labels=labels)
    path.write_bytes(archive.getvalue())
    assert message_of(written).startswith(f"{path}: is no batch file: ")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda images: images[:3], "float16 [3, 8, 8, 3]"),
        (lambda images: images[:, :7], "float16 [4, 7, 8, 3]"),
        (lambda images: images[..., 0], "float16 [4, 8, 8]"),
        (lambda images: images.astype("f4"), "float32 [4, 8, 8, 3]"),
        (lambda images: images.view("i2"), "int16 [4, 8, 8, 3]"),
        (lambda images: images.astype(">f2"), ">f2 [4, 8, 8, 3]"),
    ],
)
def test_images_of_wrong_shape_or_dtype_are_refused(buffer, change, found):
    images, labels = make_arrays()
    buffer.write(POSITION, change(images), labels)
    assert message_of(buffer) == (
        f"{buffer.images_path(POSITION)}: {found}, expected float16 [4, 8, 8, 3] (are "
        "--batch_size and config.txt the same in both terminals?)"
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda labels: labels[:3], "int32 [3]"),
        (lambda labels: labels[:, None], "int32 [4, 1]"),
        (lambda labels: labels.astype("i8"), "int64 [4]"),
        (lambda labels: labels.astype("f4"), "float32 [4]"),
    ],
)
def test_labels_of_wrong_shape_or_dtype_are_refused(buffer, change, found):
    images, labels = make_arrays()
    buffer.write(POSITION, images, change(labels))
    assert message_of(buffer) == (
        f"{buffer.labels_path(POSITION)}: {found}, expected int32 [4] (are "
        "--batch_size and config.txt the same in both terminals?)"
    )


@pytest.mark.parametrize(
    ("labels", "found"), [([0, 5, 2, 2], "0 to 5"), ([-1, 4, 2, 2], "-1 to 4")]
)
def test_label_out_of_range_is_refused(buffer, labels, found):
    buffer.write(POSITION, make_arrays()[0], np.array(labels, np.int32))
    assert message_of(buffer) == (
        f"{buffer.labels_path(POSITION)}: labels from {found}, expected 0 to 4 (is the "
        "dataset the same in both terminals?)"
    )


def test_extreme_labels_are_accepted(buffer):
    labels = np.array([0, 4, 4, 0], np.int32)
    buffer.write(POSITION, make_arrays()[0], labels)
    np.testing.assert_array_equal(buffer.read(POSITION, SPEC)[1], labels)


# In two different chunks.
@pytest.mark.parametrize("index", [0, 140_000, 199_999, 359_999])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_changed_byte_of_the_images_is_noticed(buffer, index, dtype):
    spec = BatchSpec(batch_size=6, crop_size=100, dtype=dtype, num_classes=5)
    images = np.full((6, 100, 100, 3), np.finfo(dtype).min, dtype)
    buffer.write(POSITION, images, np.zeros(6, np.int32))
    assert buffer.read(POSITION, spec)[0].tobytes() == images.tobytes()
    path = buffer.images_path(POSITION)
    content = bytearray(path.read_bytes())
    content[128 + index] ^= 1
    path.write_bytes(content)
    assert message_of(buffer, spec) == (
        f"{path}: its values do not have the checksum at its end (a broken disk or "
        "memory?)"
    )


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
@pytest.mark.parametrize("batch_size", [3, 4])  # A half of the last word, or all of it.
def test_every_flipped_bit_of_the_labels_is_noticed(buffer, dtype, batch_size):
    spec = SPEC._replace(batch_size=batch_size, dtype=dtype)
    arrays = [array[:batch_size] for array in uint8_batch()]
    if dtype == "float16":
        arrays = [arrays[0].astype(dtype), arrays[1]]
    buffer.write(POSITION, *arrays)
    path = buffer.labels_path(POSITION)
    content = path.read_bytes()
    num_accepted = 0
    for bit in range(8 * len(content)):
        rotten = bytearray(content)
        rotten[bit // 8] ^= 1 << bit % 8
        path.write_bytes(rotten)
        try:
            found = buffer.read(POSITION, spec)
        except BatchFileError:
            continue
        num_accepted += 1
        for array, expected in zip(found, arrays):
            assert array.tobytes() == expected.tobytes()
    assert num_accepted < 10  # of the header's spaces


def test_a_header_of_another_length_is_read_too(written):
    """Other writers may pad it differently."""
    path = written.images_path(POSITION)
    content = path.read_bytes()
    length = int.from_bytes(content[8:10], "little")
    longer = (length + 64).to_bytes(2, "little")
    header = content[10 : 10 + length - 1] + b" " * 64 + b"\n"
    path.write_bytes(content[:8] + longer + header + content[10 + length :])
    images, _, _ = written.read(POSITION, SPEC)
    np.testing.assert_array_equal(images, make_arrays()[0])


UINT8_SPEC = SPEC._replace(dtype="uint8")


def uint8_batch():
    rng = np.random.default_rng(3)
    size = (UINT8_SPEC.batch_size, UINT8_SPEC.crop_size, UINT8_SPEC.crop_size, 3)
    return (
        rng.integers(0, 256, size, np.uint8),
        rng.integers(0, UINT8_SPEC.num_classes, size[0], np.int32),
        rng.standard_normal((size[0], 3)).astype(np.float32),
    )


def test_uint8_batch_comes_back_with_its_shifts(buffer):
    arrays = uint8_batch()
    buffer.write(POSITION, *arrays)
    found = buffer.read(POSITION, UINT8_SPEC)
    for array, expected in zip(found, arrays, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    paths = (buffer.images_path(POSITION), buffer.labels_path(POSITION))
    assert sum(path.stat().st_size for path in paths) == UINT8_SPEC.batch_bytes
    assert buffer.ready() == {POSITION}


def test_uint8_images_without_shifts_are_refused(buffer):
    images, labels, _ = uint8_batch()
    buffer.write(POSITION, images, labels)
    with pytest.raises(BatchFileError, match=r"labels_.*int32"):
        buffer.read(POSITION, UINT8_SPEC)


def test_the_names_of_a_part_say_its_rows(tmp_path):
    """A buffer lists only its own rows, but clears all."""
    whole, first, second = (
        BatchBuffer(tmp_path, rows) for rows in (None, Rows(0, 2), Rows(2, 4))
    )
    position = Position(3, 42)
    for buffer in (whole, first, second):
        buffer.write(
            position, np.zeros((2, 4, 4, 3), np.float16), np.zeros(2, np.int32)
        )
    assert second.images_path(position).name == "images_0003_00042_rows_2_3.npy"
    assert second.labels_path(position).name == "labels_0003_00042_rows_2_3.npy"
    assert len(list(tmp_path.iterdir())) == 6
    first.delete(position)
    assert [len(buffer.ready()) for buffer in (whole, first, second)] == [1, 0, 1]
    assert first.clear() == 2
    assert list(tmp_path.iterdir()) == []
