"""What a network confuses, as one HTML page that needs no other file.

It is for 2, 10 and 1,000 classes, and for narrow screens: with many classes it shows
the distribution and the worst. Each colour repeats a number that stands there too.
"""

import base64
import html
import time
from collections.abc import Iterable, Sequence

import numpy as np

from resnet50.errors import printable_line
from resnet50.reports.classes.mistakes import Mistake
from resnet50.reports.classes.outcomes import count_confusion
from resnet50.reports.classes.predictions import (
    IMPORTED_EPOCH,
    PREDICTIONS_FILE,
    Predictions,
)
from resnet50.reports.page import html_document

# With more classes there is no matrix, and only the worst have bars; with many, the
# matrix has small letters.
_MOST_IN_MATRIX, _MANY_IN_MATRIX = 40, 20
_NUM_WORST, _NUM_PAIRS, _NUM_UNREADABLE = 20, 20, 100

# Parts of 100 %, in the distribution and in the colours of the matrix.
_NUM_PARTS = 10

_CSS = """
h2 { font-size: 1.15rem; margin: 1.8rem 0 .3rem; }
small { color: #555; overflow-wrap: anywhere; }
td { vertical-align: top; }
td.text, th.text { min-width: 6rem; overflow-wrap: anywhere; text-align: left; }
td.bar, th.bar { min-width: 5.5rem; text-align: left; width: 18rem; }
td.bar small, td.number, th.number { white-space: nowrap; }
td.bar div { background: #0072B2; height: .5rem; }
table.matrix { border-collapse: separate; border-spacing: 1px; font-size: .85rem; }
.matrix th, .matrix td { border: 0; min-width: 0; padding: .1rem .3rem; }
.matrix td { border: 2px solid transparent; min-width: 1.1rem; padding: .1rem;
             text-align: center; vertical-align: middle; }
table.dense { font-size: .7rem; }
.matrix td.right { border-color: #222; }
.matrix th span { display: block; overflow: hidden; text-overflow: ellipsis;
                  white-space: nowrap; }
.matrix tbody th { background: #fff; left: 0; position: sticky; text-align: right; }
.matrix tbody th span { max-width: 8rem; }
.matrix thead th span { margin: 0 auto; max-height: 9rem; transform: rotate(180deg);
                        writing-mode: vertical-rl; }
.pictures { display: grid; gap: 1rem; margin: .8rem 0;
            grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
figure { line-height: 1.35; margin: 0; min-width: 0; overflow-wrap: anywhere; }
figure img, figure .none { aspect-ratio: 1; background: #eee; box-sizing: border-box;
                           display: block; object-fit: contain; width: 100%; }
figure .none { padding: .6rem; }
figcaption div { font-size: .9rem; margin-top: .2rem; }
figcaption small { font-weight: normal; }
@media (max-width: 600px) {
  th, td { padding: .15rem .3rem; }
  td.bar, th.bar { width: auto; }
  table.matrix { font-size: .75rem; }
  .matrix th, .matrix td { min-width: .9rem; padding: .1rem; }
  .matrix tbody th span { max-width: 5.5rem; }
}
"""


def _matrix_css() -> str:
    """The colours of the matrix, from white to dark blue."""
    lines = []
    for part in range(_NUM_PARTS + 1):
        share = part / _NUM_PARTS
        levels = tuple(round(255 + share * (dark - 255)) for dark in (0, 60, 110))
        text = "#fff" if share > 0.5 else "#222"
        lines.append(f".matrix .s{part} {{ background: rgb{levels}; color: {text}; }}")
    return "\n".join(lines)


