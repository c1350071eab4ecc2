"""Proves that bash and zsh complete commands, flags, files and the keys of --set."""

import os
import pty
import select
import shutil
import subprocess

import pytest

from resnet50 import command_line
from resnet50.commands import COMMANDS, completion

pytest.importorskip("shtab")

SECONDS = 30  # A shell needs a hundredth of this.
SETUP = {
    "bash": "source ./script; PS1='REA''DY '\n",
    "zsh": "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; "
    "PS1='REA''DY '\n",
}
ARGUMENTS = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}


class Shell:
    """An interactive shell in a terminal, with the script."""

    def __init__(self, name, folder):
        script = folder / ("script" if name == "bash" else "_resnet50")
        script.write_text(completion.completion_script(name))
        self._terminal, end = pty.openpty()
        self._process = subprocess.Popen(
            [name, *ARGUMENTS[name]],
            cwd=folder,
            env={**os.environ, "TERM": "dumb", "HOME": str(folder)},
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        self.type(SETUP[name], "READY ")

    def type(self, text, expected):
        """Types a text, and reads until the shell shows another."""
        os.write(self._terminal, text.encode())
        shown = ""
        while expected not in shown:
            ready, _, _ = select.select([self._terminal], [], [], SECONDS)
            assert ready, shown
            shown += os.read(self._terminal, 4096).decode(errors="replace")

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture(params=["bash", "zsh"])
def shell(request, tmp_path):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "goyal2017.txt").touch()
    (tmp_path / "recipes" / "he2015.txt").touch()
    shell = Shell(request.param, tmp_path)
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("resnet50 preproc\t", "resnet50 preprocess "),
        ("resnet50 train --resume_\t", "--resume_or_start "),
        ("resnet50 train --config=recipes/go\t", "--config=recipes/goyal2017.txt"),
        ("resnet50 status --config recipes/he\t", "--config recipes/he2015.txt"),
        ("resnet50 train --set train.accum\t", "--set train.accumulate_batches="),
        ("resnet50 evaluate --crops 1\t\t", "10"),
        ("resnet50 completion z\t", "completion zsh"),
    ],
)
def test_a_tab_completes(shell, typed, completed):
    shell.type(typed, completed)


def test_every_command_is_completed():
    whole = completion.build_whole_parser()
    (commands,) = whole._subparsers._group_actions
    assert list(commands.choices) == list(COMMANDS)


def test_without_shtab_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    with pytest.raises(command_line.MissingPackageError, match="shtab is not installe"):
        completion.completion_script("bash")
