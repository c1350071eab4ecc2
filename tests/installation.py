"""Installs the project as its users do, in fresh environments, and runs it elsewhere.

    python -m tests.installation
    python -m tests.installation --list
    python -m tests.installation lowest-3.10 newest-3.13

An environment has one Python and, of each dependency, the newest version, the lowest
that pyproject.toml allows (with a wheel for this Python), or the one in uv.lock. The
wheel is made from the sdist, and installed with all dependencies. Then, outside the
checkout: every command's --help, ``init``, the two programs, and an evaluation. Prints,
for each environment, the seconds and megabytes of the installation. Needs uv, the
Pythons (on PATH or pyenv's), and a package index; about a minute each.

``tests/test_installation.py`` runs the same with the packages of its own Python.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from resnet50.commands import COMMANDS
from resnet50.demo.pictures import make_images
from resnet50.installation import DISTRIBUTION
from resnet50.reports.starts import STARTS_FILE, read_starts
from tests.matrix import EnvironmentParser, MissingPythonError, find_python
from tests.settings import PROJECT, SMALL

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
ENVIRONMENTS = [f"{kind}-{v}" for v in VERSIONS for kind in ("newest", "lowest")]
ENVIRONMENTS += [f"locked-{v}" for v in VERSIONS]

# What is in a checkout but not of the project.
_IGNORED = shutil.ignore_patterns(
    ".git", ".*_cache", ".venv*", "__pycache__", "*.egg-info", "build"
)

# Whose versions are printed.
_SHOWN = ("numba", "numpy", "pillow", "simplejpeg", "tensorflow")

_BUILD = "import sys; from setuptools import build_meta as b; print({})"

_HELP = """\
import importlib, io, contextlib, sys
from resnet50.commands import COMMANDS
from resnet50.installation import module_of
for name in COMMANDS:
    sys.argv = [f"resnet50 {name}", "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        with contextlib.suppress(SystemExit):
            importlib.import_module(f"resnet50.commands.{module_of(name)}").main()
    assert f"usage: resnet50 {name} " in output.getvalue(), name
    assert "python3 " not in output.getvalue(), name
    print(name)
"""


class InstallationError(Exception):
    """A step of an installation has failed."""


def run(*words: object, cwd: Path, path: str = "", status: int = 0) -> str:
    """Runs a program; returns its output.

    Args:
        words: The program and its arguments.
        cwd: Its folder.
        path: Precedes the PATH.
        status: The expected one.

    Raises:
        InstallationError: It ends with another status.
    """
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    variables["PATH"] = f"{path}:{variables['PATH']}"
    process = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if process.returncode != status:
        raise InstallationError(f"{shlex.join(process.args)}:\n{process.stdout}")
    return process.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """Builds the sdist from a copy of the checkout, and from it the wheel.

    Returns:
        The paths of both, in the folder.
    """
    source = folder / "checkout"
    shutil.copytree(PROJECT, source, symlinks=True, ignore=_IGNORED)
    program = _BUILD.format("b.build_sdist(sys.argv[1])")
    sdist = run(sys.executable, "-c", program, folder, cwd=source).split()[-1]
    run("tar", "-xf", folder / sdist, cwd=folder)
    unpacked = folder / sdist.removesuffix(".tar.gz")
    program = _BUILD.format("b.build_wheel(sys.argv[1])")
    wheel = run(sys.executable, "-c", program, folder, cwd=unpacked).split()[-1]
    return folder / sdist, folder / wheel


def settings() -> list[str]:
    """Flags --set that make a training small."""
    values = {
        **SMALL,
        "dataset": {"training_images": "images", "validation_images": "images"},
    }
    values["train"] = {**SMALL["train"], "precision": "float32", "epochs": 1}
    return [
        f"--set={section}.{key}={str(value).lower() if value is True else value}"
        for section, keys in values.items()
        for key, value in keys.items()
    ]


def try_installed(binaries: Path, folder: Path, *, evaluate: bool = True) -> None:
    """Runs the installed command ``resnet50`` in an empty folder.

    Args:
        binaries: The folder with the command.
        folder: Is made, outside of any checkout.
        evaluate: Whether to evaluate the training, too.

    Raises:
        InstallationError: A program fails, or prints something else.
    """
    folder.mkdir()

    def call(*words: object) -> str:
        return run(*words, cwd=folder, path=str(binaries))

    def require(condition: bool, what: str) -> None:
        if not condition:
            raise InstallationError(what)

    listed = call(binaries / "python", "-c", _HELP).split()
    require(listed == list(COMMANDS), f"--help: {listed}")
    require(DISTRIBUTION in call("resnet50", "--version"), "--version")
    output = call("resnet50", "init")
    require("    resnet50 train --run_folder=first" in output, output)
    for name in ("config.txt", *(p.relative_to(PROJECT) for p in _recipes())):
        same = (folder / name).read_bytes() == (PROJECT / name).read_bytes()
        require(same, f"{name} differs from that of the checkout")
    make_images(folder / "images", 1, 1, with_odd_files=False)
    flags = ["--config=recipes/he2015.txt", *settings(), "--set=train.schedule=cosine"]
    call("resnet50", "stats", *flags)
    _train(call, flags, folder, str(binaries))
    (start,) = read_starts(folder / "saved_models" / "first" / STARTS_FILE)
    command = shlex.join(["resnet50", "train", "--run_folder=first", *flags])
    require(start["command"] == command, start["command"])
    require(start["settings"]["train"]["schedule"] == "cosine", str(start["settings"]))
    if not evaluate:
        return
    output = call("resnet50", "evaluate", "--run_folder=first", *flags)
    require("epoch 0: top-1" in output, output)
    require("resnet50 plot --config=recipes/he2015.txt --set=" in output, output)


def _recipes() -> list[Path]:
    return sorted((PROJECT / "recipes").glob("*.txt"))


def _train(call, flags: list[str], folder: Path, path: str) -> None:
    """Starts the trainer, and the preprocessor with the command that it prints."""
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    variables["PATH"] = f"{path}:{variables['PATH']}"
    with subprocess.Popen(
        ["resnet50", "train", "--run_folder=first", *flags],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as trainer:
        output = ""
        for line in trainer.stdout:
            output += line
            if line.startswith("    resnet50 preprocess "):
                call("sh", "-c", line)
    if trainer.returncode:
        raise InstallationError(f"resnet50 train:\n{output}")


def install(environment: str, wheel: Path, folder: Path) -> str:
    """Installs the wheel with all dependencies; returns a line about it.

    Raises:
        InstallationError: The installation fails.
        MissingPythonError: The interpreter is missing.
    """
    kind, version = environment.split("-")
    python = find_python(f"python{version}")
    target = folder / "environment"
    run("uv", "venv", "--python", python, target, cwd=folder)
    flags = ["--python", python, "--quiet", "--output-file", folder / "versions.txt"]
    if kind == "locked":
        export = ("uv", "export", "--frozen", "--no-emit-project", "--no-hashes")
        run(*export, *flags, cwd=PROJECT)
    else:
        # Only the dependencies in the file are direct; those of a wheel are not.
        resolution = "lowest-direct" if kind == "lowest" else "highest"
        flags += ["--only-binary", ":all:", "--resolution", resolution]
        run("uv", "pip", "compile", *flags, PROJECT / "pyproject.toml", cwd=folder)
    started = time.monotonic()
    flags = ["--python", target, "--constraint", folder / "versions.txt"]
    run("uv", "pip", "install", *flags, wheel, cwd=folder)
    seconds = time.monotonic() - started
    size = int(run("du", "-sm", target, cwd=folder).split()[0])
    packages = run("uv", "pip", "list", "--python", target, cwd=folder).splitlines()[2:]
    versions = dict(line.split()[:2] for line in packages)
    shown = ", ".join(f"{name} {versions[name]}" for name in _SHOWN)
    return f"{len(packages)} packages, {size:,} MB, {seconds:.0f} s; {shown}"


def main() -> None:
    """Tries the environments that the command line names, or all."""
    args = EnvironmentParser(__doc__, ENVIRONMENTS).parse()
    if args.list:
        print(*ENVIRONMENTS, sep="\n")
        return
    has_failed = False
    with tempfile.TemporaryDirectory() as folder:
        _, wheel = build(Path(folder))
        for name in args.names:
            working = Path(folder, name)
            working.mkdir()
            try:
                line = f"ok      {name:12} {install(name, wheel, working)}"
                try_installed(working / "environment" / "bin", working / "work")
            except (InstallationError, MissingPythonError) as error:
                line, has_failed = f"FAILED  {name:12} {error}", True
            print(line, flush=True)
            with contextlib.suppress(OSError):
                shutil.rmtree(working)
    sys.exit(has_failed)


if __name__ == "__main__":
    main()
