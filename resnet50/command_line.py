"""The command line of all programs: flags, settings, exit status.

Only the top-level scripts and ``resnet50.commands`` use this module.
"""

import argparse
import contextlib
import errno
import importlib
import io
import os
import platform
import select
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO, TypeGuard

from resnet50 import atomic_io, installation
from resnet50.config.assignments import FLAG, split_assignment
from resnet50.config.settings import Config, ConfigError
from resnet50.config.toml_file import override, read_config
from resnet50.errors import UserError
from resnet50.native_stderr import held_back
from resnet50.reports.classes.predictions import PREDICTIONS_FILE
from resnet50.reports.curves import RunError
from resnet50.reports.starts import STARTS_FILE
from resnet50.reports.tables import BEST, METRICS_FILE
from resnet50.signals import StopRequest, stop_line, stop_signals_handled
from resnet50.terminal import PatientStream, log_only, messages_logged, say
from resnet50.urls import is_url, shown_url

# Flags that replace a value of config.txt: section and type.
_OVERRIDES = {
    "batch_size": ("train", int),
    "learning_rate": ("train", float),
    "num_workers": ("runtime_preprocessing", int),
}

# A folder with one of them is a run.
_RUN_FILES = (METRICS_FILE, STARTS_FILE, PREDICTIONS_FILE)

# Errors of reading and writing an open file, which do not name it.
_DISK_ERRORS = {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE}


class MissingPackageError(UserError):
    """A package that an extra installs is not installed."""


