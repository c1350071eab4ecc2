"""Proves that the files about the project have their form, and agree.

tests/test_release.py proves that they have the same version.
"""

import re

import pytest
import tomli
import yaml

from tests.settings import PROJECT

METADATA = tomli.loads((PROJECT / "pyproject.toml").read_text())["project"]
FORMS = sorted((PROJECT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml"))


def load(name):
    return yaml.safe_load((PROJECT / name).read_text(encoding="utf-8"))


def test_the_groups_of_the_changelog_are_those_of_its_form():
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    groups = re.findall(r"^### (.+)$", changelog, flags=re.MULTILINE)
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert groups and set(groups) <= known


def test_the_citation_names_the_licence_and_its_holder():
    citation = load("CITATION.cff")
    assert citation["license"] == METADATA["license"]
    licence = (PROJECT / "LICENSE").read_text()
    holder = re.search(r"Copyright \(c\) \d+ (.+)", licence)[1]
    assert [author["name"] for author in citation["authors"]] == [holder]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_has_what_github_requires(path):
    form = load(path)
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    kinds = {"textarea", "input", "dropdown", "checkboxes"}
    assert fields and {field["type"] for field in fields} <= kinds
    assert all(field["attributes"]["label"] for field in fields)
    names = [field["id"] for field in fields]
    assert len(set(names)) == len(names)


def test_a_bug_report_asks_for_the_doctor():
    form = (PROJECT / ".github" / "ISSUE_TEMPLATE" / "bug_report.yml").read_text()
    assert "`python -m resnet50 doctor`" in form


def test_the_hooks_run_what_make_test_runs_and_download_nothing():
    [repository] = load(".pre-commit-config.yaml")["repos"]
    makefile = (PROJECT / "Makefile").read_text()
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        tool = hook["entry"].removeprefix(".venv/bin/").split(" --force-exclude")[0]
        assert f"$(VENV)/bin/{tool}" in makefile
