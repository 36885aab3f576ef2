"""Plots as SVG text: figures go in; drawings that follow the reader's light or dark theme come out.

Each drawing has a title and a description for those who do not see it, and says in words or shapes what it says in
colour. `STYLE` is theirs: once in a page, or in a file of its own (`document`). Next: ``html.py``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from pvfast.experiments.matrix import INTERRUPT_GROUPS, Matrix, Row, workload_names
from pvfast.experiments.sensitivity import Sensitivity
from pvfast.experiments.workloads import overhead_percent
from pvfast.report.history import BenchmarkHistory, Commit

#: What the name of a drawing's file ends in.
PLOT_FILE = ".svg"
STYLE = """
svg { --ink: #1c2330; --faint: #5d6675; --grid: #d5dae2; --one: #1f5fbf; --other: #8a94a6; --bad: #b3261e;
  --good: #1d7a3c; --paper: #ffffff; font: 11px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --ink: #e4e8ef; --faint: #a3adbd; --grid: #3a4250; --one: #7fb0ff;
  --other: #7d8798; --bad: #ff8a80; --good: #7bd694; --paper: #14181f; } }
svg text { fill: var(--ink); } svg .faint { fill: var(--faint); } svg .head { font-weight: 600; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; } svg .grid { stroke: var(--grid); }
svg .one { fill: var(--one); } svg .other { fill: var(--other); } svg .hollow { fill: none; stroke: var(--one); }
svg .span { stroke: var(--one); stroke-width: 3; stroke-opacity: .45; } svg .line { fill: none; stroke: var(--one);
  stroke-width: 1.5; } svg .bad { fill: var(--bad); } svg .good { fill: var(--good); }
svg .paper { fill: var(--paper); }
"""

_WIDTH = 360            # of a panel: what a phone shows
_LINE = 18
_LABEL = 186            # room for names, left of the figures
_VALUE = 60             # room for numbers, right of them
_ROOM = _WIDTH - _LABEL - _VALUE
_BAR = 10
_GAP = 24               # between panels
_MARK = 4
_AXIS_LABELS = 4        # that fit beside each other
_LINES_HEIGHT = 130
_WORKLOADS = workload_names()


class Panel:
    """A drawing in the making: parts, and how far down it goes."""

    def __init__(self, title: str, description: str) -> None:
        self.title, self.description = title, description
        self.parts: list[str] = []
        self.height = 0

    def text(self, x: float, y: float, text: object, classes: str = "") -> None:
        """Words; `classes` of `STYLE`."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}">{escape(str(text))}</text>')

    def bar(self, x: float, y: float, width: float, height: float, classes: str) -> None:
        """A rectangle; of a negative width, to the left of `x`."""
        self.parts.append(f'<rect x="{min(x, x + width):.1f}" y="{y:.1f}" width="{abs(width):.1f}" '
                          f'height="{height:.1f}" class="{classes}"/>')

    def line(self, start: tuple[float, float], end: tuple[float, float], classes: str) -> None:
        """A straight one."""
        self.parts.append(f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
                          f'class="{classes}"/>')

    def mark(self, x: float, y: float, *, up: bool) -> None:
        """A triangle that points up for worse, down for better."""
        tip, base, classes = (y - _MARK, y + _MARK, "bad") if up else (y + _MARK, y - _MARK, "good")
        self.parts.append(f'<path d="M{x:.1f} {tip:.1f}L{x - _MARK:.1f} {base:.1f}H{x + _MARK:.1f}Z" '
                          f'class="{classes}"/>')

    def svg(self) -> str:
        """The drawing, for a page that has `STYLE`."""
        return (f'<svg role="img" viewBox="0 0 {_WIDTH} {self.height}" width="{_WIDTH}" height="{self.height}">'
                f"<title>{escape(self.title)}</title><desc>{escape(self.description)}</desc>"
                f"{''.join(self.parts)}</svg>")


def document(columns: Iterable[Iterable[Panel]]) -> str:
    """Panels, column by column, as the text of an SVG file.

    Examples
    --------
    >>> document([[Panel("nothing", "")]]).splitlines()[0][:59]
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 408 72'
    """
    parts, right, bottom = [], _GAP, 0
    for panels in columns:
        down = _GAP
        for panel in panels:
            parts.append(f'<text x="{right}" y="{down}" class="head">{escape(panel.title)}</text>\n'
                         f'<svg x="{right}" y="{down + _GAP // 4}" width="{_WIDTH}" height="{panel.height}">'
                         f"{''.join(panel.parts)}</svg>\n")
            down += panel.height + 2 * _GAP
        right, bottom = right + _WIDTH + _GAP, max(bottom, down)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {bottom}" width="{right}" '
            f'height="{bottom}">\n<style>{STYLE}</style>\n<rect width="100%" height="100%" class="paper"/>\n'
            f"{''.join(parts)}</svg>\n")


