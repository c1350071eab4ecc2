"""Proves that README.md is short and leads on, and that docs/code.md lists every file.

Commands, links, numbers and messages of all pages are proven by tests/docs.
"""

import tomli
from setuptools import find_packages

from tests.docs.documents import PAGES, read
from tests.settings import PROJECT


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
    tree = read("code.md").split("## Files")[1].split("## Tests")[0]
    files = [*PROJECT.glob("*.py"), *(PROJECT / "resnet50").rglob("*.py")]
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


def test_the_packages_that_are_installed_are_all_folders_with_modules():
    """With a new room, too: the list in pyproject.toml is found, not written."""
    settings = tomli.loads((PROJECT / "pyproject.toml").read_text())["tool"]
    patterns = settings["setuptools"]["packages"]["find"]["include"]
    folders = {path.parent for path in (PROJECT / "resnet50").rglob("*.py")}
    assert set(find_packages(PROJECT, include=patterns)) == {
        ".".join(folder.relative_to(PROJECT).parts) for folder in folders
    }


def test_the_readme_is_short_and_leads_to_every_page():
    readme = read("README.md")
    assert len(readme.splitlines()) <= 200
    for path in PAGES[1:]:
        name = path.relative_to(PROJECT).as_posix()
        assert f"({name})" in readme, name


def test_the_readme_quotes_the_measurements():
    """Each of its rows about speed begins like one of docs/measurements.md."""
    measured = read("measurements.md")
    quoted = read("README.md").split("## How fast, and what it learns")[1]
    rows = [row for row in quoted.splitlines() if row.startswith("| ")][1:]
    assert len(rows) >= 3
    for row in rows:
        assert row in measured, row
    for figure in ("98.0 %", "98.52 %", "98.15 %"):
        assert figure in quoted and figure in measured
