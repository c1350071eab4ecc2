"""Proves that docs/protocol.md is enough to write either side of the hand-off."""

import json
import math
import re
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from resnet50.config.toml_file import read_config
from resnet50.dataset.images import (
    CLASS_ORDER,
    EPOCH_ORDER,
    balanced_order,
    epoch_order,
)
from resnet50.dataset.listing import open_training_set
from resnet50.handoff.buffer import LABELS, LABELS_AND_SHIFTS, BatchBuffer, BatchSpec
from resnet50.handoff.progress import Position
from resnet50.preprocessing.batches import (
    AUGMENTATION,
    Assignments,
    BatchSettings,
    make_batch,
)
from tests.docs.documents import python_blocks, read
from tests.images import make_class_folders
from tests.settings import PROJECT, write_small_config

PAGE = read("protocol.md")
READER, WRITER = python_blocks(PAGE)


def defined_in(block):
    """The names that a block of Python defines."""
    names = {}
    exec(compile(block, "docs/protocol.md", "exec"), names)
    return names


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_the_reader_is_a_trainer_to_the_preprocessor(tmp_path, dtype):
    make_class_folders(tmp_path / "images" / "train", 2, 7)
    config_path = write_small_config(tmp_path, train={"dtype": dtype})
    config = read_config(config_path)
    program = PROJECT / "runtime_preprocessing.py"
    with subprocess.Popen(
        [sys.executable, program, f"--config={config_path}"], stderr=subprocess.PIPE
    ) as preprocessor:

        def sleep(seconds):
            assert preprocessor.poll() is None  # The reader would wait for ever.
            time.sleep(seconds)

        folder = config.train.buffer_folder
        while not folder.exists():
            sleep(0.01)
        reader = defined_in(READER)
        reader["time"] = types.SimpleNamespace(sleep=sleep)
        found = list(reader["read_batches"](folder, 0, 2))
        _, output = preprocessor.communicate(timeout=60)
    assert preprocessor.returncode == 0, output.decode()

    dataset, recipe = (
        open_training_set(config.dataset, None),
        BatchSettings.from_config(config),
    )
    assignments = Assignments(dataset, recipe)
    positions = [Position(epoch, batch) for epoch in (0, 1) for batch in range(3)]
    assert len(found) == len(positions)
    for (images, labels, shifts), position in zip(found, positions):
        made = make_batch(recipe, assignments[position])
        np.testing.assert_array_equal(images, made.images)
        np.testing.assert_array_equal(labels, made.labels)
        assert (shifts is None) == (dtype == "float16")
        if shifts is not None:
            np.testing.assert_array_equal(shifts, made.shifts)


def test_the_writer_s_batches_are_read_by_the_trainer(tmp_path):
    images = np.arange(2 * 8 * 8 * 3, dtype=np.float16).reshape(2, 8, 8, 3)
    defined_in(WRITER)["write_batch"](tmp_path, 3, 17, images, np.array([1, 0]))
    stored = BatchBuffer(tmp_path).read(
        Position(3, 17), BatchSpec(2, 8, "float16", num_classes=2)
    )
    np.testing.assert_array_equal(stored.images, images)
    np.testing.assert_array_equal(stored.labels, [1, 0])
    assert {path.name for path in tmp_path.iterdir()} == {
        "images_0003_00017.npy",
        "labels_0003_00017.npy",
    }


def test_the_manifest_has_the_keys_of_a_real_one(tmp_path):
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    make_class_folders(tmp_path / "images" / "train", 2, 7)
    config = read_config(write_small_config(tmp_path))
    dataset = open_training_set(config.dataset, None)
    manifest = BatchSettings.from_config(config).manifest(dataset)
    assert list(json.loads(block)) == list(manifest)


def test_the_header_is_one_that_numpy_writes(tmp_path):
    dump = re.findall(r"^[0-9a-f]{8}: ((?:[0-9a-f]{4} ?){8})", PAGE, flags=re.MULTILINE)
    header = bytes.fromhex("".join(dump))
    BatchBuffer(tmp_path).write(
        Position(0, 0), np.zeros((16, 64, 64, 3), np.float16), np.zeros(16, np.int32)
    )
    file = tmp_path / "images_0000_00000.npy"
    assert file.read_bytes()[: len(header)] == header and len(header) == 128


def test_dtypes_and_streams_are_those_of_the_code():
    for dtype in (np.dtype("f2"), np.dtype("f4"), LABELS):
        assert f"`{dtype.str}` ({dtype.name})" in PAGE
    assert "`\\|u1` (uint8)" in PAGE and np.dtype("u1").str == "|u1"
    assert f"`{LABELS_AND_SHIFTS.descr}`" in PAGE
    assert f"{LABELS_AND_SHIFTS.itemsize} bytes per image" in PAGE
    assert f"default_rng([seed, {AUGMENTATION}, epoch, batch_index])" in PAGE
    assert f"default_rng([seed, {EPOCH_ORDER}, epoch]).permutation(num_images)" in PAGE
    order = np.random.default_rng([7, EPOCH_ORDER, 3]).permutation(50)
    np.testing.assert_array_equal(epoch_order(50, 7, 3), order)
    assert f"default_rng([seed, {CLASS_ORDER}, label, 0]).permutation(size)" in PAGE


@pytest.mark.parametrize("epoch", range(4))
def test_the_list_of_balanced_sampling_is_the_described_one(epoch):
    sizes, seed = [11, 2, 4], 7
    labels = np.repeat(np.arange(3, dtype=np.int32), sizes)
    listed = []
    for label, size in enumerate(sizes):
        had, has = (
            e * (17 // 3) + math.ceil((e * (17 % 3) - label) / 3)
            for e in (epoch, epoch + 1)
        )
        first, last = had // size, has // size
        sequence = [
            np.random.default_rng([seed, CLASS_ORDER, label, number]).permutation(size)
            if number in (first, last)
            else np.arange(size)
            for number in range(last + 1)
        ]
        listed.append(
            np.flatnonzero(labels == label)[np.concatenate(sequence)[had:has]]
        )
    expected = np.concatenate(listed)[epoch_order(17, seed, epoch)]
    np.testing.assert_array_equal(balanced_order(labels, seed, epoch), expected)
