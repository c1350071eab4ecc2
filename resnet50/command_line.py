"""What the programs share on the command line: flags, errors, bars.

Only the top-level scripts and ``resnet50.commands`` use this module.
"""

import argparse
import contextlib
import importlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from resnet50.config.settings import Config, ConfigError
from resnet50.config.toml_file import override, read_config
from resnet50.errors import UserError
from resnet50.signals import StopRequest, stop_signals_handled

# Flags that replace a value of config.txt: section and type.
_OVERRIDES = {
    "batch_size": ("train", int),
    "learning_rate": ("train", float),
    "num_workers": ("runtime_preprocessing", int),
}


def make_plain_parser(description: str) -> argparse.ArgumentParser:
    """A parser without flags; the description is shown as it stands."""
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def make_parser(description: str, *overrides: str) -> argparse.ArgumentParser:
    """A parser with --config and flags that go before keys of config.txt.

    Args:
        description: For --help.
        overrides: Keys, of _OVERRIDES, that are flags too.
    """
    parser = make_plain_parser(description)
    parser.add_argument(
        "--config", default="config.txt", metavar="PATH", help="default: config.txt"
    )
    for key in overrides:
        section, kind = _OVERRIDES[key]
        parser.add_argument(
            f"--{key}", type=kind, help=f"default: {key} in [{section}] of config.txt"
        )
    return parser


def add_epoch_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --epoch_start and --epoch_end, a range of epochs without its end."""
    parser.add_argument("--epoch_start", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--epoch_end", type=int, help="default: epochs in [train] of config.txt"
    )


def load_config(args: argparse.Namespace) -> Config:
    """Reads config.txt and applies the flags that go before it.

    Raises:
        ConfigError: Either is wrong.
    """
    config = read_config(args.config)
    for key, (section, _) in _OVERRIDES.items():
        value = getattr(args, key, None)
        if value is not None:
            config = override(config, section, key, value, flag=f"--{key}")
    return config


def epoch_range(args: argparse.Namespace, config: Config) -> range:
    """The epochs that --epoch_start and --epoch_end name.

    Raises:
        ConfigError: They name none, or go past the end of a cosine schedule.
    """
    train = config.train
    end = train.epochs if args.epoch_end is None else args.epoch_end
    if args.epoch_start < 0:
        raise ConfigError(f"--epoch_start = {args.epoch_start} (must be at least 0)")
    if end <= args.epoch_start:
        raise ConfigError(
            f"--epoch_end = {end} (must be above --epoch_start = {args.epoch_start})"
        )
    if train.schedule == "cosine" and end > train.epochs:
        raise ConfigError(
            f"--epoch_end = {end} (the cosine schedule ends at [train] epochs = "
            f"{train.epochs}; raise that)"
        )
    return range(args.epoch_start, end)


def run_folder(args: argparse.Namespace, config: Config) -> Path:
    """The folder of the run that --run_folder names.

    Raises:
        ConfigError: That is no plain name.
    """
    name = args.run_folder
    if name != Path(name).name or name.startswith("."):
        raise ConfigError(
            f"--run_folder = {name!r} (must be a plain name; its folder is in "
            f"{config.train.saved_models_folder})"
        )
    return config.train.saved_models_folder / name


def make_folder(path: Path, setting: str) -> None:
    """Creates a folder to write to, unless it is there.

    Args:
        path: The folder.
        setting: Where the user gave it, such as "[train] buffer_folder".

    Raises:
        ConfigError: It cannot be created, or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be created: {error.strerror} (see {setting})"
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: cannot be written to (see {setting})")


def command_for(script: str, args: argparse.Namespace, **flags) -> str:
    """The command line that starts a script with the same configuration.

    A flag whose value is None is one without a value.
    """
    given = {"config": args.config} if args.config != "config.txt" else {}
    words = [
        f"--{name}" if value is None else f"--{name}={shlex.quote(str(value))}"
        for name, value in {**given, **flags}.items()
    ]
    return " ".join(["python3", script, *words])


def say(line: str) -> None:
    """Prints a line for the user, on stderr, above a bar if there is one."""
    tqdm.write(line, file=sys.stderr)


class _PatientStream:
    """A stream whose reader may go, or whose disk may fill up, without any harm.

    A terminal that is gone must not keep a training from being saved.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


class _LogLines:
    """A stream for a bar that goes to a file: each drawing becomes a line."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self._stream.write(line + "\n")

    def flush(self) -> None:
        self._stream.flush()


def progress_bar(**settings) -> tqdm:
    """A tqdm bar; one line every half minute where stderr is not a terminal."""
    if sys.stderr.isatty():
        return tqdm(mininterval=0.2, dynamic_ncols=True, **settings)
    # The delay keeps the empty bar at the start out of the file.
    lines = _LogLines(sys.stderr)
    return tqdm(
        mininterval=30, maxinterval=60, delay=1, file=lines, ncols=120, **settings
    )


class StatusBar:
    """A bar whose position may go either way, with a line of text behind it."""

    def __init__(self, bar_format: str):
        """Draws nothing yet.

        Args:
            bar_format: tqdm's, with {desc}, {n_fmt}, {total_fmt}, {bar}, and {unit}
                for the text (before {postfix}, its proper place, tqdm puts a comma).
        """
        self._bar = progress_bar(bar_format=bar_format, total=1)
        # Once a second is enough: what is drawn may be costly to find out.
        self._interval_seconds = max(1.0, self._bar.mininterval)
        self._drawn_at = time.monotonic() - self._interval_seconds

    def __enter__(self) -> "StatusBar":
        return self

    def __exit__(self, *exception) -> None:
        # What it shows last is old news by now, and tqdm would draw it once more.
        self._bar.leave = False
        self._bar.close()

    def is_due(self) -> bool:
        """Whether the last drawing is old enough for another."""
        return time.monotonic() - self._drawn_at >= self._interval_seconds

    def draw(self, description: str, done: int, total: int, text: str) -> None:
        """Draws the bar anew, whether it is due or not."""
        self._drawn_at = time.monotonic()
        self._bar.n, self._bar.total = done, total
        self._bar.unit = text
        self._bar.set_description_str(description)


def run_command(name: str) -> None:
    """Loads a module of resnet50.commands and runs its main function; see ``run``."""
    with loading():
        module = importlib.import_module(f"resnet50.commands.{name}")
    sys.stderr = _PatientStream(sys.stderr)
    run(module.main)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """For imports that take seconds: a stop signal ends the program, without a line."""
    with stop_signals_handled(signal.SIG_DFL):
        yield


def run(main: Callable[[], None]) -> None:
    """Runs a program's main function and exits with its status.

    A UserError ends it with one line on stderr and status 1; a stop signal with status
    130 (see ``resnet50.signals``). Anything else keeps its traceback.
    """
    # A file's name may hold bytes that are no text; stderr copes with them as it is.
    sys.stdout.reconfigure(errors="backslashreplace")
    status = 0
    with StopRequest(raises=True).caught():
        try:
            main()
        except UserError as error:
            print(error, file=sys.stderr)
            status = 1
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            status = 130
        sys.exit(status)
