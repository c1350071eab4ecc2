"""Proves that a role has one living owner, and that a killed one leaves nothing behind.

Polling disturbs nobody. If its lock file is deleted, an owner takes its role again, but
not if another process has it or the folder is on another disk.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import signal
import socket

import pytest

from resnet50.handoff import locks
from resnet50.handoff.locks import (
    PREPROCESSOR,
    TRAINER,
    AlreadyRunningError,
    FolderLostError,
    LivenessPoll,
    LockError,
    exclusive_role,
    is_alive,
    owner,
)
from tests.processes import python_process

OWNER = """if True:
    import pathlib, sys
    from resnet50.handoff.locks import exclusive_role
    with exclusive_role(pathlib.Path(sys.argv[1]), sys.argv[2]):
        print("held")
        sys.stdin.read()
    print("released")
    sys.stdin.read()
"""


def test_second_process_is_refused_with_the_first_ones_id(tmp_path):
    with python_process(OWNER, tmp_path, PREPROCESSOR) as first:
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(AlreadyRunningError) as caught,
            exclusive_role(tmp_path, PREPROCESSOR),
        ):
            pass
        assert str(caught.value) == (
            f"{tmp_path}: runtime_preprocessing.py already runs here, process "
            f"{first.pid} (stop it, or give this one a folder of its own)"
        )
        # The refusal has not broken the first one's lock.
        assert is_alive(tmp_path, PREPROCESSOR)
        assert owner(tmp_path, PREPROCESSOR) == str(first.pid)


def test_an_owner_on_another_host_is_called_with_its_host(tmp_path):
    with exclusive_role(tmp_path, TRAINER) as role:
        ours = role.path.read_text()
        assert ours == f"{os.getpid()}\n{socket.gethostname()}\n"
        assert owner(tmp_path, TRAINER) == str(os.getpid())
        role.path.write_text(ours.replace(socket.gethostname(), "other.host"))
        assert owner(tmp_path, TRAINER) == f"{os.getpid()} on other.host"


def test_roles_and_folders_are_independent(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with python_process(OWNER, tmp_path, PREPROCESSOR) as first:
        assert first.stdout.readline() == "held\n"
        assert not is_alive(tmp_path, TRAINER)
        with exclusive_role(tmp_path, TRAINER), exclusive_role(other, PREPROCESSOR):
            assert is_alive(tmp_path, TRAINER)
            assert is_alive(other, PREPROCESSOR)


def test_killed_owner_releases(tmp_path):
    with python_process(OWNER, tmp_path, TRAINER) as first:
        assert first.stdout.readline() == "held\n"
        assert is_alive(tmp_path, TRAINER)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert not is_alive(tmp_path, TRAINER)
        with exclusive_role(tmp_path, TRAINER):
            assert owner(tmp_path, TRAINER) == str(os.getpid())


def test_end_of_the_block_releases_while_the_process_lives(tmp_path):
    with exclusive_role(tmp_path, TRAINER):
        assert is_alive(tmp_path, TRAINER)
    assert not is_alive(tmp_path, TRAINER)
    with pytest.raises(ValueError, match="inside"), exclusive_role(tmp_path, TRAINER):
        raise ValueError("inside")
    assert not is_alive(tmp_path, TRAINER)


def test_polling_creates_nothing_and_disturbs_nobody(tmp_path):
    assert not is_alive(tmp_path, TRAINER)
    assert owner(tmp_path, TRAINER) == "unknown"
    assert list(tmp_path.iterdir()) == []
    with exclusive_role(tmp_path, TRAINER):
        assert all(is_alive(tmp_path, TRAINER) for _ in range(100))
        with pytest.raises(AlreadyRunningError), exclusive_role(tmp_path, TRAINER):
            pass


def test_a_poll_of_the_lock_delays_an_owner_but_does_not_refuse_it(
    tmp_path, monkeypatch
):
    (tmp_path / f"{TRAINER}.lock").touch()
    with (tmp_path / f"{TRAINER}.lock").open("r") as poll:
        fcntl.flock(poll, fcntl.LOCK_SH)
        # The poll ends while the owner pauses before it tries again.
        monkeypatch.setattr(
            locks.time, "sleep", lambda _: fcntl.flock(poll, fcntl.LOCK_UN)
        )
        with exclusive_role(tmp_path, TRAINER):
            assert is_alive(tmp_path, TRAINER)


def test_two_polls_at_once_do_not_take_each_other_for_an_owner(tmp_path):
    (tmp_path / f"{TRAINER}.lock").touch()
    with (tmp_path / f"{TRAINER}.lock").open("r") as poll:
        fcntl.flock(poll, fcntl.LOCK_SH)
        assert not is_alive(tmp_path, TRAINER)


def test_process_id_of_a_longer_lived_file_is_replaced(tmp_path):
    (tmp_path / f"{TRAINER}.lock").write_text("123456789012345\nrubbish\n")
    with exclusive_role(tmp_path, TRAINER):
        assert owner(tmp_path, TRAINER) == str(os.getpid())
    (tmp_path / f"{TRAINER}.lock").write_bytes(b"\xff\xfe")
    assert owner(tmp_path, TRAINER) == "unknown"


@pytest.fixture
def role(tmp_path):
    """The trainer's role, in a folder inside a folder."""
    folder = tmp_path / "disk" / "buffer"
    folder.mkdir(parents=True)
    with exclusive_role(folder, TRAINER) as role:
        yield role


