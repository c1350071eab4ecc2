"""Proves that a difference in any module is a difference between two hosts."""

from pathlib import Path

import pytest

import resnet50
from resnet50.dataset.listing import open_dataset
from resnet50.dataset.remote import store
from resnet50.dataset.remote.members import RemotePart
from resnet50.dataset.sources import ImageSource
from resnet50.preprocessing.dask.inspection import (
    code_digest,
    complaint_about,
    inspect,
    worker_versions,
)
from tests.images import make_class_folders

pytest.importorskip("distributed")

MODULES = {"a.py": b"1", "room/b.py": b"2", "room/deep/c.py": b"3"}


def digest_of(folder, modules):
    for name, content in modules.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return code_digest(folder)


def test_any_change_of_a_module_changes_the_digest(tmp_path):
    variants = [
        MODULES,
        *({**MODULES, name: b"x"} for name in MODULES),
        {**MODULES, "room/deep/new.py": b""},
        {"a.py": b"1", "room/b.py": b"2", "room/deep/d.py": b"3"},  # renamed
        {"a.py": b"1", "room/b.py": b"2", "room/other/c.py": b"3"},  # another room
        {"a.py": b"1room/b.py2", "room/deep/c.py": b"3"},
    ]
    digests = [digest_of(tmp_path / str(i), v) for i, v in enumerate(variants)]
    assert len(set(digests)) == len(variants)
    assert digest_of(tmp_path / "copy", MODULES) == digests[0]
    (tmp_path / "copy" / "room" / "notes.txt").touch()
    assert code_digest(tmp_path / "copy") == digests[0]


def test_all_of_the_package_is_compared():
    package = Path(resnet50.__file__).parent
    assert worker_versions()["resnet50_code"] == code_digest(package)


def test_a_worker_that_cannot_reach_the_server_with_the_images(monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", store.Patience(pauses=()))
    part = RemotePart(header=0, version="", cache=None)
    image = ImageSource("http://127.0.0.1:9/a.tar", "x.png", 512, 9, remote=part)
    assert inspect(None, [image]).complaint == (
        "cannot read http://127.0.0.1:9/a.tar/x.png (images need the same path there)"
    )


def test_a_host_with_only_some_of_the_images(tmp_path):
    """It would replace the others, and its batches would have other bytes."""
    paths = make_class_folders(tmp_path / "images", 2, 2)
    images = open_dataset(tmp_path / "images", None).sources(range(4))
    found = inspect(None, images)
    assert complaint_about(found, None, images) == ""
    there = found._replace(digests=[*found.digests[:3], ""])
    assert complaint_about(there, None, images) == (
        f"cannot read {images[3]} (images need the same path there)"
    )
    paths[3].unlink()  # Unreadable here, too: nobody's fault.
    assert complaint_about(there, None, images) == ""
    assert complaint_about(found, None, images) == ""
