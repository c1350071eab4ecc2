"""Proves that the examples of docs/extending.md work with the code as it is.

The page's changes are applied to a copy of the project, and the page's own tests run
there. Without the changes these tests fail.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs.documents import python_blocks, read
from tests.settings import PROJECT

PAGE = read("extending.md")
DIFFS = re.findall(r"^```diff\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
TESTS = {re.match(r"# (tests/\S+)\n", b)[1]: b for b in python_blocks(PAGE)}


def places(diff):
    """The changes of a diff: file, text before and text after, for each place."""
    for part in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition("\n")
        for place in re.split(r"^@@\n", rest, flags=re.MULTILINE):
            lines = place.splitlines(keepends=True)
            assert all(line[0] in " +-" for line in lines), (name, place)
            before = "".join(line[1:] for line in lines if line[0] != "+")
            after = "".join(line[1:] for line in lines if line[0] != "-")
            yield name, before, after


def apply(diff, folder):
    """Applies a diff to a folder; each place must be in its file exactly once."""
    for name, before, after in places(diff):
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{name} has not once:\n{before}"
        path.write_text(text.replace(before, after), encoding="utf-8")


def copy_project(folder):
    """Copies what the tests need, and adds the page's tests."""
    for name in ("resnet50", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    for name in ("config.txt", "pyproject.toml"):
        shutil.copy(PROJECT / name, folder)
    for path, test in TESTS.items():
        assert not (folder / path).exists()
        (folder / path).write_text(test, encoding="utf-8")
    return folder


def outcomes(folder, tests):
    """Runs tests of the page in a copy: those that passed, and the whole output."""
    options = ("-rA", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *options, *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    output = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    ).stdout
    return set(re.findall(r"^PASSED (\S+)", output, flags=re.MULTILINE)), output


def test_the_examples_work(tmp_path):
    folder = copy_project(tmp_path)
    for diff in DIFFS:
        apply(diff, folder)
    passed, output = outcomes(folder, TESTS)
    assert passed == {
        f"{path}::{name}"
        for path, test in TESTS.items()
        for name in re.findall(r"^def (test_\w+)", test, flags=re.MULTILINE)
    }, output


def test_without_the_changes_no_test_of_the_page_passes(tmp_path):
    """Without TensorFlow, which is slow to load: Adam could not even be imported."""
    light = [path for path, test in TESTS.items() if "tensorflow" not in test]
    passed, output = outcomes(copy_project(tmp_path), light)
    assert passed == set() and len(light) == 2
    assert re.search(r"^3 failed in", output, flags=re.MULTILINE), output


def test_the_page_changes_several_files():
    assert len(TESTS) == 3
    names = {name for diff in DIFFS for name, _, _ in places(diff)}
    assert len(names) >= 5 and all((PROJECT / name).is_file() for name in names)


def test_a_change_whose_place_is_gone_is_refused(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\ny = 2\n")
    apply("--- a.py\n-x = 1\n+x = 3\n@@\n y = 2\n+z = 4\n", tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 3\ny = 2\nz = 4\n"
    with pytest.raises(AssertionError, match="not once"):
        apply("--- a.py\n-x = 1\n+x = 5\n", tmp_path)