def test_a_role_whose_file_is_there_is_not_taken_again(role):
    role.path.write_text("edited by hand")
    assert role.is_held()
    assert not role.take_again(make_folder=True)
    assert role.path.read_text() == "edited by hand"


def test_a_disk_that_fails_for_a_moment_does_not_cost_the_role(role, monkeypatch):
    """The owner must not be refused because of its own lock."""
    stat, errors = pathlib.Path.stat, [OSError(errno.EIO, os.strerror(errno.EIO))]

    def fail_once(path, **keywords):
        if errors:
            raise errors.pop()
        return stat(path, **keywords)

    monkeypatch.setattr(pathlib.Path, "stat", fail_once)
    assert not role.take_again(make_folder=True)
    assert not errors
    assert role.is_held()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_refused_with_a_remedy(
    tmp_path, monkeypatch, number
):
    def fail(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(LockError) as caught, exclusive_role(tmp_path, TRAINER):
        pass
    assert str(caught.value) == (
        f"{tmp_path}/train.lock: cannot be locked: {os.strerror(number)} (this file "
        "system has no locks, or its lock server is down; choose another folder, or "
        "mount it with locks)"
    )


def test_a_link_that_leads_to_itself_is_waited_for(role):
    shutil.rmtree(role.folder)
    role.folder.symlink_to(role.folder)
    with pytest.raises(FolderLostError, match="leads to itself"):
        role.take_again(make_folder=True)


def test_a_file_in_the_folders_place_is_waited_for(role):
    shutil.rmtree(role.folder)
    role.folder.write_text("")
    with pytest.raises(FolderLostError, match="is no folder"):
        role.take_again(make_folder=True)


def test_a_disk_that_fails_for_longer_does_not_cost_the_role(role, monkeypatch):
    """Nor does the owner take its own lock for another process's."""
    real_stat = pathlib.Path.stat

    def fail(path, **keywords):
        if path == role.path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_stat(path, **keywords)

    monkeypatch.setattr(pathlib.Path, "stat", fail)
    assert not role.take_again(make_folder=True)
    assert role.is_held()


@pytest.mark.parametrize("what", ["lock", "emptied", "replaced", "removed"])
def test_a_deleted_lock_is_taken_again(role, what):
    """Otherwise a second process could start."""
    if what == "lock":
        role.path.unlink()
    elif what == "replaced":
        role.folder.rename(role.folder.with_name("old"))
        role.folder.mkdir()
    else:
        shutil.rmtree(role.folder)
        if what == "emptied":
            role.folder.mkdir()
    assert not role.is_held()
    assert not is_alive(role.folder, TRAINER)
    assert role.take_again(make_folder=True)
    assert role.is_held()
    assert owner(role.folder, TRAINER) == str(os.getpid())
    with pytest.raises(AlreadyRunningError), exclusive_role(role.folder, TRAINER):
        pass
    assert not role.take_again(make_folder=True)


def test_a_role_taken_again_ends_with_its_block(tmp_path):
    with exclusive_role(tmp_path, TRAINER) as role:
        role.path.unlink()
        role.take_again(make_folder=False)
    assert not is_alive(tmp_path, TRAINER)


def test_a_folder_deleted_while_its_role_is_taken_again_is_waited_for(
    role, monkeypatch
):
    role.path.unlink()
    lock = role._lock

    def lock_and_delete():
        file = lock()
        shutil.rmtree(role.folder)
        return file

    with monkeypatch.context() as patch:
        patch.setattr(role, "_lock", lock_and_delete)
        with contextlib.suppress(OSError):
            role.take_again(make_folder=True)
    assert not role.is_held()
    assert role.take_again(make_folder=True)


def test_a_role_that_another_process_took_meanwhile_is_lost(role):
    role.path.unlink()
    with python_process(OWNER, role.folder, TRAINER) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunningError, match=f"process {other.pid} "):
            role.take_again(make_folder=True)
        assert is_alive(role.folder, TRAINER)


