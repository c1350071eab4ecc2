"""Proves that a library's lines on descriptor 2 are held back, and never lost."""

import os
import shlex
import signal
import subprocess
import sys

import pytest

from resnet50.native_stderr import held_back
from tests.processes import ROOT

PROGRAM = """if True:
    import os, sys
    from resnet50.native_stderr import held_back
    with held_back() as lines:
        os.write(2, b"I0000 a library's line\\n")
        print("a line of Python's", file=sys.stderr)
        exec(sys.argv[1])
    print(lines)
    os.write(2, b"later\\n")
    print("at the end", file=sys.stderr)
"""


def run(what):
    """Runs the program with a statement in its block."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_lines_are_held_back_and_others_are_not():
    result = run("pass")
    assert result.stdout == '["I0000 a library\'s line"]\n'
    assert result.stderr == "a line of Python's\nlater\nat the end\n"


@pytest.mark.parametrize(
    "end",
    [
        "os.abort()",
        "os.kill(os.getpid(), 9)",
        "import ctypes; ctypes.string_at(0)",
        "os._exit(3)",
        "raise ImportError('no library')",
        "raise KeyboardInterrupt",
    ],
)
def test_the_lines_are_shown_if_the_block_fails_or_the_process_dies(end):
    result = run(end)
    assert result.returncode != 0
    assert result.stderr.count("I0000 a library's line\n") == 1
    assert result.stderr.startswith("a line of Python's\n")


@pytest.mark.parametrize("seconds", [1, 0.008, 0.012, 0.016])
def test_ctrl_c_in_a_terminal_shows_no_lines(seconds):
    """It goes to the whole group, of which the small process is a member.

    That takes about 20 ms to start.
    """
    end = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        f"time.sleep({seconds}); os.killpg(0, signal.SIGINT)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, end],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors == "a line of Python's\n"


def test_the_list_has_the_lines_of_a_block_that_fails(capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "fileno", lambda: 2, raising=False)
    with pytest.raises(ImportError), held_back() as lines:
        os.write(2, b"a reason\n")
        raise ImportError
    assert lines == ["a reason"]
    assert capfd.readouterr().err == "a reason\n"


def test_a_stream_that_was_kept_works_after_the_block():
    """A logger of a library keeps the stderr that it finds."""
    result = run("global kept; kept = sys.stderr; print(file=kept)")
    assert result.returncode == 0
    result = run("import atexit; atexit.register(print, 'kept', file=sys.stderr)")
    assert result.stderr.endswith("at the end\nkept\n")


def test_stderr_may_be_closed():
    program = (
        "from resnet50.native_stderr import held_back\n"
        "with held_back() as lines: print('here')\n"
        "print(lines)\n"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} 2>&-"
    output = subprocess.check_output(command, shell=True, cwd=ROOT, text=True)
    assert output == "here\n[]\n"


def test_without_a_temporary_file_nothing_is_held_back(monkeypatch, capfd):
    def fail():
        raise OSError("no usable temporary directory")

    monkeypatch.setattr("resnet50.native_stderr.tempfile.TemporaryFile", fail)
    monkeypatch.setattr(sys.stderr, "fileno", lambda: 2, raising=False)
    with held_back() as lines:
        os.write(2, b"a line\n")
    assert lines == []
    assert "a line\n" in capfd.readouterr().err
