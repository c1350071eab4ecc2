"""Proves that hostile input is accepted or refused in one line, and nothing else.

This is the short form of ``python -m tests.fuzz``, and a proof that the sandbox notices
each kind of defect.
"""

import re
import subprocess
import sys

from tests.processes import ROOT

_INPUTS = 12

# What a target may do wrong, and how the result begins.
DEFECTS = {
    "raise ValueError('x')": r"ValueError at .*: x",
    "raise UserError('')": "UserError: an empty message",
    "raise UserError('x' * 9_999) from OSError()": "refused",
    "raise Loud('a\\nb')": "Loud: not one printable line",
    "time.sleep(100)": "hangs: ",
    "os.abort()": "the child ended with -6: ",
    "np.ones(2**25)": r"memory: 0\.[23] GiB",
    "(folder.parent / 'x').touch()": "files were written outside its folder",
    "open('../y', 'w').close()": "write outside: ../y",
    "os.mkdir('../x')": "os.mkdir outside: ",
    "open('/etc/hostname').close()": "read outside: /etc/hostname",
    "subprocess.run(['true'])": "subprocess.Popen ",
    "(folder / 'x').write_bytes(data)": "accepted",
    "raise UserError('a\\nb')": "refused",
}
PROGRAM = """
import os, subprocess, sys, time
import numpy as np
from resnet50.errors import UserError
from tests.fuzz import sandbox

class Loud(UserError):
    def __str__(self):
        return self.args[0]

sandbox.LIMIT_SECONDS, sandbox.LIMIT_BYTES = 3.0, 2**27
with sandbox.Sandbox() as box:
    for code in sys.argv[1:]:
        def process(folder, data):
            exec(code)
        target = sandbox.Target("a", lambda: [b"x"], process)
        result = box.run(target, 0, range(1))[-1]
        print(result.outcome if result.outcome != "defect" else result.text)
"""
GROWING = """
import numpy as np
from tests.fuzz import sandbox

keep = []
grow = lambda folder, data: keep.append(np.ones(2**18))  # 2 MiB
with sandbox.Sandbox() as box:
    target = sandbox.Target("a", lambda: [b"x"], grow)
    for result in box.run(target, 0, range(300)):
        if result.outcome == "defect":
            print(result.text)
"""


def run_python(*words):
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True)


def test_the_sandbox_notices_each_kind_of_defect():
    ended = run_python("-c", PROGRAM, *DEFECTS)
    lines = ended.stdout.splitlines()
    assert len(lines) == len(DEFECTS), ended.stderr
    for line, expected in zip(lines, DEFECTS.values()):
        assert re.match(expected, line), (line, expected)


def test_memory_that_grows_is_noticed():
    ended = run_python("-c", GROWING)
    assert re.match(r"memory grows: 2\d\d MiB in \d+ inputs", ended.stdout), (
        ended.stderr
    )


def test_hostile_input(tmp_path):
    words = f"--inputs={_INPUTS}", f"--defects={tmp_path}"
    ended = run_python("-m", "tests.fuzz", *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *targets, total = ended.stdout.splitlines()
    assert len(targets) > 35
    assert f"{_INPUTS * len(targets):,} inputs of {len(targets)} targets" in total
