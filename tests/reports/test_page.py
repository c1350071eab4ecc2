"""Proves what the picture and the page show, and that the page needs no other file.

Whether they look good is not tested.
"""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from resnet50.reports import diagrams
from resnet50.reports.curves import PANELS, read_run
from resnet50.reports.page import build_page
from resnet50.reports.tables import METRICS_FILE, write_table
from tests.reports.runs import make_run, metrics_row

# Elements without an end tag.
VOID = {"meta", "br", "img"}


class Outline(HTMLParser):
    """Checks that elements are nested; keeps tags with attributes, and texts."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(
    params=[(1, []), (3, [2]), (90, range(4, 90, 5))],
    ids=["one epoch", "three epochs", "ninety epochs"],
)
def run(request, tmp_path):
    num_epochs, evaluated = request.param
    return read_run(make_run(tmp_path / "my <run> & more", num_epochs, evaluated))


def test_the_page_has_every_panel_and_every_number(run):
    outline = Outline(build_page([run], reloads=False))
    labels = [tag[1].get("aria-label") for tag in outline.tags]
    for panel in PANELS:
        assert panel.title in labels
        assert panel.title in outline.texts  # Inside its diagram.
    for rows in (run.metrics, run.evaluations):
        for row in rows:
            assert {*row.values()} <= {*outline.texts}
    assert run.name in outline.texts
    assert "training" in outline.texts
    assert "if batches were never late" in outline.texts
    assert ("validation, 10 crops" in outline.texts) == bool(run.evaluations)


def test_the_page_loads_nothing(run):
    page = build_page([run], reloads=False)
    outline = Outline(page)
    loading = {"script", "link", "img", "iframe", "object", "embed", "image"}
    assert {name for name, _ in outline.tags}.isdisjoint(loading)
    for _, attributes in outline.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href"):
                assert value.startswith("#")
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []


def test_no_two_elements_of_the_page_have_the_same_id_with_other_content(run):
    """Each diagram refers to its own parts."""
    page = build_page([run], reloads=False)
    found = {}
    for identifier, rest in re.findall(r'<(?:path|clipPath) id="([^"]+)"([^>]*)', page):
        assert found.setdefault(identifier, rest) == rest


def test_a_page_that_is_rewritten_reloads_itself(run):
    assert "refresh" in build_page([run], reloads=True)
    assert "refresh" not in build_page([run], reloads=False)


def test_several_runs_are_named_in_the_legend_and_the_summary(tmp_path):
    names = [f"run_{letter}" for letter in "abcdefghijk"]
    runs = [read_run(make_run(tmp_path / name, 5, [4])) for name in names]
    outline = Outline(build_page(runs, reloads=False))
    for name in names:
        assert outline.texts.count(name) == 2
    styles = diagrams.CurveStyles(runs)
    seen = {styles.style(name, "training")[:2] for name in names}
    assert len(seen) == len(names)  # More runs than colours: colour and marker.


def test_the_summary_follows_from_the_tables(tmp_path):
    folder = make_run(tmp_path / "run", 2, [0, 1])
    rows = [metrics_row(0, seconds=100, images_per_second=100)]
    rows += [metrics_row(1, seconds=300, images_per_second=200, waiting=0.4)]
    write_table(folder / METRICS_FILE, rows)
    texts = Outline(build_page([read_run(folder)], reloads=False)).texts
    assert "2.00% (10 crops, epoch 1)" in texts
    assert "175.0" in texts  # (100 s of 100 and 300 s of 200) / 400 s
    assert "35.0%" in texts  # (100 s of 20 % and 300 s of 40 %) / 400 s


def test_a_column_without_numbers_leaves_a_panel_that_says_so(tmp_path):
    folder = make_run(tmp_path / "run", 1)
    write_table(folder / METRICS_FILE, [metrics_row(e, loss="nan") for e in range(3)])
    run = read_run(folder)
    assert "no values yet" in Outline(build_page([run], reloads=False)).texts
    diagrams.write_picture(tmp_path / "curves.png", [run])


def test_the_picture_is_not_blank(run, tmp_path):
    path = tmp_path / "curves.png"
    diagrams.write_picture(path, [run])
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0, 0] == 255).all()  # A light background.
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3)}
    assert (0x00, 0x72, 0xB2) in colours  # The training's blue.
    # Nothing touches the edge, where it would be cut off.
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    assert all((edge == 255).all() for edge in edges)


def test_a_value_between_two_gaps_has_a_marker():
    gap = float("nan")
    assert diagrams._isolated([1.0, gap, 2.0, gap, 3.0, 4.0]) == [0, 2]
    assert diagrams._isolated([gap, 1.0]) == [1]
