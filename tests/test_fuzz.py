"""Proves, with random input, that only named errors come out and nothing hangs.

For everything that a person or another process may write, hypothesis makes arbitrary
content and sound content with a change. It must be accepted, or refused with an error
of one line. Anything else fails the test and shows the input.
"""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resnet50.config.settings import Config, ConfigError
from resnet50.config.toml_file import read_config
from resnet50.dataset.decoding import UndecodableImageError, decode_rgb
from resnet50.dataset.images import DatasetError
from resnet50.dataset.lists import read_list
from resnet50.dataset.sources import ImageSource
from resnet50.handoff.buffer import BatchBuffer, BatchFileError, BatchSpec
from resnet50.handoff.manifest import ManifestError, require_same
from resnet50.handoff.progress import (
    FILE_NAME,
    Position,
    ProgressError,
    read_progress,
)
from resnet50.reports.tables import TableError, best_epochs, record_evaluation
from tests.images import make_image_kinds
from tests.settings import PROJECT

SHIPPED = (PROJECT / "config.txt").read_bytes()
SPEC = BatchSpec(batch_size=2, crop_size=4, dtype="float16", num_classes=3)
POSITION = Position(0, 0)

fuzz = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,  # CI must find the same every day.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def batch_files():
    """The bytes of a sound batch's two files."""
    with tempfile.TemporaryDirectory() as name:
        buffer = BatchBuffer(Path(name))
        images = np.ones((2, 4, 4, 3), np.float16)
        buffer.write(POSITION, images, np.zeros(2, np.int32))
        return (
            buffer.images_path(POSITION).read_bytes(),
            buffer.labels_path(POSITION).read_bytes(),
        )


def image_files():
    """The bytes of an image of each mode and format."""
    with tempfile.TemporaryDirectory() as name:
        kinds = make_image_kinds(Path(name))
        return {path.name: path.read_bytes() for path in kinds.values()}


IMAGES, LABELS = batch_files()
IMAGE_FILES = image_files()


def changed(sound: bytes):
    """A strategy: the sound content with a piece replaced, or with its end cut off."""

    def splice(start, length, piece):
        start = start % (len(sound) + 1)
        return sound[:start] + piece + sound[start + length :]

    return st.builds(
        splice,
        st.integers(0, len(sound)),
        st.one_of(st.integers(0, 8), st.just(len(sound))),
        st.binary(max_size=12),
    )


def assert_one_line(error: BaseException):
    assert "\n" not in str(error)
    assert str(error)


TOML_VALUES = st.recursive(
    st.one_of(
        st.integers(),
        st.floats(),
        st.booleans(),
        st.text(st.characters(exclude_characters="'\n\r", exclude_categories=["C"])),
    ).map(lambda v: f"'{v}'" if isinstance(v, str) else str(v).lower()),
    lambda inner: st.lists(inner, max_size=4).map(lambda v: f"[{', '.join(v)}]"),
    max_leaves=5,
)
KEY_LINES = [
    index
    for index, line in enumerate(SHIPPED.decode().splitlines())
    if " = " in line and not line.startswith("#")
]


def config_with_a_value(index, value):
    lines = SHIPPED.decode().splitlines()
    lines[index] = f"{lines[index].split(' = ')[0]} = {value}"
    return "\n".join(lines).encode()


@fuzz
@given(
    st.one_of(
        st.binary(max_size=200),
        changed(SHIPPED),
        st.builds(config_with_a_value, st.sampled_from(KEY_LINES), TOML_VALUES),
    )
)
def test_config(tmp_path, content):
    path = tmp_path / "config.txt"
    path.write_bytes(content)
    try:
        assert isinstance(read_config(path), Config)
    except ConfigError as error:
        assert_one_line(error)


@fuzz
@given(
    st.one_of(
        st.binary(max_size=60),
        changed(b"3\n17\n"),
        st.tuples(st.integers(), st.integers()).map(
            lambda p: f"{p[0]}\n{p[1]}".encode()
        ),
    )
)
@example(b"9" * 5000)
@example("\u0663\n\u0661\u0667\n".encode())  # Digits, but not of ASCII.
def test_progress(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    try:
        assert 0 <= read_progress(tmp_path, 20, 600) <= 600
    except ProgressError as error:
        assert_one_line(error)


@fuzz
@given(st.one_of(st.binary(max_size=200), changed(b"a/1.JPEG 0\nb/2 x.JPEG 1\n" * 3)))
def test_list_file(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    try:
        dataset = read_list(path, tmp_path)
    except DatasetError as error:
        assert_one_line(error)
        return
    assert set(dataset.labels) == set(range(dataset.num_classes))
    for source in dataset.sources(range(dataset.num_images)):
        assert Path(str(source)).is_relative_to(tmp_path)


@fuzz
@given(st.one_of(st.binary(max_size=300), changed(IMAGES)), changed(LABELS))
@example(IMAGES, LABELS)
@example(IMAGES.replace(b"}", b" "), LABELS)
@example(IMAGES, LABELS.replace(b"(2,)", b"(2**62,)"))
def test_batch_files(tmp_path, images, labels):
    buffer = BatchBuffer(tmp_path)
    buffer.images_path(POSITION).write_bytes(images)
    buffer.labels_path(POSITION).write_bytes(labels)
    try:
        found_images, found_labels, _ = buffer.read(POSITION, SPEC)
    except BatchFileError as error:
        assert_one_line(error)
        return
    assert (found_images.shape, found_images.dtype) == ((2, 4, 4, 3), np.float16)
    assert np.isfinite(found_images).all()
    assert (found_labels.shape, found_labels.dtype) == ((2,), np.int32)
    assert 0 <= found_labels.min() <= found_labels.max() < 3


@fuzz
@given(st.one_of(st.binary(max_size=100), changed(b'{"seed": 0, "batch_size": 64}')))
@example(b"[" * 10_000)
def test_manifest(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    try:
        require_same(tmp_path, {"seed": 0, "batch_size": 64})
    except ManifestError as error:
        assert_one_line(error)


@fuzz
@given(changed(b"epoch,crops,top1\n0,1,0.5\n1,10,0.25\n"))
def test_evaluations(tmp_path, content):
    path = tmp_path / "evaluation.csv"
    path.write_bytes(content)
    try:
        assert all(isinstance(epoch, int) for epoch in best_epochs(path))
        record_evaluation(path, {"epoch": 7, "crops": 99, "top1": "0"})
        assert 7 in best_epochs(path)
    except TableError as error:
        assert_one_line(error)


@pytest.mark.parametrize("name", sorted(IMAGE_FILES))
@settings(fuzz, max_examples=40)
@given(data=st.data())
def test_image_files(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data.draw(changed(IMAGE_FILES[name])))
    try:
        assert decode_rgb(ImageSource(str(path))).mode == "RGB"
    except UndecodableImageError as error:
        assert_one_line(error)
