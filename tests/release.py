"""Checks whether a version can be released, builds it, and prints what is left to do.

    make release
    python -m tests.release --matrix

Prints a line for each step. The first that fails ends the program and says what to
do. Writes only ``dist/``; a person sets the tag and uploads. ``make test`` takes most
of the time, and --matrix an hour more.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import tomli
import yaml

ROOT = Path(__file__).parents[1]

# What the source archive must hold besides the package.
_PROJECT_FILES = ("pyproject.toml", "README.md", "LICENSE")


class StepError(Exception):
    """A step has failed; the text says why, and what to do."""


def run_command(command: list[str], folder: Path, *, is_shown: bool = False) -> str:
    """Runs a command in a folder; returns its output unless the terminal shows it.

    Raises:
        StepError: Its status is not 0.
    """
    pipe = None if is_shown else subprocess.PIPE
    done = subprocess.run(
        command, cwd=folder, text=True, stdout=pipe, stderr=subprocess.STDOUT
    )
    if done.returncode:
        lines = (done.stdout or "").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "see above")
        raise StepError(f"{' '.join(command)} failed: {last}")
    return done.stdout or ""


class Candidate(NamedTuple):
    """What is to be released."""

    root: Path
    run: Callable[..., str] = run_command

    @property
    def version(self) -> str:
        """The version in pyproject.toml."""
        text = (self.root / "pyproject.toml").read_text(encoding="utf-8")
        return tomli.loads(text)["project"]["version"]

    def built(self, suffix: str) -> Path:
        """The file in dist/ that ends so.

        Raises:
            StepError: There is none, or several, or it is of another version.
        """
        files = list((self.root / "dist").glob(f"*{suffix}"))
        if len(files) != 1 or f"-{self.version}" not in files[0].name:
            names = ", ".join(sorted(file.name for file in files)) or "no file"
            raise StepError(
                f"dist/: {names} ends with {suffix}, expected one of version "
                f"{self.version}"
            )
        return files[0]


def check_tree(candidate: Candidate) -> str:
    """The commit, if all is committed."""
    changed = candidate.run(["git", "status", "--porcelain"], candidate.root)
    if changed:
        first = changed.splitlines()[0][3:]
        raise StepError(f"{first} is not committed (commit it, or remove it)")
    commit = candidate.run(["git", "rev-parse", "--short", "HEAD"], candidate.root)
    return f"commit {commit.strip()}"


def require_versions(root: Path, version: str) -> str:
    """The date of a version, if CHANGELOG.md and CITATION.cff agree on both.

    Raises:
        StepError: They do not.
    """
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    if len(titles) < 2 or titles[0] != ("Unreleased", "") or titles[1][0] != version:
        raise StepError(
            "CHANGELOG.md: its first two sections are not [Unreleased] and "
            f"[{version}] - DATE (pyproject.toml has version {version})"
        )
    date = titles[1][1]
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    cited = citation["version"], str(citation["date-released"])
    if cited != (version, date):
        raise StepError(
            f"CITATION.cff: {cited[0]} of {cited[1]}, expected {version} of {date} "
            "(set version and date-released)"
        )
    return date


def check_versions(candidate: Candidate) -> str:
    """The version, if no tag has it and all files agree on it."""
    version, root = candidate.version, candidate.root
    date = require_versions(root, version)
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if text.split("## [Unreleased]\n")[1].split("\n## [")[0].strip():
        raise StepError(
            f"CHANGELOG.md: [Unreleased] is not empty (move its lines to [{version}], "
            "or raise the version)"
        )
    if candidate.run(["git", "tag", "--list", f"v{version}"], root).strip():
        raise StepError(f"tag v{version} exists (raise version in pyproject.toml)")
    return f"version {version} of {date}"


def check_tests(candidate: Candidate) -> str:
    """That ruff, mypy and the tests pass."""
    candidate.run(["make", "test"], candidate.root, is_shown=True)
    return "make test passes"


def check_matrix(candidate: Candidate) -> str:
    """That the tests pass on imitated processors and with other Pythons."""
    command = [sys.executable, "-m", "tests.matrix"]
    candidate.run(command, candidate.root, is_shown=True)
    return "tests.matrix passes"


def build(candidate: Candidate) -> str:
    """Builds wheel and source archive into dist/."""
    shutil.rmtree(candidate.root / "dist", ignore_errors=True)
    candidate.run([sys.executable, "-m", "build"], candidate.root)
    wheel, archive = candidate.built(".whl"), candidate.built(".tar.gz")
    return f"{wheel.name}, {archive.name}"


def _package_files(candidate: Candidate) -> Iterator[str]:
    """The package's files; git lists a link to a folder, which is copied, as one."""
    listed = candidate.run(["git", "ls-files", "resnet50"], candidate.root)
    for name in listed.splitlines():
        path = candidate.root / name
        if path.is_dir():
            yield from (f"{name}/{inner.name}" for inner in path.iterdir())
        else:
            yield name


