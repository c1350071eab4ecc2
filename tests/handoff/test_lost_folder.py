"""Proves that each side restores its own files in a folder that was deleted.

And that it says once what was missing.
"""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.locks import AlreadyRunningError, exclusive_role
from resnet50.handoff.lost_folder import PreprocessorFiles, TrainerFiles
from resnet50.handoff.manifest import adopt_buffer, read_manifest, write_manifest
from resnet50.handoff.progress import FILE_NAME, Position, write_progress
from tests.doubles import RecordingObserver

MANIFEST = {"seed": 0}
HERE = Position(3, 17)


@pytest.fixture
def folder(tmp_path):
    """A buffer folder inside a folder that represents its disk."""
    folder = tmp_path / "disk" / "buffer"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def observer():
    return RecordingObserver()


@pytest.fixture
def said(observer):
    return observer.lines


@pytest.fixture
def preprocessor(folder, observer):
    buffer = BatchBuffer(folder)
    with exclusive_role(folder, locks.PREPROCESSOR) as role:
        adopt_buffer(buffer, MANIFEST, observer.notify)
        yield PreprocessorFiles(role, buffer, MANIFEST, observer)


@pytest.fixture
def trainer(folder, observer):
    with exclusive_role(folder, locks.TRAINER) as role:
        write_progress(folder, HERE)
        yield TrainerFiles(role, observer, writes_progress=True)


def progress(folder):
    return (folder / FILE_NAME).read_text()


def test_nothing_is_said_or_done_if_nothing_is_missing(
    folder, preprocessor, trainer, said
):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) == 4
    assert preprocessor.missing() is None
    assert not preprocessor.restore()
    trainer.restore(HERE)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert said == []


def test_both_come_back_into_a_folder_that_was_deleted(
    folder, preprocessor, trainer, said
):
    shutil.rmtree(folder)
    for _ in range(3):
        trainer.restore(HERE)
    assert not folder.exists()  # The preprocessor has to create it.
    assert preprocessor.missing() == folder
    assert preprocessor.restore()
    assert read_manifest(folder) == MANIFEST
    for _ in range(3):
        trainer.restore(HERE)
        assert not preprocessor.restore()
    assert progress(folder) == "3\n17\n"
    assert locks.is_alive(folder, locks.PREPROCESSOR)
    assert locks.is_alive(folder, locks.TRAINER)
    assert said == [
        f"{folder}: is missing; waiting for it",
        f"{folder}: was deleted; created again",
        f"{folder}: is there again",
    ]


def test_a_trainer_comes_back_into_a_folder_that_somebody_made(folder, trainer, said):
    shutil.rmtree(folder)
    folder.mkdir()
    trainer.restore(HERE)
    assert progress(folder) == "3\n17\n"
    assert locks.is_alive(folder, locks.TRAINER)
    assert said == [f"{folder}: was deleted; the training continues"]


def test_a_trainer_waits_for_its_disk(folder, trainer, said):
    folder.parent.rename(folder.parent.with_name("unmounted"))
    trainer.restore(HERE)
    folder.parent.with_name("unmounted").rename(folder.parent)
    trainer.restore(HERE)
    assert said == [
        f"{folder}: is missing, and so is the folder above it (is its disk mounted?); "
        "waiting for it",
        f"{folder}: is there again",
    ]


@pytest.mark.parametrize("content", [None, "", "0\n0\n", "garbage"], ids=repr)
def test_the_progress_of_a_waiting_trainer_is_corrected(folder, trainer, said, content):
    """It makes no step that would write it, and waits for the batch of its position."""
    (folder / FILE_NAME).unlink()
    if content is not None:
        (folder / FILE_NAME).write_text(content)
    trainer.restore(HERE)
    assert progress(folder) == "3\n17\n"
    assert said == []


def test_deleted_lock_files_are_named(folder, preprocessor, trainer, said):
    images = np.zeros((1, 2, 2, 3), np.float16)
    BatchBuffer(folder).write(HERE, images, np.zeros(1, np.int32))
    for name in "train.lock", "runtime_preprocessing.lock":
        (folder / name).unlink()
    trainer.restore(HERE)
    assert preprocessor.restore()
    assert said == [
        f"{folder / 'train.lock'}: was deleted; the training continues",
        f"{folder / 'runtime_preprocessing.lock'}: was deleted; created again",
    ]
    assert BatchBuffer(folder).ready() == {HERE}


def test_batches_whose_manifest_was_deleted_are_made_again(folder, preprocessor, said):
    images = np.zeros((1, 2, 2, 3), np.float16)
    BatchBuffer(folder).write(HERE, images, np.zeros(1, np.int32))
    writing = folder / ".writing-by-a-living-worker.npy.tmp"
    writing.touch()
    (folder / "manifest.json").unlink()
    assert preprocessor.restore()
    assert said == [f"{folder / 'manifest.json'}: was deleted; created again"]
    assert BatchBuffer(folder).files() == {}
    assert writing.exists()


def test_a_disk_that_fails_is_no_deletion(preprocessor, trainer, said, monkeypatch):
    """Whoever reads or writes a file there reports it."""

    def fail(path, **keywords):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(Path, "stat", fail)
    assert preprocessor.missing() is None
    assert not preprocessor.restore()
    trainer.restore(HERE)
    assert said == []


def test_a_folder_that_another_process_has_taken_is_left_to_it(
    folder, preprocessor, trainer, said
):
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    write_manifest(folder, {"seed": 1})
    with (
        exclusive_role(folder, locks.PREPROCESSOR),
        exclusive_role(folder, locks.TRAINER),
    ):
        with pytest.raises(AlreadyRunningError):
            preprocessor.restore()
        with pytest.raises(AlreadyRunningError):
            trainer.restore(HERE)
    assert read_manifest(folder) == {"seed": 1}
    assert not (folder / FILE_NAME).exists()
    assert said == []


def test_a_host_that_is_not_the_chief_restores_nothing(folder, observer, said):
    TrainerFiles(None, observer, writes_progress=False).restore(HERE)
    assert list(folder.iterdir()) == []
    assert said == []
