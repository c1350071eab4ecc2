"""Proves that README.md is short and leads on, and that docs/code.md is up to date.

Its tree must list every file, its table must be that of the wall, and the functions on
the way of an image and of a batch must exist and call one another. Commands, links,
numbers and messages of all pages are proven by tests/docs.
"""

import ast
import itertools
import re

import pytest
import tomli
from setuptools import find_packages

from tests.docs.documents import PAGES, read
from tests.settings import PROJECT
from tests.test_wall import MAY_IMPORT


def paths_in(tree):
    """The Python files of an indented tree, each with the folders that it is under."""
    paths, folders = [], {}
    for line in tree.splitlines():
        name = line.split()[0] if line.startswith("    ") else ""
        indent = len(line) - len(line.lstrip())
        if name.endswith(("/", ".py")):
            above = "".join(f for i, f in folders.items() if i < indent)
            folders = {i: f for i, f in folders.items() if i < indent}
        if name.endswith("/"):
            folders[indent] = name
        elif name.endswith(".py"):
            paths.append(above + name)
    return paths


def test_the_tree_lists_every_module_in_its_folder_and_nothing_else():
    tree = section("Files")
    folders = PROJECT.glob("*.py"), (PROJECT / "docs").glob("*.py")
    files = [*itertools.chain(*folders), *(PROJECT / "resnet50").rglob("*.py")]
    assert sorted(paths_in(tree)) == sorted(
        path.relative_to(PROJECT).as_posix()
        for path in files
        if path.name != "__init__.py"
    )


def test_a_file_under_another_folder_is_another_path():
    tree = (
        "    a/   text\n      b/\n        c.py\n      d.py\n          more.\n    e.py"
    )
    assert paths_in(tree) == ["a/b/c.py", "a/d.py", "e.py"]


def test_the_table_of_imports_is_that_of_the_wall():
    table = section("Who may import whom")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\|$", table, flags=re.MULTILINE)
    assert {room: set(re.findall(r"`(\w+)`", cell)) for room, cell in rows} == (
        MAY_IMPORT
    )


def section(title):
    """The text below a heading of docs/code.md."""
    return read("code.md").split(f"\n## {title}\n")[1].split("\n## ")[0]


def definition(name):
    """The syntax tree of a function or class, such as "room.module.Class.method"."""
    path, names = PROJECT / "resnet50", name.split(".")
    while path.is_dir():
        path /= names.pop(0)
        path = path if path.is_dir() else path.with_suffix(".py")
    node = ast.parse(path.read_text(encoding="utf-8"))
    for part in names:
        (node,) = [n for n in node.body if getattr(n, "name", "") == part]
    return node


def names_in(node):
    """The names of all that a function or class may call."""
    names = [getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(node)]
    return set(names)


@pytest.mark.parametrize("title", ["The way of an image", "The way of a batch"])
def test_the_functions_on_the_way_exist_and_call_one_another(title):
    """Each but those that begin a program is named in the module of an earlier one."""
    lines = re.findall(r"^(\d+)\. `([\w.]+)`", section(title), flags=re.MULTILINE)
    assert len(lines) >= 12
    assert [int(number) for number, _ in lines] == list(range(1, len(lines) + 1))
    known = set()
    for _, name in lines:
        definition(name)
        above, _, called = name.removesuffix(".__call__").rpartition(".")
        if called == "__getitem__":
            above, _, called = above.rpartition(".")
        assert called in known | {"main"}, name
        known |= names_in(definition(above))


def test_a_function_that_is_gone_is_not_found():
    with pytest.raises(ValueError, match="not enough values"):
        definition("pixels.augmentation.no_such_function")
    with pytest.raises(FileNotFoundError):
        definition("pixels.no_such_module.augment")


def test_the_packages_that_are_installed_are_all_folders_with_modules():
    """With a new room, too: the list in pyproject.toml is found, not written."""
    settings = tomli.loads((PROJECT / "pyproject.toml").read_text())["tool"]
    patterns = settings["setuptools"]["packages"]["find"]["include"]
    folders = {path.parent for path in (PROJECT / "resnet50").rglob("*.py")}
    assert set(find_packages(PROJECT, include=patterns)) == {
        ".".join(folder.relative_to(PROJECT).parts) for folder in folders
    }


def test_the_readme_is_short_and_leads_to_every_page():
    readme, contributing = read("README.md"), read("CONTRIBUTING.md")
    assert len(readme.splitlines()) <= 120
    for path in [*PAGES[1:], *(PROJECT / "docs").glob("*.ipynb")]:
        name = path.relative_to(PROJECT).as_posix()
        assert f"({name})" in readme + contributing, name


def test_the_readme_begins_with_a_command_and_a_picture_and_has_the_two_programs():
    lines = read("README.md").splitlines()
    assert "    make demo" in lines[:15]
    (picture,) = [n for n, line in enumerate(lines) if line.startswith("![")]
    assert picture < 25
    assert (
        "    python3 runtime_preprocessing.py --epoch_start=0 --epoch_end=30 "
        "--batch_size=64"
    ) in lines
    assert (
        "    python3 train.py --run_folder=mytestrun --epoch_start=0 --epoch_end=30 "
        "--batch_size=64 --learning_rate=0.01"
    ) in lines


def test_the_readme_quotes_the_measurements():
    """Each of its rows about speed begins like one of docs/measurements.md."""
    measured = read("measurements.md")
    quoted = read("README.md").split("## How fast, and what it learns")[1]
    quoted = quoted.split("\n## ")[0]
    rows = [row for row in quoted.splitlines() if row.startswith("| ")][1:]
    assert len(rows) >= 3
    for row in rows:
        assert row in measured, row
    for figure in ("98.0 %", "98.52 %", "98.15 %"):
        assert figure in quoted and figure in measured
    on_a_card = re.findall(r"\d,\d{3}", read("README.md").partition("## ")[0])
    assert len(on_a_card) == 3
    for figure in on_a_card:
        assert figure in read("gpu.md"), figure
