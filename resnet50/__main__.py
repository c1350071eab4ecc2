"""Runs a command: ``python -m resnet50 NAME``, installed also as ``resnet50``."""

import sys

from resnet50 import installation
from resnet50.commands import COMMANDS


def main() -> None:
    """Runs the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    prefix = installation.command_prefix()
    if name == "--version":
        print(installation.DISTRIBUTION, installation.version())
        return
    if name not in COMMANDS:
        is_help = name in ("-h", "--help")
        stream = sys.stdout if is_help else sys.stderr
        if name and not is_help:
            print(f"{prefix}: unknown command {name!r}", file=stream)
        print(f"usage: {prefix} COMMAND [--help]\n", file=stream)
        for command, meaning in COMMANDS.items():
            print(f"  {command:10} {meaning}", file=stream)
        sys.exit(0 if is_help else 2)
    sys.argv = [f"{prefix} {name}", *sys.argv[2:]]
    try:
        from resnet50 import command_line

        # Loads only this command: some need TensorFlow, which takes seconds.
        command_line.run_command(installation.module_of(name))
    except ModuleNotFoundError as error:
        if (error.name or "resnet50").startswith("resnet50"):
            raise
        sys.exit(
            f"{error.name}: this Python package is not installed "
            f"({installation.install_command()})"
        )


if __name__ == "__main__":
    main()
