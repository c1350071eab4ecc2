"""Proves what the page about classes says, with few classes and with many.

Whether it looks good is not tested.
"""

import html
import re

import pytest

from resnet50.reports.classes.class_page import build_class_page
from resnet50.reports.classes.mistakes import Mistake, collect_mistakes
from resnet50.reports.classes.predictions import (
    Evaluated,
    read_predictions,
    write_predictions,
)
from tests.reports.classes.examples import (
    make_dataset,
    make_outcomes,
    make_predictions,
)
from tests.reports.test_page import Outline


def build(folder, note="", mistakes=None):
    predictions = read_predictions(folder, None, "")
    mistakes = collect_mistakes(predictions, None) if mistakes is None else mistakes
    return build_class_page("my <run>", predictions, mistakes, note)


def text_of(page):
    """The page's texts, without its tags."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def table_rows(page, heading):
    """The cells of the first table below a heading, by row."""
    table = page.split(f"<h2>{heading}")[1].split("<tbody>")[1].split("</tbody>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [
        [text_of(c) for c in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", r)] for r in rows
    ]


@pytest.fixture(params=[2, 10, 40, 41, 1000])
def num_classes(request):
    return request.param


def test_the_page_is_sound_and_loads_nothing(tmp_path, num_classes):
    make_predictions(tmp_path, num_classes)
    page = build(tmp_path)
    outline = Outline(page)
    assert {"script", "link", "iframe"}.isdisjoint(name for name, _ in outline.tags)
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "What my <run> confuses" in outline.texts
    assert (
        "Epoch 7, averaged weights, 10 crops per image: top-1 75.00%, top-5 100.00% "
        f"of {4 * num_classes:,} images of {num_classes:,} classes."
    ) in outline.texts


def test_few_classes_have_a_matrix_and_many_a_distribution(tmp_path, num_classes):
    make_predictions(tmp_path, num_classes)
    page = build(tmp_path)
    assert ("Confusion matrix" in page) == (num_classes <= 40)
    assert ("The 20 worst classes" in page) == (num_classes > 40)
    # Each class is once in a table, unless it is one of the worst.
    rows = re.findall(r"<small>3 of 4</small>", page)
    assert len(rows) == num_classes + 20 * (num_classes > 40)
    assert page.count("<figure>") == min(num_classes, 24)
    assert len(table_rows(page, "Most confused pairs")) == min(num_classes, 20)
    assert len(page) < 500 * num_classes + 120_000


# Images 0 to 9: class "a" has 4, "b" has 4, "c" has 2, "d" none.
LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
PREDICTED = [0, 0, 1, 1, 1, 2, 1, 3, 2, 2]
SURE = [0.9, 0.9, 0.6, 0.8, 0.9, 0.7, 0.9, 0.5, 0.9, 0.9]


def write(folder, predicted=PREDICTED, classes="abcd", unreadable=(), evaluated=None):
    write_predictions(
        folder,
        evaluated or Evaluated(7, 1, "trained"),
        make_dataset(LABELS, list(classes)),
        tuple(classes),
        make_outcomes(LABELS, predicted, SURE, unreadable),
        is_kept=False,
    )
    return folder


def test_accuracies_pairs_and_matrix_by_hand(tmp_path):
    page = build(write(tmp_path))
    assert table_rows(page, "Accuracy by class, the worst first") == [
        ["a", "50.0% 2 of 4", "2 \N{MULTIPLICATION SIGN} b"],
        ["b", "50.0% 2 of 4", "1 \N{MULTIPLICATION SIGN} c"],
        ["c", "100.0% 2 of 2", ""],
    ]
    assert "Classes without validation images: 1." in page
    assert table_rows(page, "Most confused pairs") == [
        ["a", "b", "2 50.0%"],
        ["b", "c", "1 25.0%"],
        ["b", "d", "1 25.0%"],
    ]
    assert table_rows(page, "Confusion matrix") == [
        ["a", "2", "2", "", ""],
        ["b", "", "2", "1", "1"],
        ["c", "", "", "2", ""],
        ["d", "", "", "", ""],
    ]
    assert re.findall(r'class="s(\d+) right"', page) == ["5", "5", "10", "0"]


def test_the_distribution_of_many_classes_by_hand(tmp_path):
    make_predictions(tmp_path, 50)
    outcomes = read_predictions(tmp_path, None, "").outcomes
    predicted, ranks = outcomes.predicted, outcomes.ranks
    predicted[:8], ranks[:8] = outcomes.labels[:8], 1  # 2 classes have 100 %,
    predicted[8:12], ranks[8:12] = 0, 2  # 1 has 0 %, and the others have 75 %.
    classes = [f"class_{label:03d}" for label in range(50)]
    dataset = make_dataset(outcomes.labels.tolist(), classes)
    evaluated, words = Evaluated(7, 1, "trained"), tuple(classes)
    write_predictions(tmp_path, evaluated, dataset, words, outcomes, is_kept=False)
    page = build(tmp_path)
    counts = [row[1] for row in table_rows(page, "Accuracy by class")]
    assert counts == ["1", "0", "0", "0", "0", "0", "0", "47", "0", "2"]
    assert "between 75.0% and 75.0%; the median is 75.0%." in page


def test_a_mistake_has_its_picture_and_both_classes(tmp_path):
    mistakes = [Mistake(3, b"jpeg", ""), Mistake(5, None, "cannot be read: gone")]
    page = build(write(tmp_path), mistakes=mistakes)
    first, second = re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL)
    assert 'alt="A validation image of a"' in first
    assert 'src="data:image/jpeg;base64,anBlZw=="' in first
    assert text_of(first) == "predicted: b 80.0% true: a 10.0%, rank 2 a/03.png"
    assert text_of(second) == (
        "cannot be read: gone predicted: c 70.0% true: b 15.0%, rank 2 b/05.png"
    )


def test_words_stand_before_names_and_are_escaped(tmp_path):
    make_predictions(tmp_path, 2, words=["tench, Tinca tinca", "<b>"])
    page = build(tmp_path, mistakes=[Mistake(0, b"x", "")])
    assert 'alt="A validation image of tench, Tinca tinca (class_000)"' in page
    assert "<b>&lt;b&gt; <small>class_001</small></b>" in page
    rows = table_rows(page, "Confusion matrix")
    assert [row[0] for row in rows] == ["tench", "<b>"]


def test_a_note_says_why_there_are_no_pictures(tmp_path):
    text = text_of(build(write(tmp_path), note="no pictures: <gone>"))
    assert "Surest mistakes no pictures: <gone>" in text


def test_a_network_without_mistakes_has_a_page(tmp_path):
    text = text_of(build(write(tmp_path, predicted=LABELS)))
    assert "Most confused pairs There are none. Surest mistakes There are none." in text


def test_unreadable_images_are_named(tmp_path):
    text = text_of(build(write(tmp_path, unreadable=[0, 9])))
    assert "Unreadable images, not counted: 2." in text
    assert "Unreadable images: 2 a/00.png: is no image that Pillow knows c/09" in text


def test_imported_weights_have_no_epoch(tmp_path):
    write(tmp_path, evaluated=Evaluated(-1, 1, "trained"))
    assert "Imported weights, 1 crop per image: top-1" in build(tmp_path)
