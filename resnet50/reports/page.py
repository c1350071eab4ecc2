"""The curves of runs as one HTML page that needs no other file and no network."""

import html
import math
import time

from resnet50.reports.curves import PANELS, RunRecord, number
from resnet50.reports.diagrams import legend_svgs, panel_svg
from resnet50.reports.tables import EVALUATION_FILE, METRICS_FILE

# How often a page reloads itself while it is being rewritten.
_RELOAD_SECONDS = 60

_FILES = METRICS_FILE, EVALUATION_FILE

_CSS = """
:root { color-scheme: light; }
body { background: #fff; color: #222; font: 16px/1.5 sans-serif;
       margin: 0 auto; max-width: 1240px; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
ul.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; list-style: none;
            margin: .8rem 0; padding: 0; }
ul.legend li { align-items: center; display: flex; gap: .5rem; min-width: 0;
               overflow-wrap: anywhere; }
ul.legend svg { flex: none; height: 1rem; width: 3rem; }
.panels { display: grid; gap: 1rem;
          grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); }
.panels svg { display: block; height: auto; width: 100%; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
        margin: .5rem 0; }
th, td { border-bottom: 1px solid #ddd; padding: .15rem .6rem; text-align: right;
         vertical-align: bottom; }
th:first-child, td:first-child { min-width: 8rem; overflow-wrap: anywhere;
                                 text-align: left; }
details table { font-size: .8rem; }
details th:first-child, details td:first-child { min-width: 0; }
p { max-width: 50rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
"""

_EXPLANATION = (
    "Training figures are means over an epoch, of augmented images, while the weights "
    "change; validation figures are for the checkpoint after it. Epochs count from 0."
)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


def _mean_over_time(run: RunRecord, column: str) -> float:
    """Mean of a column, weighted with each epoch's seconds."""
    pairs = [(number(row, "seconds"), number(row, column)) for row in run.metrics]
    pairs = [pair for pair in pairs if not any(map(math.isnan, pair))]
    seconds = sum(weight for weight, _ in pairs)
    if not seconds:
        return math.nan
    return sum(weight * value for weight, value in pairs) / seconds


def _best(run: RunRecord) -> str:
    """The highest top-1 accuracy on the validation images, with crops and epoch."""
    found = [
        (number(row, "top1"), kind, row["epoch"])
        for kind, rows in run.evaluations_by_kind.items()
        for row in rows
        if not math.isnan(number(row, "top1"))
    ]
    if not found:
        return "not evaluated"
    top1, kind, epoch = max(found, key=lambda candidate: candidate[0])
    return f"{top1:.2%} ({kind.removeprefix('validation, ')}, epoch {epoch})"


def _summary(run: RunRecord) -> dict[str, str]:
    last = run.metrics[-1] if run.metrics else {}
    speed = _mean_over_time(run, "images_per_second")
    return {
        "run": run.name,
        "last epoch": last.get("epoch", "-"),
        "its training loss": last.get("loss") or "-",
        "its training top-1": _percent(number(last, "top1")),
        "best validation top-1": _best(run),
        "images/s, mean": "-" if math.isnan(speed) else f"{speed:.1f}",
        "waiting, mean": _percent(_mean_over_time(run, "waiting")),
    }


def _table(rows: list[dict[str, str]]) -> str:
    """A table with a column for each key; a missing cell stays empty."""
    head = list(dict.fromkeys(column for row in rows for column in row))

    def line(cells, tag):
        inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{inside}</tr>"

    body = "\n".join(line([row.get(c) or "" for c in head], "td") for row in rows)
    return (
        f'<div class="wide"><table><thead>{line(head, "th")}</thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def html_document(title: str, body: str, *, style: str = "", head: str = "") -> str:
    """A page with the style of all pages, and more; ``title`` is plain text."""
    title = html.escape(title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{head}
<title>{title}</title>
<style>{_CSS}{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def build_page(runs: list[RunRecord], *, reloads: bool) -> str:
    """The page as HTML; with ``reloads``, the browser loads it again periodically."""
    legend = "\n".join(
        f"<li>{svg}<span>{html.escape(text)}</span></li>"
        for svg, text in legend_svgs(runs)
    )
    panels = "\n".join(
        f'<div role="img" aria-label="{panel.title}">{panel_svg(panel, runs)}</div>'
        for panel in PANELS
    )
    # All numbers of each table, folded away.
    numbers = "\n".join(
        f"<details><summary>{html.escape(run.name)}: {file}</summary>{_table(rows)}"
        "</details>"
        for run in runs
        for file, rows in zip(_FILES, (run.metrics, run.evaluations))
        if rows
    )
    reload = f'<meta http-equiv="refresh" content="{_RELOAD_SECONDS}">'
    body = f"""{_table([_summary(run) for run in runs])}
<ul class="legend">
{legend}
</ul>
<div class="panels">
{panels}
</div>
<p>{_EXPLANATION} Plotted {time.strftime("%Y-%m-%d %H:%M")}.</p>
{numbers}"""
    title = ", ".join(run.name for run in runs)
    return html_document(title, body, head=reload if reloads else "")
