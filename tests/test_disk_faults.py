"""A short form of ``python -m tests.disk_faults``: a few faults at the start."""

import errno
import os
import sys

import pytest

from tests import disk_faults
from tests.failing_calls import FailingProgram, Fault, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

ROWS = {
    "config.txt: read EIO",
    "lock: lock ENOLCK",
    "manifest: write EDQUOT",
    "batch: fsync EIO",
}


def test_faults_at_the_preprocessors_start(tmp_path):
    rows = [r for r in disk_faults.AT_PREPROCESSOR_START if r.name in ROWS]
    reference = disk_faults.make_reference(tmp_path, with_run=False)
    results = list(disk_faults.start_preprocessors(tmp_path, reference, rows))
    assert {r.name for r in results} == ROWS
    failed = [r for r in results if r.lost != "nothing"]
    assert not failed
    assert all(result.num_hits for result in results)


READER = """if True:
    import sys, time
    from pathlib import Path
    path, signs = map(Path, sys.argv[1:])
    while not (signs / "end").exists():
        try:
            path.read_bytes()
            print("read", flush=True)
        except OSError as error:
            print(error.strerror, flush=True)
        time.sleep(0.01)
"""


def test_a_fault_begins_and_ends_while_a_program_runs(tmp_path):
    path, log = tmp_path / "file", tmp_path / "log"
    path.write_bytes(b"content")
    fault = Fault("read", tmp_path / "f*e", errno.ESTALE)
    words = [sys.executable, "-c", READER, str(path), str(tmp_path)]
    program = FailingProgram(words, log, [fault])

    def wait_for(line):
        number = log.read_text().count(line) if log.exists() else 0
        disk_faults.wait_until(lambda: log.read_text().count(line) > number, line)

    wait_for("read\n")
    fault.is_in_force = True
    wait_for(os.strerror(errno.ESTALE))
    fault.is_in_force = False
    wait_for("read\n")
    (tmp_path / "end").touch()
    assert program.process.wait() == 0
    assert fault.num_hits == log.read_text().count(os.strerror(errno.ESTALE))
