"""Proves that a health check tells a program that works from one that does not."""

import os
import time
from contextlib import ExitStack

import numpy as np
import pytest

from resnet50.checks.health import UnhealthyError, require_healthy
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.progress import Position, write_progress

OLD = 1000  # seconds; longer than any program needs for a step or a batch


@pytest.fixture
def running(tmp_path):
    """Takes roles, as programs that started long ago."""
    with ExitStack() as stack:

        def start(*roles):
            for role in roles:
                stack.enter_context(locks.exclusive_role(tmp_path, role))
                age(tmp_path / f"{role}.lock")

        yield start


def age(path):
    os.utime(path, (time.time() - OLD,) * 2)


def write_batch(folder, position):
    BatchBuffer(folder).write(
        position, np.zeros((1, 2, 2, 3), np.float16), np.zeros(1, np.int32)
    )
    return BatchBuffer(folder).images_path(position)


@pytest.mark.parametrize("role", [locks.TRAINER, locks.PREPROCESSOR])
def test_a_program_that_does_not_run(tmp_path, role):
    with pytest.raises(UnhealthyError, match=rf"{role}\.py does not run"):
        require_healthy(tmp_path, role)
    (tmp_path / f"{role}.lock").touch()  # Left behind by a killed one.
    with pytest.raises(UnhealthyError, match=rf"{role}\.py does not run"):
        require_healthy(tmp_path, role)
    with pytest.raises(UnhealthyError, match=rf"{role}\.py does not run"):
        require_healthy(tmp_path / "missing", role)


@pytest.mark.parametrize("role", [locks.TRAINER, locks.PREPROCESSOR])
def test_a_program_that_has_just_started(tmp_path, running, role):
    running(role)
    os.utime(tmp_path / f"{role}.lock")
    assert f"process {os.getpid()}, and makes" in require_healthy(tmp_path, role)


def test_a_trainer_that_stays_at_a_step(tmp_path, running):
    running(locks.TRAINER)
    with pytest.raises(UnhealthyError, match="stayed at an unknown position for 17"):
        require_healthy(tmp_path, locks.TRAINER)
    write_progress(tmp_path, Position(3, 14))
    assert require_healthy(tmp_path, locks.TRAINER)
    age(tmp_path / "training_progress.txt")
    with pytest.raises(UnhealthyError, match="stayed at epoch 3, batch 14 for 17 min"):
        require_healthy(tmp_path, locks.TRAINER)


def test_a_preprocessor_that_makes_no_batch(tmp_path, running):
    running(locks.PREPROCESSOR)
    with pytest.raises(UnhealthyError, match="no batch is ready, and none was made"):
        require_healthy(tmp_path, locks.PREPROCESSOR)
    # A full buffer, and no trainer: there is nothing to do, whatever the old position.
    write_progress(tmp_path, Position(9, 0))
    path = write_batch(tmp_path, Position(0, 0))
    age(path)
    assert require_healthy(tmp_path, locks.PREPROCESSOR)


def test_a_preprocessor_whose_trainer_waits(tmp_path, running):
    running(locks.PREPROCESSOR, locks.TRAINER)
    write_progress(tmp_path, Position(0, 7))
    path = write_batch(tmp_path, Position(0, 6))
    assert require_healthy(tmp_path, locks.PREPROCESSOR)  # It has just made one.
    age(path)
    with pytest.raises(UnhealthyError, match="the trainer needs epoch 0, batch 7, and"):
        require_healthy(tmp_path, locks.PREPROCESSOR)
    age(write_batch(tmp_path, Position(0, 7)))
    assert require_healthy(tmp_path, locks.PREPROCESSOR)
