"""Proves that a file appears whole or not at all, whatever fails while it is written.

Nothing but a killed process leaves a temporary behind, and that one can be removed.
"""

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from resnet50.atomic_io import atomic_file, create_folder, remove_temporaries
from tests import recorded_disk
from tests.processes import python_process


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def raise_disk_full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("durable", [True, False])
def test_appears_at_the_end_of_the_block(tmp_path, durable):
    path = tmp_path / "file.txt"
    with atomic_file(path, durable=durable) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["file.txt"]


def test_replaces_at_once(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old and longer")
    with path.open("rb") as reader:
        with atomic_file(path) as file:
            file.write(b"new")
            file.flush()
            assert path.read_bytes() == b"old and longer"
        # A reader with the old file open still reads the old content.
        assert reader.read() == b"old and longer"
    assert path.read_bytes() == b"new"


def test_writes_to_a_name_as_long_as_allowed(tmp_path):
    path = tmp_path / ("n" * 255)
    with atomic_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [b"old", None])
def test_exception_in_the_block_leaves_all_as_it_was(tmp_path, old, error):
    path = tmp_path / "file.txt"
    if old is not None:
        path.write_bytes(old)
    before = names_in(tmp_path)
    with pytest.raises(error), atomic_file(path) as file:
        file.write(b"half")
        raise error
    assert names_in(tmp_path) == before
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize(
    ("owner", "name"), [(os, "fsync"), (Path, "replace")], ids=["fsync", "replace"]
)
def test_failing_call_leaves_all_as_it_was(tmp_path, monkeypatch, owner, name):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    monkeypatch.setattr(owner, name, raise_disk_full)
    with pytest.raises(OSError, match="No space left"), atomic_file(path) as file:
        file.write(b"new")
    assert names_in(tmp_path) == ["file.txt"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("num_bytes", [2_000, 200_000], ids=["at flush", "at write"])
def test_failing_write_leaves_all_as_it_was(tmp_path, num_bytes):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(OSError) as caught, atomic_file(path) as file:
            file.write(bytes(num_bytes))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert names_in(tmp_path) == ["file.txt"]
    assert path.read_bytes() == b"old"


def test_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "absent" / "file"):
        pass


def test_killed_writer_leaves_the_old_file_and_a_removable_temporary(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    program = """if True:
        import os, pathlib, signal, sys
        from resnet50.atomic_io import atomic_file
        with atomic_file(pathlib.Path(sys.argv[1])) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    with python_process(program, path) as writer:
        assert writer.wait() == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    remove_temporaries(tmp_path, ".npy")  # another writer's
    assert len(names_in(tmp_path)) == 2
    remove_temporaries(tmp_path, ".txt")
    assert names_in(tmp_path) == ["file.txt"]


def test_only_temporaries_are_removed(tmp_path):
    others = [".hidden", "file.tmp", "images_0000_00000.npy", "writing-1.tmp"]
    for name in others:
        (tmp_path / name).touch()
    remove_temporaries(tmp_path, ".npy")
    assert names_in(tmp_path) == sorted(others)


@pytest.mark.parametrize(
    "durable, whole, flushed",
    [
        (True, True, ["content", "name"]),
        (False, True, ["content"]),
        (False, False, []),
    ],
)
def test_what_reaches_the_disk_before_and_after_the_name(
    tmp_path, monkeypatch, durable, whole, flushed
):
    calls = recorded_disk.record(monkeypatch)
    with atomic_file(tmp_path / "file", durable=durable, whole=whole) as file:
        file.write(b"new")  # still in the file's buffer
    kinds = ["content" if name.startswith(".writing-") else name for _, name in calls]
    expected = [*flushed[:1], "file", *([tmp_path.name] if durable else [])]
    assert kinds == expected


def test_a_new_folder_and_its_new_parents_survive(tmp_path, monkeypatch):
    calls = recorded_disk.record(monkeypatch)
    for _ in range(2):
        create_folder(tmp_path / "new" / "run")
    assert calls == [("flush", "new"), ("flush", tmp_path.name)]
