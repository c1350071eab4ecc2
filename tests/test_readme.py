"""Proves that README.md is short and leads on, and that docs/code.md lists every file.

Commands, links, numbers and messages of all pages are proven by tests/docs.
"""

from tests.docs.documents import PAGES, read
from tests.settings import PROJECT


def test_the_tree_lists_every_module_and_nothing_else():
    tree = read("code.md").split("## Files")[1].split("## Tests")[0]
    listed = {line.split()[0] for line in tree.splitlines() if line.startswith("    ")}
    modules = {p.name for p in (PROJECT / "resnet50").rglob("*.py")} - {"__init__.py"}
    scripts = {path.name for path in PROJECT.glob("*.py")}
    named = {name for name in listed if name.endswith(".py")}
    assert named == modules | scripts


def test_the_readme_is_short_and_leads_to_every_page():
    readme = read("README.md")
    assert len(readme.splitlines()) <= 200
    for path in PAGES[1:]:
        assert f"(docs/{path.name})" in readme, path.name


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