def write_matrix_plot(path: str | Path, matrix: Matrix) -> None:
    """Write the overheads of a matrix as an SVG file, a column per hypervisor.

    Parameters
    ----------
    path : str or Path
    matrix : Matrix

    Raises
    ------
    OSError
        It cannot be written.
    """
    columns = [[overhead_panel(name, part) for part in split_rows(rows) if part]
               for name, rows in by_hypervisor(matrix)]
    Path(path).write_text(document(columns), encoding="utf-8")


def by_hypervisor(matrix: Matrix) -> list[tuple[str, list[Row]]]:
    """The rows of each hypervisor."""
    return [(name, list(rows)) for name, rows in groupby(matrix.rows, key=lambda row: row.hypervisor)]


def split_rows(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Workloads, as lmbench orders them, and operations."""
    rows = list(rows)
    workloads = sorted((row for row in rows if row.is_workload), key=lambda row: _WORKLOADS.index(row.benchmark))
    return workloads, [row for row in rows if not row.is_workload]


def overhead_panel(hypervisor: str, rows: Sequence[Row]) -> Panel:
    """What the indirect and the direct form cost beyond the patched one, in per cent of its cycles."""
    kind = "one iteration of a workload" if rows[0].is_workload else "one operation"
    pairs = [(row, [overhead_percent(form, row.patched) for form in (row.indirect, row.direct)]) for row in rows]
    panel = Panel(f"{hypervisor}: {kind}", "; ".join(
        f"{row.name} " + (f"indirect {_percent(more)}, direct {_percent(direct)}" if more is not None else
                               "not measured") for row, (more, direct) in pairs))
    found = [value for _, values in pairs for value in values if value is not None]
    low, scale = _scale(found)
    zero = _LABEL - low * scale
    panel.text(0, 12, "cycles beyond the patched form: indirect (filled), direct (outlined)", "faint")
    top = 20
    for row, (more, direct) in pairs:
        panel.text(_LABEL - 6, top + 12, row.name, "end")
        if more is None or direct is None:
            panel.text(_LABEL, top + 12, "not measured", "faint")
        else:
            panel.bar(zero, top + 3, more * scale, 7, "one")
            panel.bar(zero, top + 11, direct * scale, 4, "hollow")
            panel.text(_WIDTH, top + 12, _percent(more), "end")
        top += _LINE
    panel.line((zero, 20), (zero, top), "grid")
    panel.height = top + 4
    return panel


def operations_panel(title: str, operations: Sequence[tuple[str, str, int]]) -> Panel:
    """A histogram: how often one iteration executes each operation, by group.

    Parameters
    ----------
    title : str
    operations : sequence of (str, str, int)
        Name, group, how often; as `Row.operations` has them.
    """
    groups: dict[str, list[tuple[str, int]]] = {}
    for name, group, count in operations:
        groups.setdefault(group, []).append((name, count))
    ordered = sorted(groups.items(), key=lambda item: -sum(count for _, count in item[1]))
    panel = Panel(title, "; ".join(f"{group}: " + ", ".join(f"{name} {count}" for name, count in bars)
                                   for group, bars in ordered))
    scale = (_WIDTH - _LABEL - 40) / max((count for _, _, count in operations), default=1)
    top = 0
    for group, bars in ordered:
        interrupt = group in INTERRUPT_GROUPS
        total = sum(count for _, count in bars)
        panel.text(0, top + 13, f"{group} ({'interrupt, ' if interrupt else ''}{total})", "faint")
        top += _LINE
        for name, count in bars:
            panel.text(_LABEL - 6, top + 11, name, "end")
            panel.bar(_LABEL, top + 2, count * scale, _BAR, "one" if interrupt else "other")
            panel.text(_LABEL + count * scale + 5, top + 11, count)
            top += _LINE - 2
    panel.height = top + 4
    return panel


def interval_panel(processor: str, found: Sequence[Sensitivity], decades: tuple[int, int]) -> Panel:
    """Overheads with their intervals, on a logarithmic scale.

    Parameters
    ----------
    processor : str
    found : sequence of Sensitivity
    decades : (int, int)
        From `interval_decades`: the same for panels that stand side by side.
    """
    panel = Panel(f"{processor}: overhead of indirect calls, per cent", "; ".join(
        f"{row.benchmark} {row.percent} ({row.low} to {row.high})" for row in found))
    first, last = decades
    labelled = math.ceil((last - first) / (_AXIS_LABELS - 1))       # every decade, or every second, third ...
    top, bottom = 4, 4 + _LINE * len(found)

    def place(percent: float) -> float:
        log = math.log10(percent) if percent > 0 else first
        return _LABEL + _ROOM * (min(max(log, first), last) - first) / (last - first)

    for decade in range(first, last + 1):
        x = place(10.0 ** decade)
        panel.line((x, top), (x, bottom), "grid")
        if (decade - first) % labelled == 0:
            panel.text(x, bottom + 12, f"{10.0 ** decade:g}", "middle faint")
    panel.text(_WIDTH, bottom + 12, "%", "end faint")
    for row in found:
        left, middle, right = map(place, (row.low, row.percent, row.high))
        panel.text(_LABEL - 6, top + 12, row.benchmark, "end")
        panel.line((left, top + 8), (max(right, left + 1), top + 8), "span")
        panel.bar(middle - 1.5, top + 3, 3, _BAR, "one")
        panel.text(_WIDTH, top + 12, f"{row.percent}", "end")
        top += _LINE
    panel.height = bottom + 18
    return panel


def interval_decades(found: Iterable[Sensitivity]) -> tuple[int, int]:
    """The powers of ten that overheads lie between; what is not above zero lies at the lower one.

    Examples
    --------
    >>> interval_decades([Sensitivity("null", 0.4, 0.3, 20.0, ())])
    (-1, 2)
    """
    found = list(found)
    low = min((row.low for row in found if row.low > 0), default=1.0)
    high = max((row.high for row in found if row.high > 0), default=1.0)
    first = math.floor(math.log10(low))
    return first, max(first + 1, math.ceil(math.log10(high)))


def history_panel(history: BenchmarkHistory, commits: Sequence[Commit]) -> Panel:
    """A line per series over the commits, relative to its first figure; a triangle where it steps."""
    steps = history.steps
    worse = sum(step.worse for step in steps)
    panel = Panel(f"{history.name} over {len(commits)} commits", f"{len(history.series)} series, {worse} regressions, "
                  f"{len(steps) - worse} improvements; each is in the table below")
    lines = {name: _relative(values) for name, values in history.series}
    every = [value for line in lines.values() for value in line.values()]
    low, high = min([0.0, *every]), max([0.0, *every])
    left, right, top, bottom = 64, _WIDTH - 8, 10, _LINES_HEIGHT - 24
    across = (right - left) / max(1, len(commits) - 1)

    def place(commit: int, value: float) -> tuple[float, float]:
        share = (value - low) / (high - low) if high > low else 0.5
        return left + commit * across, bottom - share * (bottom - top)

    for value in sorted({low, 0.0, high}):
        panel.line((left, place(0, value)[1]), (right, place(0, value)[1]), "grid")
        panel.text(left - 4, place(0, value)[1] + 4, _percent(value), "end faint")
    for line in dict.fromkeys(tuple(line.items()) for line in lines.values()):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        panel.parts.append(f'<polyline points="{points}" class="line"/>')
    marks = {(*place(step.commit, lines[step.parameters][step.commit]), step.worse): None for step in steps}
    for x, y, up in marks:
        panel.mark(x, y, up=up)
    panel.text(left, _LINES_HEIGHT - 6, commits[0].name, "faint")
    if len(commits) > 1:
        panel.text(right, _LINES_HEIGHT - 6, commits[-1].name, "end faint")
    panel.height = _LINES_HEIGHT
    return panel


def _relative(values: Sequence[float | None]) -> Mapping[int, float]:
    """Figures by commit, in per cent beyond the first one; beyond zero, as they are."""
    measured = {commit: value for commit, value in enumerate(values) if value is not None}
    first = next(iter(measured.values()), 0.0)
    return {commit: 100 * (value - first) / abs(first) if first else value for commit, value in measured.items()}


def _scale(values: Iterable[float]) -> tuple[float, float]:
    """The lowest value, at most 0, and pixels per unit from there to the highest."""
    values = [0.0, *values]
    low, high = min(values), max(values)
    return low, _ROOM / (high - low) if high > low else 0.0


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"
