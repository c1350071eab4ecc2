"""Where the project is installed, and what its user types to start and extend it.

In a checkout there are three scripts at the top; an installed package has the command
``resnet50``. ``python3 -m resnet50`` works with both. Needs no other package.
"""

import shlex
import sys
from importlib import metadata
from pathlib import Path

from resnet50.urls import shown_url

DISTRIBUTION = "resnet50-two-process"

# The folder of a checkout; of an installed package, site-packages.
PROJECT = Path(__file__).parents[1]

# config.txt and recipes/ as shipped: links to those of the checkout, or copies.
SHIPPED = Path(__file__).parent / "shipped"

# The scripts of a checkout that are commands too. A script's module has its name.
SCRIPTS = {
    "preprocess": "runtime_preprocessing.py",
    "train": "train.py",
    "stats": "compute_channel_stats.py",
}

_CONSOLE_COMMAND, _MODULE_COMMAND = "resnet50", "python3 -m resnet50"


def is_checkout() -> bool:
    """Whether the package is in a folder with the whole project."""
    return (PROJECT / "pyproject.toml").is_file()


def module_of(command: str) -> str:
    """The module of resnet50.commands that a command runs."""
    return Path(SCRIPTS.get(command, command)).stem


def command_prefix() -> str:
    """What precedes a command's name: "resnet50", or that with python3 -m."""
    program = Path(sys.argv[0]).name
    is_console = program.split(" ")[0] == _CONSOLE_COMMAND
    return _CONSOLE_COMMAND if is_console else _MODULE_COMMAND


def typed(command: str) -> str:
    """What the user types to start a command, in the way they started this program.

    Args:
        command: A name such as "train", or a name with arguments.
    """
    program, script = Path(sys.argv[0]), SCRIPTS.get(command)
    if script and program.name in SCRIPTS.values():
        return f"python3 {shlex.quote(str(program.with_name(script)))}"
    prefix = command_prefix()
    if script and prefix == _MODULE_COMMAND and Path(script).is_file():
        return f"python3 {script}"
    return f"{prefix} {command}"


def typed_command_line() -> str:
    """The command line of this program, as its user typed it, but without secrets."""
    program = sys.argv[0]
    if not program.startswith((_CONSOLE_COMMAND, _MODULE_COMMAND)):
        program = shlex.quote(program)
    words = map(shown_url, sys.argv[1:])
    return " ".join([program, *map(shlex.quote, words)])


def install_command(extra: str = "") -> str:
    """What the user types to install the project with what an extra needs."""
    option, what = ("-e ", ".") if is_checkout() else ("", DISTRIBUTION)
    return f"pip install {option}" + (f"'{what}[{extra}]'" if extra else what)


def version() -> str:
    """The version of the installed package; "unknown" in a checkout without one."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
