"""Prints a script with which a shell completes the command resnet50.

    python -m resnet50 completion bash > ~/.resnet50-completion

It completes commands, flags, files and the keys of --set. Let the shell read it at each
start: for bash, add "source ~/.resnet50-completion" to ~/.bashrc. For zsh, write it as
_resnet50 into a folder of $fpath.
"""

import argparse
import dataclasses
import importlib
import re

from resnet50 import command_line
from resnet50.commands import COMMANDS
from resnet50.config.settings import SECTIONS
from resnet50.installation import module_of

# Arguments, by the parser's names, that are files or folders.
_FILES = ("config", "file", "gpu_report", "images", "output", "recipe")
_FOLDERS = ("folder", "runs")

# Completes the keys of --set, without a space after "=".
_SETTINGS = {
    "bash": """\
_resnet50_settings() {{
  compopt -o nospace
  compgen -W "{keys}" -- "$1"
}}
""",
    "zsh": """\
_resnet50_settings() {{
  compadd -S "" -- {keys}
}}
""",
}

# bash makes "=" a word of its own, so that --config=a would be three words.
_BASH_END = """

_resnet50() {
  local words=() num_before=$COMP_CWORD i
  for i in "${!COMP_WORDS[@]}"; do
    if [[ ${COMP_WORDS[i]} != "=" ]]; then
      words+=("${COMP_WORDS[i]}")
    elif ((i == COMP_CWORD)); then
      words+=("")
    elif ((i < COMP_CWORD)); then
      ((num_before--))
    fi
  done
  local COMP_WORDS=("${words[@]}") COMP_CWORD=$num_before
  _shtab_resnet50
}
complete -o bashdefault -o default -F _resnet50 resnet50
"""


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = command_line.make_plain_parser(__doc__)
    parser.add_argument("shell", choices=tuple(_SETTINGS))
    return parser


def build_whole_parser() -> argparse.ArgumentParser:
    """A parser of all commands, whose arguments say how they are completed."""
    with command_line.needing("shtab", "completion"):
        import shtab
    whole = argparse.ArgumentParser(prog="resnet50", description="ResNet-50")
    commands = whole.add_subparsers()
    for name, meaning in COMMANDS.items():
        module = importlib.import_module(f"resnet50.commands.{module_of(name)}")
        parser = module.build_parser()
        for action in parser._actions:  # argparse has no public list of them.
            if action.dest in _FILES:
                action.complete = shtab.FILE
            elif action.dest in _FOLDERS:
                action.complete = shtab.DIRECTORY
            elif action.dest == "assignments":
                action.complete = dict.fromkeys(_SETTINGS, "_resnet50_settings")
        commands.add_parser(name, help=meaning, parents=[parser], add_help=False)
    return whole


def completion_script(shell: str) -> str:
    """The script for "bash" or "zsh".

    Raises:
        MissingPackageError: shtab is not installed.
    """
    parser = build_whole_parser()
    import shtab

    keys = [
        f"{section}.{field.name}="
        for section, settings in SECTIONS.items()
        for field in dataclasses.fields(settings)
    ]
    preamble = _SETTINGS[shell].format(keys=" ".join(keys))
    script = shtab.complete(parser, shell, preamble=preamble)
    if shell == "bash":
        return script + _BASH_END
    # "=" says that a value may follow it, as in --config=a.
    return re.sub(r'"(\*?--[\w-]+)(\[.*\]:)', r'"\1=\2', script)


def main() -> None:
    """Prints the script."""
    print(completion_script(build_parser().parse_args().shell))
