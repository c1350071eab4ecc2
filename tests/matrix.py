"""Runs the suite as other machines would: other processors, thread counts, Pythons.

    make test-matrix
    python -m tests.matrix --list
    python -m tests.matrix onednn-sse41 python3.12
    python -m tests.matrix --whole onednn-sse41

Each environment runs the tests that can depend on it; with --whole, all of them. Other
processors are imitated: oneDNN, numba and OpenBLAS use the instructions that variables
allow. Each Python gets a virtual environment of its own, ``.venv-3.12`` and so on, and
one gets the lowest versions of all dependencies that pyproject.toml allows, by uv.
Prints a line per environment, and exits with 1 if a test failed or a Python is missing.
In all about an hour on two cores.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

# What TensorFlow computes, and what compares it with other code.
NETWORK_TESTS = (
    "tests/network",
    "tests/training",
    "tests/test_train_step_benchmark.py",
)
# What makes the bytes of a batch.
PIXEL_TESTS = ("tests/pixels", "tests/dataset", "tests/preprocessing")
ALL_TESTS = ("tests",)


class Environment(NamedTuple):
    """One imitated machine.

    Attributes:
        tests: Files and folders of the tests that can depend on it.
        variables: Set for these tests.
        python: The interpreter's name; "" for the one that runs this program.
        has_lowest: Whether the dependencies have their lowest versions.
    """

    tests: tuple[str, ...]
    variables: Mapping[str, str] = MappingProxyType({})
    python: str = ""
    has_lowest: bool = False


def threads(count: int) -> dict[str, str]:
    """Variables that give TensorFlow and BLAS so many threads."""
    names = (
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    )
    return dict.fromkeys(names, str(count))


ENVIRONMENTS = {
    "this-machine": Environment(ALL_TESTS),
    "onednn-sse41": Environment(NETWORK_TESTS, {"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    "onednn-avx2": Environment(NETWORK_TESTS, {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "onednn-avx512": Environment(NETWORK_TESTS, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    "no-onednn": Environment(NETWORK_TESTS, {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    "1-thread": Environment(NETWORK_TESTS, threads(1)),
    "8-threads": Environment(NETWORK_TESTS, threads(8)),
    "numba-generic": Environment(PIXEL_TESTS, {"NUMBA_CPU_NAME": "generic"}),
    "numba-disabled": Environment(PIXEL_TESTS, {"NUMBA_DISABLE_JIT": "1"}),
    "blas-prescott": Environment(PIXEL_TESTS, {"OPENBLAS_CORETYPE": "Prescott"}),
    "lowest": Environment(ALL_TESTS, python="python3.10", has_lowest=True),
    "python3.10": Environment(ALL_TESTS, python="python3.10"),
    "python3.12": Environment(ALL_TESTS, python="python3.12"),
    "python3.13": Environment(ALL_TESTS, python="python3.13"),
}


class MissingPythonError(Exception):
    """An interpreter is not on this machine."""


def find_python(name: str) -> str:
    """The path of an interpreter, on PATH or among pyenv's.

    Raises:
        MissingPythonError: It is in neither.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    version = name.removeprefix("python")
    # pyenv's own first: its shims on PATH answer for versions that are not chosen.
    installed = sorted(pyenv.glob(f"{version}.*/bin/{name}"))
    if installed:
        return str(installed[-1])
    found = shutil.which(name)
    if found is None:
        raise MissingPythonError(f"{name} is not installed")
    return found


def install(name: str, *, has_lowest: bool = False) -> Path:
    """Makes ``.venv-VERSION`` with the project in it, or brings it up to date.

    Args:
        name: The interpreter's name.
        has_lowest: Whether the dependencies have their lowest versions.

    Returns:
        The path of its interpreter.

    Raises:
        MissingPythonError: The interpreter is missing.
        subprocess.CalledProcessError: The installation failed.
    """
    folder = ROOT / f".venv-{name.removeprefix('python')}{'-lowest' * has_lowest}"
    if not (folder / "bin" / "python").exists():
        subprocess.run([find_python(name), "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if has_lowest:
        subprocess.run([*pip, "uv"], check=True)
        uv = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python]
        uv += ["--only-binary", ":all:", "--resolution", "lowest-direct"]
        # The dependencies in the file are direct; those of a package are not.
        uv += ["--requirements", "pyproject.toml", "--extra", "tests"]
        subprocess.run(uv, cwd=ROOT, check=True)
        pip += ["--no-deps"]
    subprocess.run([*pip, "--editable", f"{ROOT}[tests]"], check=True)
    return python


def run_tests(environment: Environment, *, whole: bool, extra: list[str]) -> str:
    """Runs an environment's tests; their output goes to the terminal.

    Returns:
        pytest's last line, such as "842 passed, 3 skipped in 240.1s".

    Raises:
        MissingPythonError: The interpreter is missing.
        subprocess.CalledProcessError: The installation or a test failed.
    """
    python = sys.executable
    if environment.python:
        python = install(environment.python, has_lowest=environment.has_lowest)
    tests = ALL_TESTS if whole else environment.tests
    command = [python, "-m", "pytest", "--color=no", *tests, *extra]
    last = ""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            if re.search(r"\d+ (passed|failed|error)", line):
                last = line.strip().strip("= ")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, last)
    return last


def results(names: list[str], *, whole: bool, extra: list[str]) -> Iterator[str]:
    """Yields a line for each environment: "ok" or "FAILED", its name, what happened."""
    for name in names:
        print(f"\n----- {name} -----", flush=True)
        started = time.monotonic()
        try:
            outcome = run_tests(ENVIRONMENTS[name], whole=whole, extra=extra)
            status = "ok"
        except MissingPythonError as error:
            status, outcome = "FAILED", str(error)
        except subprocess.CalledProcessError as error:
            status, outcome = "FAILED", error.output or str(error)
        minutes = (time.monotonic() - started) / 60
        yield f"{status:6}  {name:15} {minutes:5.1f} min  {outcome}"


class EnvironmentParser(argparse.ArgumentParser):
    """Takes the names of environments, all if there are none, and --list."""

    def __init__(self, description: str, environments: Iterable[str]):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._environments = list(environments)
        self.add_argument("names", nargs="*", metavar="NAME", help="default: all")
        self.add_argument("--list", action="store_true", help="list the environments")

    def parse(self) -> argparse.Namespace:
        """Reads the command line."""
        args = self.parse_args()
        unknown = [name for name in args.names if name not in self._environments]
        if unknown:
            self.error(f"{unknown[0]} is none of {', '.join(self._environments)}")
        args.names = args.names or self._environments
        return args


def main() -> None:
    """Runs the environments that the command line names, or all."""
    parser = EnvironmentParser(__doc__, ENVIRONMENTS)
    parser.add_argument(
        "--whole", action="store_true", help="run the whole suite in each environment"
    )
    parser.add_argument(
        "--pytest", default="", metavar="OPTIONS", help="more options for pytest"
    )
    args = parser.parse()
    if args.list:
        for name, (tests, variables, python, has_lowest) in ENVIRONMENTS.items():
            settings = [python] if python else []
            settings += [f"{k}={v}" for k, v in variables.items()]
            settings += ["lowest versions"] if has_lowest else []
            print(f"{name:15} {' '.join(settings)}  {' '.join(tests)}")
        return
    lines = list(results(args.names, whole=args.whole, extra=args.pytest.split()))
    print("\n" + "\n".join(lines))
    sys.exit(any(line.startswith("FAILED") for line in lines))


if __name__ == "__main__":
    main()