def check_contents(candidate: Candidate) -> str:
    """That both files have the whole package, and the wheel no other one."""
    package = set(_package_files(candidate))
    with zipfile.ZipFile(candidate.built(".whl")) as wheel:
        in_wheel = set(wheel.namelist())
    with tarfile.open(candidate.built(".tar.gz")) as archive:
        in_archive = {name.partition("/")[2] for name in archive.getnames()}
    for where, lacking in (
        ("the wheel", package - in_wheel),
        ("the source archive", package.union(_PROJECT_FILES) - in_archive),
    ):
        if lacking:
            raise StepError(
                f"{where} lacks {min(lacking)} (see [tool.setuptools] in "
                "pyproject.toml, and MANIFEST.in)"
            )
    roots = {name.split("/")[0] for name in in_wheel}
    if foreign := {root for root in roots if not root.startswith("resnet50")}:
        raise StepError(f"the wheel contains {min(foreign)}, which is not the package")
    return f"{len(package)} files of the package in both"


def check_description(candidate: Candidate) -> str:
    """That a package index can show the description."""
    if importlib.util.find_spec("twine") is None:
        return "not checked: twine is not installed (pip install twine)"
    files = [str(candidate.built(suffix)) for suffix in (".whl", ".tar.gz")]
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    candidate.run(command, candidate.root)
    return "twine accepts the description"


def check_installation(candidate: Candidate) -> str:
    """That the wheel, alone in a new environment, lists its commands."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        candidate.run([sys.executable, "-m", "venv", str(folder / "venv")], folder)
        programs = folder / "venv" / "bin"
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
        candidate.run([*pip, str(candidate.built(".whl"))], folder)
        shown = candidate.run([str(programs / "resnet50"), "--help"], folder)
    if "doctor" not in shown:
        raise StepError("resnet50 --help, from the wheel, does not list the commands")
    return "the wheel installs, and resnet50 lists its commands"


STEPS: dict[str, Callable[[Candidate], str]] = {
    "tree": check_tree,
    "versions": check_versions,
    "tests": check_tests,
    "matrix": check_matrix,
    "build": build,
    "contents": check_contents,
    "description": check_description,
    "installation": check_installation,
}

LEFT_TO_DO = """
Left to do, by a person:
    git tag --annotate v{version} --message 'Version {version}'
    git push origin v{version}
    python -m twine upload dist/*
    publish the section [{version}] of CHANGELOG.md as the notes of the release"""


def release(candidate: Candidate, names: list[str]) -> bool:
    """Makes some steps; prints a line for each; returns whether all have succeeded."""
    for name in names:
        try:
            result = STEPS[name](candidate)
        except StepError as error:
            print(f"FAILED  {name:12}  {error}", flush=True)
            return False
        print(f"ok      {name:12}  {result}", flush=True)
    print(LEFT_TO_DO.format(version=candidate.version))
    return True


def main() -> None:
    """Makes all steps, the matrix only if it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--matrix", action="store_true", help="run tests.matrix, too: an hour or more"
    )
    args = parser.parse_args()
    names = [name for name in STEPS if args.matrix or name != "matrix"]
    sys.exit(0 if release(Candidate(ROOT), names) else 1)


if __name__ == "__main__":
    main()
