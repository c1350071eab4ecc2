"""Proves that the site has every page, and that its pictures are small and in use.

The pages themselves are proven by the other tests. Whether mkdocs builds them without a
warning is tested where mkdocs is installed: make site.
"""

import html
import importlib.util
import json
import re
import subprocess
import sys

import pytest
from PIL import Image

from docs import make_pictures, site_hooks
from tests.docs.documents import PAGES, outside_fences
from tests.settings import PROJECT

DOCS = PROJECT / "docs"
NAVIGATION = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")
LISTED = re.findall(r"^ +- .+: ([\w-]+\.(?:md|ipynb))$", NAVIGATION, flags=re.MULTILINE)
PAGE_NAMES = [
    *(site_hooks.site_path(path.relative_to(PROJECT).as_posix()) for path in PAGES),
    *(path.name for path in DOCS.glob("*.ipynb")),
    *(f"api-{room}.md" for room in site_hooks.API_ROOMS),
]
PICTURES = sorted((DOCS / "pictures").iterdir())


def test_every_page_is_in_the_navigation_once():
    assert sorted(LISTED) == sorted(PAGE_NAMES)


@pytest.mark.parametrize(
    ("page", "text", "adapted"),
    [
        ("README.md", "[a](docs/gpu.md#speed)", "[a](gpu.md#speed)"),
        ("README.md", "![a](docs/pictures/b.svg)", "![a](pictures/b.svg)"),
        ("README.md", "[a](LICENSE)", "[a](source/LICENSE.txt)"),
        ("CONTRIBUTING.md", "[a](README.md)", "[a](index.md)"),
        ("docs/gpu.md", "[a](../README.md#b)", "[a](index.md#b)"),
        ("docs/gpu.md", "[a](../CONTRIBUTING.md)", "[a](contributing.md)"),
        ("docs/gpu.md", "[a](code.md), [b](#c)", "[a](code.md), [b](#c)"),
        ("docs/gpu.md", "[a](../config.txt)", "[a](source/config.txt.txt)"),
        ("docs/gpu.md", "[a](https://b.org/c.md)", "[a](https://b.org/c.md)"),
    ],
)
def test_links_lead_to_the_pages_of_the_site(page, text, adapted):
    assert site_hooks.adapt_links(text, page) == adapted
    sources = site_hooks.linked_sources(text, page)
    assert bool(sources) == ("source/" in adapted)
    assert all((PROJECT / path).exists() for path in sources)


def test_only_short_code_in_text_does_not_break():
    inline = "<code>--resume</code> <code>python -m resnet50 status now</code>"
    block = "<pre><span></span><code>make demo\n</code></pre>"
    marked = site_hooks.mark_short_code(inline + block)
    assert marked == inline.replace("<code>-", '<code class="short">-') + block


def test_the_api_of_a_room_has_its_documented_modules():
    page = site_hooks.api_page("pixels")
    assert page.startswith("# resnet50.pixels\n")
    assert "\n## resampling\n\n::: resnet50.pixels.resampling\n" in page
    assert "\n## archives.snappy\n" in site_hooks.api_page("dataset")
    assert "__init__" not in page


def misread_lines(text):
    """Lines that Python-Markdown reads otherwise than a repository's web page.

    It needs an empty line before a list, and 4 or 8 spaces before a paragraph or code
    within a list.
    """
    item, before = re.compile(r" *([*-]|\d+\.) "), ""
    for line in outside_fences(text).splitlines():
        indent = len(line) - len(line.lstrip())
        if before:
            is_above = item.match(before) or before.startswith(" ")
            is_misread = item.match(line) and not is_above
        else:
            is_misread = line and indent not in (0, 4) and indent < 8
        if is_misread:
            yield line
        before = line


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_site_reads_lists_as_they_are_meant(path):
    assert list(misread_lines(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text", ["text\n* item", "1. item\n\n       code", "1. item\n\n   more"]
)
def test_a_list_that_would_be_misread_is_found(text):
    assert list(misread_lines(text)) == [text.splitlines()[-1]]


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_small_and_in_use(path):
    assert path.stat().st_size <= make_pictures.MAX_BYTES
    users = [*PAGES, PROJECT / "mkdocs.yml"]
    assert any(f"pictures/{path.name}" in p.read_text(encoding="utf-8") for p in users)


def test_the_drawing_is_for_light_and_dark_pages():
    drawing = (DOCS / "pictures" / "two-processes.svg").read_text(encoding="utf-8")
    light, dark = drawing.split("@media (prefers-color-scheme: dark)")
    classes = re.findall(r"^  \.([\w]+) \{[^}]*#[0-9a-f]{6}", light, flags=re.MULTILINE)
    assert len(classes) >= 8
    for name in classes:
        assert f"    .{name} {{" in dark, name


def test_the_empty_part_below_a_page_is_cropped():
    page = Image.new("RGB", (40, 100), "white")
    assert make_pictures.without_margin_below(page).size == (40, 100)
    page.paste("black", (5, 10, 20, 30))
    assert make_pictures.without_margin_below(page, margin=7).size == (40, 37)


def test_a_picture_is_saved_with_at_most_the_allowed_bytes(tmp_path, monkeypatch):
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    exact, lossy = tmp_path / "exact.webp", tmp_path / "lossy.webp"
    make_pictures.save_small(noise, exact)
    monkeypatch.setattr(make_pictures, "MAX_BYTES", exact.stat().st_size // 2)
    make_pictures.save_small(noise, lossy)
    assert lossy.stat().st_size <= make_pictures.MAX_BYTES
    with Image.open(exact) as stored:
        assert stored.tobytes() == noise.tobytes()


def test_links_of_the_notebook_lead_to_pages():
    links = '<a href="gpu.md#speed">a</a> <a href="https://b.org/c.md">b</a>'
    adapted = links.replace("gpu.md", "gpu.html")
    assert site_hooks.adapt_notebook_links(links) == adapted


def broken_links(folder):
    """The links of built pages that lead to no file, or to no anchor of a page."""
    texts = {path: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}
    anchors = {p: set(re.findall(r' id="([^"]+)"', text)) for p, text in texts.items()}
    for path, text in texts.items():
        for link in set(re.findall(r' (?:href|src)="([^"]*)"', text)):
            if re.match(r"[a-z]+:|/|javascript", link) or path.name == "404.html":
                continue
            name, _, anchor = html.unescape(link).partition("#")
            file = (folder / name.split("?")[0]) if name else path
            if file == folder:
                file = folder / "index.html"
            if not file.exists() or (anchor and anchor not in anchors.get(file, ())):
                yield path.name, link


def test_a_broken_link_of_a_built_page_is_found(tmp_path):
    page = '<a href="b.html#c"> <a href="a.html#d"> <img src="e.png"> <p id="d">'
    (tmp_path / "a.html").write_text(page)
    assert sorted(broken_links(tmp_path)) == [
        ("a.html", "b.html#c"),
        ("a.html", "e.png"),
    ]


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="needs pip install -e '.[docs]'"
)
def test_mkdocs_builds_the_site_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q"]
    built = subprocess.run(
        [*command, f"--site-dir={tmp_path}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    names = {path.name for path in tmp_path.glob("*.html")}
    assert names == {re.sub(r"\.\w+$", ".html", n) for n in LISTED} | {"404.html"}
    assert list(broken_links(tmp_path)) == []
    index = json.loads((tmp_path / "search" / "search_index.json").read_text())
    found = {entry["location"] for entry in index["docs"]}
    assert "api-handoff.html#resnet50.handoff.buffer.BatchBuffer" in found
    assert "reliability.html#power-cuts" in found
