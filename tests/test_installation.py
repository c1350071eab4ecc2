"""Proves that the sdist and the wheel are complete, and which commands exist where.

``python -m tests.installation`` installs all dependencies afresh, too.
"""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from resnet50 import installation
from resnet50.commands import COMMANDS
from tests import installation as installed
from tests.settings import PROJECT

# Older ones do not know the form of pyproject.toml.
needs_setuptools = pytest.mark.skipif(
    Version(metadata.version("setuptools")) < Version("77"),
    reason="needs setuptools 77 (pip install '.[tests]')",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The paths of an sdist and of the wheel that was made from it."""
    return installed.build(tmp_path_factory.mktemp("built"))


@needs_setuptools
def test_the_sdist_is_the_whole_project(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("is not a checkout of git")
    files = {name for name in listed.stdout.splitlines() if (PROJECT / name).exists()}
    assert {n for n in files - names if not n.startswith(".")} == set()
    # A folder, not the link to one.
    assert "resnet50/shipped/recipes/he2015.txt" in names


@needs_setuptools
def test_the_wheel_has_all_modules_and_what_init_writes(built):
    with zipfile.ZipFile(built[1]) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
    package = PROJECT / "resnet50"
    modules = {str(path.relative_to(PROJECT)) for path in package.rglob("*.py")}
    recipes = {f"recipes/{path.name}" for path in (PROJECT / "recipes").iterdir()}
    shipped = {f"resnet50/shipped/{name}" for name in {"config.txt", *recipes}}
    assert names == modules | shipped | {"resnet50/py.typed"}


@needs_setuptools
def test_the_installed_command_works_outside_the_checkout(built, tmp_path):
    """In an environment of its own, which sees the dependencies of this one."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    command = [environment / "bin" / "pip", "install", "--no-deps", "--no-index"]
    subprocess.run([*command, "--quiet", built[1]], check=True)
    (packages,) = environment.glob("lib/*/site-packages")
    # A path in a .pth file is searched last, and its own .pth files are not read.
    own = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    paths = [p for p in sys.path if Path(p).name == "site-packages"]
    lines = dict.fromkeys([*own, *site.getsitepackages(), *paths])
    (packages / "dependencies.pth").write_text("\n".join(lines))
    installed.try_installed(environment / "bin", tmp_path / "work", evaluate=False)


@pytest.mark.parametrize(
    ("program", "command", "typed"),
    [
        ("train.py", "preprocess", "python3 runtime_preprocessing.py"),
        ("train.py", "preview", "python3 -m resnet50 preview"),
        ("/a b/train.py", "stats", "python3 '/a b/compute_channel_stats.py'"),
        ("resnet50 train", "preprocess", "resnet50 preprocess"),
        ("resnet50 init", "weights import FILE", "resnet50 weights import FILE"),
        ("python3 -m resnet50 init", "train", "python3 -m resnet50 train"),
        ("python3 -m resnet50 train", "status", "python3 -m resnet50 status"),
    ],
)
def test_a_command_is_printed_as_its_user_started_the_program(
    tmp_path, monkeypatch, program, command, typed
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [program])
    assert installation.typed(command) == typed


def test_where_the_scripts_are_they_are_printed(monkeypatch):
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr("sys.argv", ["python3 -m resnet50 init"])
    assert installation.typed("train") == "python3 train.py"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["resnet50 train", "--run_folder=a b"], "resnet50 train '--run_folder=a b'"),
        (["a b/train.py", "--resume"], "'a b/train.py' --resume"),
        (["train.py", "--set=a.b=h://me:secret@c/d?e=f"], "train.py --set=a.b=h://c/d"),
    ],
)
def test_the_command_line_that_a_run_records(monkeypatch, words, line):
    monkeypatch.setattr("sys.argv", words)
    assert installation.typed_command_line() == line


def test_every_command_has_a_module_and_every_script_a_command():
    commands = {path.stem for path in (PROJECT / "resnet50/commands").glob("[a-z]*.py")}
    assert {installation.module_of(name) for name in COMMANDS} == commands
    scripts = {path.name for path in PROJECT.glob("*.py")}
    assert set(installation.SCRIPTS.values()) == scripts


def test_what_is_shipped_is_what_lies_at_the_top():
    for name in ("config.txt", "recipes"):
        assert (installation.SHIPPED / name).samefile(PROJECT / name)


def test_the_environments_are_all_pythons_that_are_allowed():
    assert installed.ENVIRONMENTS[0] == "newest-3.10"
    words = [sys.executable, "-m", "tests.installation", "--list"]
    variables = {**os.environ, "PYTHONPATH": str(PROJECT)}
    output = subprocess.run(
        words, cwd=PROJECT, env=variables, capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == installed.ENVIRONMENTS
    assert shutil.which("python3")


def test_the_lock_file_is_of_these_dependencies():
    """Otherwise `uv lock` renews it."""
    project = tomli.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    declared = [*project["dependencies"], *(r for extra in extras for r in extra)]
    packages = tomli.loads((PROJECT / "uv.lock").read_text())["package"]
    (own,) = [p for p in packages if p["name"] == installation.DISTRIBUTION]
    locked = own["metadata"]["requires-dist"]
    assert {(r["name"], SpecifierSet(r.get("specifier", ""))) for r in locked} == {
        (r.name, r.specifier) for r in map(Requirement, declared)
    }
