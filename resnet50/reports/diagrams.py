"""Plots the curves of runs with matplotlib: one picture, or an SVG for each panel.

The colours are from Okabe and Ito 2008, distinct for people with any kind of colour
blindness. Curves of different colours also differ in marker or line. In a plot of one
run each kind of curve has a colour of its own, in a plot of several each run has.
"""

import io
import itertools
import math
import re
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from resnet50.atomic_io import atomic_file
from resnet50.reports.curves import NEVER_LATE, PANELS, TRAINING, Panel, RunRecord

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ((4, 1.5), (1, 1.2), (6, 1.2, 1, 1.2), (3, 1, 1, 1, 1, 1), (8, 2))
_NEVER_LATE_DASHES = (1, 2.5)

# A curve with more epochs than this has only some markers; all would hide the line.
_MOST_MARKERS, _SOME_MARKERS = 30, 8

# Characters of a name in the picture's legend; the page shows the full name.
_LONGEST_NAME = 48

_STYLE = {
    "axes.edgecolor": "#999999",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "font.size": 10,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "svg.fonttype": "none",  # Text stays text.
}


class CurveStyle(NamedTuple):
    """Colour, line and markers of a curve."""

    colour: str
    marker: str
    dashes: tuple[float, ...]  # in line widths; () for a solid line
    width: float = 1.8  # points
    first_marker: float = 0.0  # 0..1 of the way to the second marker

    def line(self, x, y, label: str | None = None) -> Line2D:
        """A line with a marker at each point, or at some of many points."""
        line = Line2D(x, y, color=self.colour, linewidth=self.width, label=label)
        line.set_linestyle((0, self.dashes) if self.dashes else "-")
        line.set(marker=self.marker, markersize=3.4 + self.width)
        line.set_clip_on(False)  # Shows markers at the edge in full.
        if len(x) > _MOST_MARKERS:
            step = len(x) // _SOME_MARKERS
            some = range(round(self.first_marker * step), len(x), step)
            line.set_markevery(sorted({*some, *_isolated(y)}))
        return line


def _isolated(values: list[float]) -> list[int]:
    """Indices of values between gaps, which are invisible without a marker."""
    is_gap = [True, *map(math.isnan, values), True]
    return [i for i in range(len(values)) if is_gap[i : i + 3] == [True, False, True]]


class CurveStyles:
    """The styles of all curves of some runs, and their legend."""

    def __init__(self, runs: list[RunRecord]):
        kinds = {c.kind for run in runs for p in PANELS for c in run.curves(p.column)}
        validation = sorted(kinds - {TRAINING, NEVER_LATE})
        self._dashes = dict(zip(validation, itertools.cycle(_DASHES)))
        self._dashes |= {TRAINING: (), NEVER_LATE: _NEVER_LATE_DASHES}
        order = TRAINING, *validation, NEVER_LATE
        self._kinds = [kind for kind in order if kind in kinds]
        self._names = [run.name for run in runs]

    def style(self, name: str, kind: str) -> CurveStyle:
        """The style of one run's curve of one kind."""
        rank, number = self._names.index(name), len(self._names)
        index = rank if number > 1 else self._kinds.index(kind)
        # Where curves coincide, the later one is narrower and has other markers.
        return CurveStyle(
            _COLOURS[index % len(_COLOURS)],
            _MARKERS[index % len(_MARKERS)],
            self._dashes[kind],
            width=min(1.6 + 0.5 * (number - 1 - rank), 3.1),
            first_marker=rank / number,
        )

    def legend(self) -> list[tuple[str, CurveStyle]]:
        """Texts and styles of each kind of curve, and of each of several runs."""
        if len(self._names) == 1:
            return [(kind, self.style(self._names[0], kind)) for kind in self._kinds]
        names = [(name, self.style(name, TRAINING)) for name in self._names]
        grey = "#555555"
        return names + [
            (kind, CurveStyle(grey, "", self._dashes[kind])) for kind in self._kinds
        ]


def _plot(axes: Axes, panel: Panel, runs: list[RunRecord], styles: CurveStyles) -> None:
    curves = [(run.name, curve) for run in runs for curve in run.curves(panel.column)]
    # The curve "if batches were never late" goes behind the actual speed.
    for name, curve in sorted(curves, key=lambda pair: pair[1].kind != NEVER_LATE):
        axes.add_line(styles.style(name, curve.kind).line(curve.epochs, curve.values))
    axes.set_title(panel.title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    values = [v for _, curve in curves for v in curve.values if not math.isnan(v)]
    if not values:
        axes.text(0.5, 0.5, "no values yet", transform=axes.transAxes, ha="center")
        axes.set(xticks=[], yticks=[])
        return
    axes.autoscale_view()
    _scale(axes, panel, values)
    epochs = [epoch for _, curve in curves for epoch in curve.epochs]
    if min(epochs) == max(epochs):
        axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
        axes.set_xticks(epochs[:1])


def _scale(axes: Axes, panel: Panel, values: list[float]) -> None:
    lowest, highest = min(values), max(values)
    if panel.is_logarithmic and 0 < 10 * lowest < highest:
        axes.set_yscale("log")
    if panel.is_share:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        # At least 10 % high, so that a share of 0.1 % looks small; 100 % is not cut.
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(0, bottom), min(1.02, max(top, lowest + 0.1)))
    if panel.starts_at_zero:
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.1 * highest))


def _shortened(name: str) -> str:
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def write_picture(path: Path, runs: list[RunRecord]) -> None:
    """Plots all panels into one PNG file; raises OSError if it cannot be written."""
    styles = CurveStyles(runs)
    entries = styles.legend()
    handles = [
        style.line([0, 1], [0, 0], label=_shortened(text)) for text, style in entries
    ]
    columns = 4 if len(runs) == 1 else 3
    legend_inches = 0.3 + 0.22 * -(-len(entries) // columns)
    with matplotlib.rc_context(_STYLE):
        height = 7.4 + legend_inches
        layout = ConstrainedLayoutEngine(
            rect=(0, 0, 1, 1 - legend_inches / height), w_pad=0.12, h_pad=0.12
        )
        figure = Figure(figsize=(14, height), dpi=100, layout=layout)
        for axes, panel in zip(figure.subplots(2, 3).flat, PANELS):
            _plot(axes, panel, runs, styles)
        figure.legend(handles=handles, loc="upper left", ncols=columns, handlelength=4)
        with atomic_file(path) as file:
            figure.savefig(file, format="png")


def _svg(figure: Figure, name: str) -> str:
    """A figure as an <svg> element that adapts to any width.

    The name is unique in a page, so that ids are unique.
    """
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.id": name}):
        figure.savefig(text, format="svg")
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    return re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + body


def panel_svg(panel: Panel, runs: list[RunRecord]) -> str:
    """One panel as an <svg> element."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        _plot(figure.subplots(), panel, runs, CurveStyles(runs))
        return _svg(figure, panel.column)


def legend_svgs(runs: list[RunRecord]) -> list[tuple[str, str]]:
    """The legend: for each entry a line as an <svg> element, and its text."""
    pieces = []
    for index, (text, style) in enumerate(CurveStyles(runs).legend()):
        figure = Figure(figsize=(0.6, 0.2))
        line = style.line([0.02, 0.5, 0.98], [0.5, 0.5, 0.5])
        line.set_markevery([1])
        figure.add_artist(line)
        pieces.append((_svg(figure, f"legend{index}"), text))
    return pieces