def test_the_folder_is_only_made_if_allowed(role):
    shutil.rmtree(role.folder)
    with pytest.raises(FolderLostError) as caught:
        role.take_again(make_folder=False)
    assert str(caught.value) == f"{role.folder}: is missing"
    assert not role.folder.exists()


def test_a_folder_whose_parent_is_missing_is_not_made(role):
    shutil.rmtree(role.folder.parent)
    with pytest.raises(FolderLostError, match=r"is missing, and so is .* mounted\?"):
        role.take_again(make_folder=True)
    assert not role.folder.parent.exists()


@pytest.mark.parametrize("is_mount_point", [False, True])
def test_a_folder_is_not_made_on_another_disk(role, is_mount_point):
    """An unmounted disk leaves an empty folder on the parent's disk."""
    shutil.rmtree(role.folder)
    if is_mount_point:
        role.folder.mkdir()
    role._device += 1
    with pytest.raises(FolderLostError, match="is on another disk than before"):
        role.take_again(make_folder=True)
    assert list(role.folder.parent.rglob("*")) == [role.folder] * is_mount_point
    # After a remount the disk may have another number, but it has the lock file.
    role.folder.mkdir(exist_ok=True)
    role.path.touch()
    assert role.take_again(make_folder=True)


def test_a_folder_behind_a_link_is_made_where_the_link_leads(role):
    link = role.folder.parent / "link"
    link.symlink_to(role.folder)
    with exclusive_role(link, PREPROCESSOR) as other:
        shutil.rmtree(role.folder)
        other.take_again(make_folder=True)
        assert is_alive(role.folder, PREPROCESSOR)


def test_a_lock_file_deleted_before_it_is_locked_is_opened_again(tmp_path, monkeypatch):
    flock, path = fcntl.flock, tmp_path / f"{TRAINER}.lock"
    deleted = []

    def delete_and_lock(file, flags):
        if not deleted:
            deleted.append(path.unlink())
        flock(file, flags)

    monkeypatch.setattr(locks.fcntl, "flock", delete_and_lock)
    with exclusive_role(tmp_path, TRAINER) as role:
        assert role.is_held()


def test_a_deleted_lock_is_not_taken_for_a_death(role, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(locks.time, "monotonic", lambda: now)
    poll = LivenessPoll(role.folder, TRAINER)
    assert poll.is_alive()
    shutil.rmtree(role.folder)
    now += 1000  # Without a folder nobody can hold a lock.
    assert poll.is_alive()
    role.folder.mkdir()
    now += 59
    assert poll.is_alive()
    role.take_again(make_folder=False)
    assert poll.is_alive()
    role.path.unlink()
    now += 61  # A living owner would have locked it by now.
    assert not poll.is_alive()
    role.take_again(make_folder=False)
    assert poll.is_alive()
    role.close()
    assert not poll.is_alive()


def test_a_process_that_never_started_is_not_alive(tmp_path):
    assert not LivenessPoll(tmp_path, TRAINER).is_alive()
    assert not LivenessPoll(tmp_path / "none", TRAINER).is_alive()


def test_a_pipe_in_its_place_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "train.lock")
    assert not locks.is_alive(tmp_path, locks.TRAINER)