def make_plain_parser(description: str) -> argparse.ArgumentParser:
    """A parser without flags; --help shows the description with its line breaks.

    The commands in it become those that exist for the user.
    """
    for command, script in installation.SCRIPTS.items():
        typed = installation.typed(command)
        description = description.replace(f"python3 {script}", typed)
    prefix = installation.command_prefix()
    return argparse.ArgumentParser(
        description=description.replace("python -m resnet50", prefix),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def make_parser(description: str, *overrides: str) -> argparse.ArgumentParser:
    """A parser with --config, --set, and flags that override keys of _OVERRIDES."""
    parser = make_plain_parser(description)
    parser.add_argument(
        "--config", default="config.txt", metavar="PATH", help="default: config.txt"
    )
    parser.add_argument(
        FLAG,
        action="append",
        default=[],
        dest="assignments",
        metavar="SECTION.KEY=VALUE",
        help="replaces a value of config.txt; may be repeated",
    )
    for key in overrides:
        section, kind = _OVERRIDES[key]
        parser.add_argument(
            f"--{key}", type=kind, help=f"default: {key} in [{section}] of config.txt"
        )
    return parser


def add_epoch_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --epoch_start and --epoch_end; the latter is exclusive."""
    parser.add_argument("--epoch_start", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--epoch_end", type=int, help="default: epochs in [train] of config.txt"
    )


def _epoch_or_best(text: str) -> int | str:
    try:
        return text if text == BEST else int(text)
    except ValueError:
        expected = f"must be a whole number or {BEST}"
        raise argparse.ArgumentTypeError(f"{text!r} ({expected})") from None


def add_checkpoint_flag(
    parser: argparse.ArgumentParser, *, action: str = "", default: str = "the newest"
) -> None:
    """Adds --epoch, which chooses one of a run's checkpoints: a number, or BEST."""
    parser.add_argument(
        "--epoch",
        type=_epoch_or_best,
        metavar=f"N|{BEST}",
        help=f"{action}the checkpoint after this epoch; {BEST}: after the one with the "
        f"highest top-1 in evaluation.csv; default: {default}",
    )


def local_path(text: str) -> str:
    """The type of an argument that is a path, and no URL; returns it as it is."""
    if is_url(text):
        raise argparse.ArgumentTypeError(f"{shown_url(text)} (must be a local path)")
    return text


def load_config(args: argparse.Namespace) -> Config:
    """Reads config.txt, then the flags.

    Raises:
        ConfigError: A value is wrong, or two flags set the same key.
    """
    config = read_config(args.config, args.assignments)
    assigned = {split_assignment(text)[:2] for text in args.assignments}
    for key, (section, _) in _OVERRIDES.items():
        value = getattr(args, key, None)
        if value is not None:
            if (section, key) in assigned:
                raise ConfigError(
                    f"--{key} = {value}: {FLAG} sets [{section}] {key}, too (give one)"
                )
            config = override(config, section, key, value, flag=f"--{key}")
    return config


def epoch_range(args: argparse.Namespace, config: Config) -> range:
    """The epochs from --epoch_start to --epoch_end.

    Raises:
        ConfigError: There are none, or they go past the end of the schedule.
    """
    train = config.train
    end = train.epochs if args.epoch_end is None else args.epoch_end
    if args.epoch_start < 0:
        raise ConfigError(f"--epoch_start = {args.epoch_start} (must be at least 0)")
    if end <= args.epoch_start:
        raise ConfigError(
            f"--epoch_end = {end} (must be above --epoch_start = {args.epoch_start})"
        )
    if train.schedule in ("linear", "cosine") and end > train.epochs:
        raise ConfigError(
            f"--epoch_end = {end} (the {train.schedule} schedule ends at [train] "
            f"epochs = {train.epochs}; raise that)"
        )
    return range(args.epoch_start, end)


def run_folder(args: argparse.Namespace, config: Config) -> Path:
    """The folder of the run that --run_folder names.

    Raises:
        ConfigError: The name contains a folder or starts with a dot.
    """
    name = args.run_folder
    if name != Path(name).name or name.startswith("."):
        raise ConfigError(
            f"--run_folder = {name!r} (must be a plain name; its folder is in "
            f"{config.train.saved_models_folder})"
        )
    return config.train.saved_models_folder / name


def find_run(word: str, args: argparse.Namespace) -> Path:
    """The folder of a run, given by its name or folder.

    Raises:
        RunError: There is no such run.
        ConfigError: It is not a folder, and config.txt cannot be read.
    """
    if any((Path(word) / file).exists() for file in _RUN_FILES):
        return Path(word)
    saved_models = load_config(args).train.saved_models_folder
    folder = saved_models / word
    if not folder.is_dir():
        known = sorted(p.parent.name for p in saved_models.glob(f"*/{METRICS_FILE}"))
        raise RunError(
            f"{folder}: there is no such run ({saved_models} holds: "
            f"{', '.join(known) or 'none yet'})"
        )
    return folder


@contextlib.contextmanager
def needing(package: str, extra: str) -> Iterator[None]:
    """Imports in this block need a package of an extra.

    Raises:
        MissingPackageError: The package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        remedy = installation.install_command(extra)
        raise MissingPackageError(f"{package} is not installed ({remedy})") from None


def make_folder(path: Path, setting: str) -> None:
    """Creates a folder that a setting, such as "[train] buffer_folder", names.

    Raises:
        ConfigError: It cannot be created, or it is not writable.
    """
    try:
        atomic_io.create_folder(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be created: {error.strerror} (see {setting})"
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: cannot be written to (see {setting})")


def command_for(command: str, args: argparse.Namespace, **flags) -> str:
    """What the user types to start a command with the same configuration.

    Args:
        command: Its name, such as "train", which arguments may follow.
        args: The flags of this program. The command gets its --config and --set.
        flags: Its other flags; one with the value None has no value.
    """
    given = [("config", args.config)] if args.config != "config.txt" else []
    for text in getattr(args, "assignments", ()):
        section, key, _ = split_assignment(text)
        # Otherwise one of the flags has this value already.
        if key not in flags or _OVERRIDES.get(key, ("",))[0] != section:
            given.append(("set", shown_url(text)))
    words = [
        f"--{name}" if value is None else f"--{name}={shlex.quote(str(value))}"
        for name, value in [*given, *flags.items()]
    ]
    return " ".join([installation.typed(command), *words])


def run_command(name: str) -> None:
    """Imports a module of resnet50.commands and runs its main function; see ``run``."""
    _open_standard_descriptors()
    with loading():
        module = importlib.import_module(f"resnet50.commands.{name}")
    # Both are None if the program was started with them closed.
    nowhere = Path(os.devnull).open("w")  # noqa: SIM115
    sys.stdout = sys.stdout or nowhere
    sys.stderr = PatientStream(sys.stderr or nowhere)
    if sys.stdout.isatty():  # Not a file: on a full disk the results would be lost.
        sys.stdout = PatientStream(sys.stdout)
    run(module.main)


def _open_standard_descriptors() -> None:
    """Opens those of the descriptors 0 to 2 that are closed.

    Otherwise the next files, such as a lock, get these numbers, and also what a library
    prints.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # For the workers.
    os.close(descriptor)


def loading() -> AbstractContextManager[None]:
    """Lets a stop signal end the program silently during imports that take seconds."""
    return stop_signals_handled(signal.SIG_DFL)


@contextlib.contextmanager
def loading_tensorflow() -> Iterator[list[str]]:
    """The same for TensorFlow, which then looks for GPUs.

    Its lines about the machine are logged, but not shown; after the block, the list
    that this yields holds them. If the block fails, they are shown, too.
    """
    from resnet50 import network

    lines: list[str] = []
    holding = held_back() if network.IS_QUIET else contextlib.nullcontext(lines)
    try:
        with loading(), holding as lines:
            yield lines
            sys.modules["tensorflow"].config.list_physical_devices("GPU")
    finally:
        if lines:
            log_only("\n".join(["TensorFlow, as it starts:", *lines]))


def run(main: Callable[[], None]) -> None:
    """Runs a program's main function and exits with its status.

    A UserError, or a disk that fails, ends it with one line on stderr and status 1; a
    stop signal with status 130 (see ``resnet50.signals``). If a reader of stdout, such
    as head, ends early, it ends silently with status 141. Anything else keeps its
    traceback, and has status 70: only then may another try help.
    """
    # The name of a file may contain bytes that are no text; stderr can show them.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    status = 0
    with StopRequest(raises=True).caught(), messages_logged():
        try:
            main()
        except UserError as error:
            say(str(error))
            status = 1
        except KeyboardInterrupt as interrupt:
            say(stop_line(*interrupt.args))
            status = 130
        except ModuleNotFoundError as error:
            if error.name != "tensorflow":
                raise  # ``resnet50.__main__`` says how to install it.
            say(_without_tensorflow())
            status = 1
        except Exception as error:
            if stop := _interrupted_wait(error):
                say(stop_line(*stop.args))
                status = 130
            elif isinstance(error, BrokenPipeError) and not _has_reader(sys.stdout):
                # Python flushes stdout once more at the end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                status = 128 + signal.SIGPIPE
            elif _is_of_a_disk(error):
                where = f"{error.filename or 'a file'}: {error.strerror}"
                say(f"{where} (is its disk all right?)")
                status = 1
            else:
                say(traceback.format_exc().rstrip())
                status = 70
        sys.exit(status)


def _without_tensorflow() -> str:
    """Says how to get TensorFlow."""
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        remedy = "there is none for macOS on Intel processors; use another machine"
    else:
        remedy = installation.install_command()
    return f"TensorFlow is not installed ({remedy})"


def _interrupted_wait(error: Exception) -> KeyboardInterrupt | None:
    """The interruption by a signal that came as Condition.wait took its lock again.

    Then the condition, of threading, releases a lock that is free, and its RuntimeError
    replaces the KeyboardInterrupt.
    """
    cause = error.__context__
    if isinstance(error, RuntimeError) and isinstance(cause, KeyboardInterrupt):
        return cause
    return None


def _is_of_a_disk(error: Exception) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and (
        error.filename is not None or error.errno in _DISK_ERRORS
    )


def _has_reader(stream: TextIO) -> bool:
    """Whether a pipe is open at its other end."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return not poll.poll(0)
