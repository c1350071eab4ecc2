"""Draws the curves of runs with matplotlib: one picture, or an SVG for each panel.

Colours are those of Okabe and Ito 2008 that stand out from white, which people with
any kind of colour blindness can tell apart. What differs in colour differs in its
marker or its line too: of one run each kind of curve has its own colour, of several
each run has.
"""

import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from resnet50.atomic_io import atomic_file
from resnet50.reports.curves import NEVER_LATE, PANELS, TRAINING, Panel, RunRecord

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ((4, 1.5), (1, 1.2), (6, 1.2, 1, 1.2), (3, 1, 1, 1, 1, 1), (8, 2))
_NEVER_LATE_DASHES = (1, 2.5)

# With more epochs than this only some have a marker: all would hide the line.
_MOST_MARKERS, _SOME_MARKERS = 30, 8

# Of a name in the picture's legend; the page shows it whole.
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


class Look(NamedTuple):
    """How a curve is drawn."""

    colour: str
    marker: str
    dashes: tuple[float, ...]  # () for a solid line; in line widths
    width: float = 1.8  # points
    first_marker: float = 0.0  # 0..1 of the way to the second one

    def line(self, x, y, label: str | None = None) -> Line2D:
        """A line with its markers, where there are not too many points for them."""
        line = Line2D(x, y, color=self.colour, linewidth=self.width, label=label)
        line.set_linestyle((0, self.dashes) if self.dashes else "-")
        line.set_marker(self.marker)
        line.set_markersize(3.4 + self.width)
        # A marker on the edge shall be whole; all values are inside.
        line.set_clip_on(False)
        if len(x) > _MOST_MARKERS:
            step = len(x) // _SOME_MARKERS
            some = range(round(self.first_marker * step), len(x), step)
            line.set_markevery(sorted({*some, *_isolated(y)}))
        return line


def _isolated(values: list[float]) -> list[int]:
    """Indices of values between gaps, which without a marker would not be seen."""
    is_gap = [True, *map(math.isnan, values), True]
    return [i for i in range(len(values)) if is_gap[i : i + 3] == [True, False, True]]


class Looks:
    """The looks of all curves of some runs, and their legend."""

    def __init__(self, runs: list[RunRecord]):
        kinds = [
            curve.kind
            for run in runs
            for panel in PANELS
            for curve in run.curves(panel.column)
        ]
        order = {TRAINING: 0, NEVER_LATE: 2}
        self._kinds = sorted(set(kinds), key=lambda kind: (order.get(kind, 1), kind))
        self._names = [run.name for run in runs]

    def _dashes(self, kind: str) -> tuple[float, ...]:
        if kind in (TRAINING, NEVER_LATE):
            return () if kind == TRAINING else _NEVER_LATE_DASHES
        return _DASHES[self._validation_kinds.index(kind) % len(_DASHES)]

    @property
    def _validation_kinds(self) -> list[str]:
        return [kind for kind in self._kinds if kind not in (TRAINING, NEVER_LATE)]

    def of(self, name: str, kind: str) -> Look:
        """The look of one run's curve of one kind."""
        names, kinds = self._names, self._kinds
        index = names.index(name) if len(names) > 1 else kinds.index(kind)
        colour = _COLOURS[index % len(_COLOURS)]
        # Of equal curves the later one is narrower, and its markers are elsewhere.
        return Look(
            colour,
            _MARKERS[index % len(_MARKERS)],
            self._dashes(kind),
            width=min(1.6 + 0.5 * (len(names) - 1 - names.index(name)), 3.1),
            first_marker=names.index(name) / len(names),
        )

    def legend(self) -> list[tuple[str, Look]]:
        """Texts and looks: of several runs each run, and of each kind of curve."""
        if len(self._names) == 1:
            return [(kind, self.of(self._names[0], kind)) for kind in self._kinds]
        names = [(name, self.of(name, TRAINING)) for name in self._names]
        kinds = [
            (kind, Look("#555555", "", self._dashes(kind))) for kind in self._kinds
        ]
        return names + kinds


def _draw(axes: Axes, panel: Panel, runs: list[RunRecord], looks: Looks) -> None:
    """Draws one panel."""
    curves = [(run.name, curve) for run in runs for curve in run.curves(panel.column)]
    # The speed that was not reached goes behind the one that was.
    for name, curve in sorted(curves, key=lambda pair: pair[1].kind != NEVER_LATE):
        axes.add_line(looks.of(name, curve.kind).line(curve.epochs, curve.values))
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
    """Sets the vertical axis."""
    lowest, highest = min(values), max(values)
    if panel.is_logarithmic and 0 < 10 * lowest < highest:
        axes.set_yscale("log")
    if panel.is_share:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        # So that a share of 0.1 % does not look like much, nor one of 100 % cut off.
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(0, bottom), min(1.02, max(top, lowest + 0.1)))
    if panel.starts_at_zero:
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.1 * highest))


def _shortened(name: str) -> str:
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def _save(path: Path, save: Callable) -> None:
    with atomic_file(path) as file:
        save(file)


def write_picture(path: Path, runs: list[RunRecord]) -> None:
    """Draws all panels into one PNG file.

    Raises:
        OSError: It cannot be written.
    """
    looks = Looks(runs)
    entries = looks.legend()
    handles = [
        look.line([0, 1], [0, 0], label=_shortened(text)) for text, look in entries
    ]
    columns = 4 if len(runs) == 1 else 3
    legend_inches = 0.3 + 0.22 * -(-len(entries) // columns)
    with matplotlib.rc_context(_STYLE):
        height = 7.4 + legend_inches
        figure = Figure(figsize=(14, height), dpi=100, layout="constrained")
        figure.get_layout_engine().set(
            rect=(0, 0, 1, 1 - legend_inches / height), w_pad=0.12, h_pad=0.12
        )
        for axes, panel in zip(figure.subplots(2, 3).flat, PANELS):
            _draw(axes, panel, runs, looks)
        figure.legend(handles=handles, loc="upper left", ncols=columns, handlelength=4)
        _save(path, lambda file: figure.savefig(file, format="png"))


def _svg(figure: Figure, name: str) -> str:
    """A figure as an <svg> element that fits the width it is given.

    Args:
        figure: What to draw.
        name: Not that of another figure of the page, so that no ids are the same.
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
        _draw(figure.subplots(), panel, runs, Looks(runs))
        return _svg(figure, panel.column)


def legend_svgs(runs: list[RunRecord]) -> list[tuple[str, str]]:
    """The legend: a piece of line as an <svg> element, and its text."""
    pieces = []
    for index, (text, look) in enumerate(Looks(runs).legend()):
        figure = Figure(figsize=(0.6, 0.2))
        line = look.line([0.02, 0.5, 0.98], [0.5, 0.5, 0.5])
        line.set_markevery([1])
        figure.add_artist(line)
        pieces.append((_svg(figure, f"legend{index}"), text))
    return pieces
