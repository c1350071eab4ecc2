"""Proves that a role has one living owner, and that a killed one leaves nothing behind.

Asking who lives disturbs nobody.
"""

import fcntl
import os
import signal

import pytest

from resnet50.handoff import locks
from resnet50.handoff.locks import (
    PREPROCESSOR,
    TRAINER,
    AlreadyRunningError,
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


def test_second_process_is_refused_and_told_the_first_ones_id(tmp_path):
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


def test_asking_creates_nothing_and_does_not_disturb(tmp_path):
    assert not is_alive(tmp_path, TRAINER)
    assert owner(tmp_path, TRAINER) == "unknown"
    assert list(tmp_path.iterdir()) == []
    with exclusive_role(tmp_path, TRAINER):
        assert all(is_alive(tmp_path, TRAINER) for _ in range(100))
        with pytest.raises(AlreadyRunningError), exclusive_role(tmp_path, TRAINER):
            pass


def test_a_look_at_the_lock_delays_an_owner_but_does_not_refuse_it(
    tmp_path, monkeypatch
):
    (tmp_path / f"{TRAINER}.lock").touch()
    with (tmp_path / f"{TRAINER}.lock").open("r") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        # The owner's pause before it tries again is when the look ends.
        monkeypatch.setattr(
            locks.time, "sleep", lambda _: fcntl.flock(look, fcntl.LOCK_UN)
        )
        with exclusive_role(tmp_path, TRAINER):
            assert is_alive(tmp_path, TRAINER)


def test_two_looks_at_once_do_not_take_each_other_for_an_owner(tmp_path):
    (tmp_path / f"{TRAINER}.lock").touch()
    with (tmp_path / f"{TRAINER}.lock").open("r") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        assert not is_alive(tmp_path, TRAINER)


def test_process_id_of_a_longer_lived_file_is_replaced(tmp_path):
    (tmp_path / f"{TRAINER}.lock").write_text("123456789012345\nrubbish\n")
    with exclusive_role(tmp_path, TRAINER):
        assert owner(tmp_path, TRAINER) == str(os.getpid())
    (tmp_path / f"{TRAINER}.lock").write_bytes(b"\xff\xfe")
    assert owner(tmp_path, TRAINER) == "unknown"
