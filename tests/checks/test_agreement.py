"""Proves the judgements of the two programs by their folder."""

import os

from resnet50.checks import agreement
from resnet50.checks.agreement import Programs
from resnet50.checks.findings import OK, PROBLEM, WARNING
from resnet50.handoff import locks
from resnet50.handoff.progress import FILE_NAME, Position, write_progress

NOBODY = Programs(None, None)


def test_the_locks_say_which_programs_run(tmp_path):
    assert agreement.find_programs(tmp_path) == NOBODY
    with locks.exclusive_role(tmp_path, locks.PREPROCESSOR):
        running = agreement.find_programs(tmp_path)
    assert running == Programs(str(os.getpid()), None)
    assert agreement.find_programs(tmp_path) == NOBODY
    assert str(agreement.check_running(running)) == (
        f"ok       programs: runtime_preprocessing.py runs, process {os.getpid()}, "
        "train.py is not running"
    )


def test_settings():
    wanted = {"seed": 1, "batch_size": 4}
    assert agreement.check_manifest(None, wanted, NOBODY).status == OK
    assert agreement.check_manifest(wanted, wanted, Programs("1", "2")).status == OK
    other = {"seed": 2, "batch_size": 4}
    stale = agreement.check_manifest(other, wanted, NOBODY)
    assert stale.status == WARNING
    assert "seed is 2 there and 1 here" in stale.what
    assert agreement.check_manifest({}, wanted, NOBODY).status == WARNING
    for running in (Programs("1", None), Programs(None, "2")):
        assert agreement.check_manifest(other, wanted, running).status == PROBLEM


def test_progress(tmp_path):
    assert agreement.check_progress(tmp_path, 10, 100).status == OK
    write_progress(tmp_path, Position(3, 7))
    assert agreement.check_progress(tmp_path, 10, 100).what == (
        "progress: next is epoch 3, batch 7"
    )
    (tmp_path / FILE_NAME).write_text("3")
    assert agreement.check_progress(tmp_path, 10, 100).status == WARNING
    write_progress(tmp_path, Position(30, 7))
    assert agreement.check_progress(tmp_path, 10, 100).status == WARNING