def _table(columns: dict[str, str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells in HTML. Each column has a title and a CSS class."""

    def line(cells, tag):
        kinds = columns.values()
        inside = "".join(
            f'<{tag} class="{kind}">{cell}</{tag}>' for cell, kind in zip(cells, kinds)
        )
        return f"<tr>{inside}</tr>"

    lines = "\n".join(line(row, "td") for row in rows)
    return (
        f'<div class="wide"><table><thead>{line(columns, "th")}</thead>\n'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _bar(text: str, share: float) -> str:
    return f'{text}<div style="width: {share:.1%}"></div>'


class _ClassPage:
    """The parts of the page, as HTML."""

    def __init__(self, predictions: Predictions):
        self._predictions = predictions
        classes = list(zip(predictions.class_names, predictions.class_words))
        # For alternative texts, for cells, and for the edges of the matrix.
        self._titles = [f"{words} ({n})" if words else n for n, words in classes]
        self._cells = [
            html.escape(words or n) + f" <small>{html.escape(n)}</small>" * bool(words)
            for n, words in classes
        ]
        self._short = [html.escape((words or n).split(",")[0]) for n, words in classes]
        self._confusion = count_confusion(predictions.outcomes, len(classes))
        num_images = self._confusion.num_images
        self._shares = self._confusion.num_right / np.maximum(num_images, 1)
        order = np.argsort(self._shares, kind="stable")
        self._worst_first = order[num_images[order] > 0].tolist()

    def summary(self) -> str:
        """What was evaluated, and the accuracy over all images."""
        epoch, crops, weights = self._predictions.evaluated
        what = (
            "Imported weights"
            if epoch == IMPORTED_EPOCH
            else f"Epoch {epoch}, {weights} weights"
        )
        total, right, top5 = (int(counts.sum()) for counts in self._confusion[:3])
        lines = [
            f"{what}, {crops} {'crop' if crops == 1 else 'crops'} per image: "
            f"top-1 {right / total:.2%}, top-5 {top5 / total:.2%} "
            f"of {total:,} images of {len(self._titles):,} classes."
        ]
        if num_empty := len(self._titles) - len(self._worst_first):
            lines.append(f"Classes without validation images: {num_empty:,}.")
        if num_unreadable := len(self._predictions.outcomes.unreadable):
            lines.append(f"Unreadable images, not counted: {num_unreadable:,}.")
        return f"<p>{html.escape(' '.join(lines))}</p>"

    def accuracies(self) -> str:
        """The accuracy of each class, the worst first."""
        worst, title = self._worst_first, "Accuracy by class"
        if len(worst) <= _MOST_IN_MATRIX:
            return f"<h2>{title}, the worst first</h2>{self._class_table(worst)}"
        return (
            f"<h2>{title}</h2>{self._distribution()}"
            f"<h2>The {_NUM_WORST} worst classes</h2>"
            f"{self._class_table(worst[:_NUM_WORST])}"
            f"<details><summary>All {len(worst):,} classes, the worst first</summary>"
            f"{self._class_table(worst)}</details>"
        )

    def _class_table(self, labels: Sequence[int]) -> str:
        taken_for = {pair.label: pair for pair in self._confusion.wrong_pairs[::-1]}
        rows = []
        for label in labels:
            total, right, _ = (int(counts[label]) for counts in self._confusion[:3])
            text = f"{right / total:.1%} <small>{right:,} of {total:,}</small>"
            other = ""
            if pair := taken_for.get(label):
                other = f"{pair.num_images:,} &times; {self._cells[pair.predicted]}"
            rows.append((self._cells[label], _bar(text, right / total), other))
        columns = {"class": "text", "top-1": "bar", "most often taken for": "text"}
        return _table(columns, rows)

    def _distribution(self) -> str:
        shares = self._shares[self._worst_first]
        low, median, high = np.quantile(shares, (0.25, 0.5, 0.75))
        parts = np.minimum(shares * _NUM_PARTS, _NUM_PARTS - 1).astype(int)
        counts = np.bincount(parts, minlength=_NUM_PARTS).tolist()
        width = 100 // _NUM_PARTS
        rows = [
            (
                f"{width * part} to {width * (part + 1)} %",
                _bar(f"{number:,}", number / max(counts)),
            )
            for part, number in enumerate(counts)
        ]
        return (
            f"<p>Half of the classes have a top-1 between {low:.1%} and {high:.1%}; "
            f"the median is {median:.1%}.</p>"
            f"{_table({'top-1': 'text', 'classes': 'bar'}, rows)}"
        )

    def matrix(self) -> str:
        """The confusion matrix, if there are few classes."""
        labels = range(len(self._titles))
        if len(labels) > _MOST_IN_MATRIX:
            return ""
        counts = np.zeros((len(labels), len(labels)), int)
        for label, predicted, number in self._confusion.pairs:
            counts[label, predicted] = number

        def head(label: int, scope: str) -> str:
            title, text = html.escape(self._titles[label]), self._short[label]
            return f'<th scope="{scope}" title="{title}"><span>{text}</span></th>'

        def cell(label: int, predicted: int) -> str:
            number = counts[label, predicted]
            part = round(_NUM_PARTS * number / max(counts[label].sum(), 1))
            kind = f"s{part} right" if label == predicted else f"s{part}"
            return f'<td class="{kind}">{number or ""}</td>'

        kinds = "matrix dense" if len(labels) > _MANY_IN_MATRIX else "matrix"
        top = "".join(head(label, "col") for label in labels)
        rows = "\n".join(
            f"<tr>{head(x, 'row')}{''.join(cell(x, y) for y in labels)}</tr>"
            for x in labels
        )
        return (
            "<h2>Confusion matrix</h2><p>A row is a true class, a column is a "
            "predicted class, and a number is how many images. The darker, the larger "
            "is the part of the row; a frame marks right predictions.</p>"
            f'<div class="wide"><table class="{kinds}"><thead><tr><td></td>{top}</tr>'
            f"</thead>\n<tbody>{rows}</tbody></table></div>"
        )

    def pairs(self) -> str:
        """The pairs of classes that are confused most often."""
        pairs = self._confusion.wrong_pairs
        rows = []
        for label, predicted, number in pairs[:_NUM_PAIRS]:
            share = number / int(self._confusion.num_images[label])
            text = f"{number:,} <small>{share:.1%}</small>"
            rows.append((self._cells[label], self._cells[predicted], text))
        title = "<h2>Most confused pairs</h2>"
        if not rows:
            return f"{title}<p>There are none.</p>"
        columns = {"true class": "text", "predicted": "text", "images": "number"}
        return (
            f"{title}{_table(columns, rows)}<p>Percentages are of the images of the "
            f"true class. {len(rows)} of {len(pairs):,} pairs that occur.</p>"
        )

    def mistakes(self, mistakes: list[Mistake], note: str) -> str:
        """The surest wrong predictions, with their pictures; a note on top of them."""
        figures = "\n".join(self._figure(mistake) for mistake in mistakes)
        note = f"<p>{html.escape(note)}</p>" * bool(note)
        text = figures and f'<div class="pictures">{figures}</div>'
        return f"<h2>Surest mistakes</h2>{note}{text or '<p>There are none.</p>'}"

    def _figure(self, mistake: Mistake) -> str:
        outcomes, index = self._predictions.outcomes, mistake.index
        label, predicted = outcomes.labels[index], outcomes.predicted[index]
        name = html.escape(self._predictions.image_names[index])
        picture = ""
        if mistake.picture:
            data = base64.b64encode(mistake.picture).decode()
            alt = html.escape(f"A validation image of {self._titles[label]}")
            picture = f'<img alt="{alt}" src="data:image/jpeg;base64,{data}">'
        elif mistake.reason:
            reason = html.escape(mistake.reason)
            picture = f'<div class="none"><small>{reason}</small></div>'
        return (
            f"<figure>{picture}<figcaption>"
            f"<div>predicted: <b>{self._cells[predicted]}</b> "
            f"{outcomes.probabilities[index]:.1%}</div>"
            f"<div>true: <b>{self._cells[label]}</b> "
            f"{outcomes.label_probabilities[index]:.1%}, "
            f"rank {outcomes.ranks[index]}</div>"
            f"<div><small>{name}</small></div></figcaption></figure>"
        )

    def unreadable(self) -> str:
        """The images that could not be read, folded away."""
        unreadable = self._predictions.outcomes.unreadable
        if not unreadable:
            return ""
        names = self._predictions.image_names
        lines = [
            f"<li>{html.escape(f'{names[index]}: {reason}')}</li>"
            for index, reason in list(unreadable.items())[:_NUM_UNREADABLE]
        ]
        if more := len(unreadable) - len(lines):
            lines.append(f"<li>{more:,} more, named in {PREDICTIONS_FILE}</li>")
        return (
            f"<details><summary>Unreadable images: {len(unreadable):,}</summary>"
            f"<ul>{''.join(lines)}</ul></details>"
        )


def build_class_page(
    run_name: str, predictions: Predictions, mistakes: list[Mistake], note: str
) -> str:
    """The page as HTML; ``note`` says why there are no pictures, or is empty."""
    page = _ClassPage(predictions)
    parts = [
        page.summary(),
        page.accuracies(),
        page.matrix(),
        page.pairs(),
        page.mistakes(mistakes, note),
        page.unreadable(),
        f"<p>Drawn {time.strftime('%Y-%m-%d %H:%M')} from "
        f"{html.escape(predictions.path.name)}.</p>",
    ]
    title = f"What {printable_line(run_name)} confuses"
    return html_document(title, "\n".join(parts), style=_CSS + _matrix_css())
