"""Proves what the flags mean, and that a wrong flag is one line."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import threading

import pytest

import resnet50.__main__
from resnet50 import command_line
from resnet50.command_line import command_for, epoch_range, load_config
from resnet50.commands import COMMANDS
from resnet50.config.settings import ConfigError
from resnet50.errors import UserError
from tests.config.test_settings import SHIPPED
from tests.settings import PROJECT


def parse(*flags):
    parser = command_line.make_parser("A program.", "batch_size", "learning_rate")
    command_line.add_epoch_flags(parser)
    return parser.parse_args([f"--config={SHIPPED}", *flags])


def epochs_of(*flags):
    args = parse(*flags)
    return epoch_range(args, load_config(args))


def test_flags_override_the_file():
    config = load_config(parse("--batch_size=32", "--learning_rate=0.01"))
    assert (config.train.batch_size, config.train.learning_rate) == (32, 0.01)
    config = load_config(parse())
    assert (config.train.batch_size, config.train.learning_rate) == (64, 0.025)


def test_wrong_flag_is_named():
    with pytest.raises(ConfigError) as caught:
        load_config(parse("--batch_size=0"))
    assert str(caught.value) == "--batch_size = 0 (must be at least 1)"


@pytest.mark.parametrize("flag", ["--batch_size=many", "--batch=32", "--epoch_end=1.5"])
def test_unknown_and_mistyped_flags_are_refused(flag, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(flag)
    assert caught.value.code == 2
    assert flag.split("=")[0] in capsys.readouterr().err


def test_epochs():
    assert epochs_of() == range(90)
    assert epochs_of("--epoch_start=0", "--epoch_end=30") == range(30)
    assert epochs_of("--epoch_start=89") == range(89, 90)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--epoch_start=-1"], "--epoch_start = -1 (must be at least 0)"),
        (["--epoch_end=0"], "--epoch_end = 0 (must be above --epoch_start = 0)"),
        (
            ["--epoch_start=5", "--epoch_end=5"],
            "--epoch_end = 5 (must be above --epoch_start = 5)",
        ),
    ],
)
def test_epochs_that_are_none(flags, expected):
    with pytest.raises(ConfigError) as caught:
        epochs_of(*flags)
    assert str(caught.value) == expected


def test_command_for_another_terminal_survives_a_shell():
    args = parse()
    args.config = "my settings/config $1.txt"
    command = command_for("train", args, run_folder="a b", resume=None, epoch_end=3)
    assert shlex.split(command) == [
        "python3",
        "train.py",
        "--config=my settings/config $1.txt",
        "--run_folder=a b",
        "--resume",
        "--epoch_end=3",
    ]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("config.txt: wrong"), 1, "config.txt: wrong\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "saved/a"),
            1,
            "saved/a: No such file or directory (is its disk all right?)\n",
        ),
        (
            OSError(errno.EIO, "Input/output error"),
            1,
            "a file: Input/output error (is its disk all right?)\n",
        ),
    ],
)
def test_ends_with_one_line_and_a_status(capsys, error, status, line):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        command_line.run(main)
    assert caught.value.code == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ZeroDivisionError, BrokenPipeError, OSError])
def test_unexpected_errors_keep_their_traceback(capfd, error):
    """A broken pipe too, if it is not that of stdout."""

    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        command_line.run(main)
    # Not 1, after which systemd does not start a program again.
    assert caught.value.code == 70
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == error.__name__


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (signal.SIGINT, "stopped"),
        (signal.SIGTERM, "stopped by SIGTERM"),
        (
            signal.SIGHUP,
            "stopped by SIGHUP: a terminal or an ssh connection was closed (tmux or "
            "nohup keeps a program running)",
        ),
    ],
)
def test_the_last_line_names_the_signal(capsys, number, line):
    with pytest.raises(SystemExit) as caught:
        command_line.run(lambda: os.kill(os.getpid(), number))
    assert caught.value.code == 130
    assert capsys.readouterr().err == f"{line}\n"


def test_a_signal_stops_a_program_also_while_a_wait_takes_its_lock_again(capsys):
    """Then Python replaces the interruption by an error of the lock."""

    class Condition(threading.Condition):
        def _acquire_restore(self, state):
            os.kill(os.getpid(), signal.SIGTERM)
            super()._acquire_restore(state)

    def main():
        condition = Condition(threading.Lock())
        with condition:
            condition.wait(0.01)

    with pytest.raises(SystemExit) as caught:
        command_line.run(main)
    assert caught.value.code == 130
    assert capsys.readouterr().err == "stopped by SIGTERM\n"


@pytest.mark.parametrize("closed", ["1>&-", "2>&-"])
def test_a_program_needs_no_open_stdout_or_stderr(closed):
    """Some service managers start programs without them."""
    command = f"{shlex.quote(sys.executable)} train.py --run_folder=. {closed}"
    result = subprocess.run(
        command, shell=True, cwd=PROJECT, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_no_file_becomes_stdin_stdout_or_stderr(tmp_path):
    """Where they are closed. Otherwise it would get what a library prints."""
    program = (
        "import os\n"
        "from resnet50 import command_line\n"
        "from resnet50.commands import evaluate\n"
        "def main():\n"
        f"    with open({str(tmp_path / 'file')!r}, 'w') as file:\n"
        "        file.write(str(file.fileno()))\n"
        "        [os.fstat(number) for number in range(3)]\n"
        "evaluate.main = main\n"
        "command_line.run_command('evaluate')\n"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} <&- >&- 2>&-"
    assert subprocess.run(command, shell=True, cwd=PROJECT).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


def test_a_reader_of_stdout_that_ends_early_ends_the_program(tmp_path):
    """Such as head. It ends as silently as a program that SIGPIPE kills."""
    program = tmp_path / "program.py"
    program.write_text(
        "from resnet50 import command_line\n"
        "def main():\n"
        "    while True:\n"
        "        print('epoch 0: top-1 50.00%', flush=True)\n"
        "command_line.run(main)\n"
    )
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(program))} | head -1"
    result = subprocess.run(
        command, shell=True, cwd=PROJECT, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("epoch 0: top-1 50.00%\n", "")


def test_a_terminal_that_is_gone_does_not_end_a_program_that_ignores_hangups():
    """Its lines on stdout and stderr are lost, but not its results."""
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from resnet50 import command_line\n"
        "from resnet50.terminal import say\n"
        "from resnet50.commands import evaluate\n"
        "def main():\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.buffer.read()\n"
        "    for _ in range(1000):\n"
        "        print('epoch 0: top-1 50.00%', flush=True)\n"
        "        say('a line')\n"
        "    sys.exit(7)\n"
        "evaluate.main = main\n"
        "command_line.run_command('evaluate')\n"
    )
    terminal, end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    with os.fdopen(terminal, "rb", buffering=0) as file:
        assert file.readline() == b"ready\r\n"
    process.stdin.close()
    assert process.wait(60) == 7


@pytest.mark.parametrize(
    ("arguments", "status", "first_line"),
    [
        (["nosuch"], 2, "resnet50: unknown command 'nosuch'"),
        ([], 2, "usage: resnet50 COMMAND [--help]"),
        (["--help"], 0, "usage: resnet50 COMMAND [--help]"),
    ],
)
def test_without_a_known_command_the_commands_are_listed(
    monkeypatch, capsys, arguments, status, first_line
):
    monkeypatch.setattr(sys, "argv", ["resnet50", *arguments])
    with pytest.raises(SystemExit) as caught:
        resnet50.__main__.main()
    output, errors = capsys.readouterr()
    lines = (errors if status else output).splitlines()
    assert caught.value.code == status
    assert lines[0] == first_line
    listed = lines[-len(COMMANDS) :]
    assert [line.split()[0] for line in listed] == list(COMMANDS)


def test_set_replaces_values_and_is_part_of_printed_commands():
    args = parse("--set=train.seed=3", "--set", "train.batch_size=8")
    train = load_config(args).train
    assert (train.seed, train.batch_size) == (3, 8)
    words = shlex.split(command_for("train", args, run_folder="a b"))
    assert words[2:] == [
        f"--config={SHIPPED}",
        "--set=train.seed=3",
        "--set=train.batch_size=8",
        "--run_folder=a b",
    ]
    # The same value once, and no flag that would be refused.
    words = shlex.split(command_for("train", args, batch_size=train.batch_size))
    assert words[3:] == ["--set=train.seed=3", "--batch_size=8"]
    args = parse("--set=dataset.training_images=https://me:secret@h/a.tar?sig=secret")
    words = shlex.split(command_for("train", args))
    assert words[3:] == ["--set=dataset.training_images=https://h/a.tar"]


def test_set_and_a_flag_for_the_same_key_are_refused():
    with pytest.raises(ConfigError) as caught:
        load_config(parse("--set=train.batch_size=8", "--batch_size=16"))
    assert str(caught.value) == (
        "--batch_size = 16: --set sets [train] batch_size, too (give one)"
    )
    other = load_config(parse("--set=evaluation.batch_size=8", "--batch_size=16"))
    assert (other.train.batch_size, other.evaluation.batch_size) == (16, 8)
