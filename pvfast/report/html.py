"""The page: `Contents` go in, one HTML file that needs nothing else comes out.

``page.html``, ``page.css`` and ``page.js`` are its frame; what is written here is tables and sections. Whatever comes
from outside is escaped. Next: ``plots.py``, the drawings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import pairwise
from string import Template

from pvfast import __version__
from pvfast.experiments.matrix import Matrix, Row
from pvfast.experiments.workloads import FORMS, Counts
from pvfast.report import plots
from pvfast.report.contents import PROFILED, Contents

_NOTHING = "\N{EN DASH}"
_WORSE = '<span class="worse">\N{BLACK UP-POINTING TRIANGLE} regression</span>'
_BETTER = '<span class="better">\N{BLACK DOWN-POINTING TRIANGLE} improvement</span>'
_FIGURES = ("instructions", "cycles")
_PAGE, _STYLE, _SCRIPT = (files("pvfast.report").joinpath(f"page.{kind}").read_text(encoding="utf-8")
                          for kind in ("html", "css", "js"))


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table: its name, whether it holds figures, and a name above it that it shares with its neighbours."""

    name: str
    figures: bool = False
    above: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows, as markup, and the number that it is sorted by; without one, by its text."""

    markup: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    markup: str


def render_page(contents: Contents, this_run: Iterable[tuple[str, str]]) -> str:
    """The page as text.

    Parameters
    ----------
    contents : Contents
    this_run : iterable of (str, str)
        The time and the machine, by name: the element with the id ``this-run`` holds them, and is all that differs
        between two runs.

    Returns
    -------
    str
    """
    sections = [
        Section("matrix", "Every hypervisor, workload and operation", _matrix(contents.matrix)),
        Section("operations", "Operations of a workload", _histograms(contents.matrix)),
        Section("processors", "Overhead by processor", _processors(contents)),
        Section("profile", "Where the guest spends its instructions", _profiles(contents)),
        Section("sites", "Patch sites", _sites(contents)),
        *([Section("history", "History", _history(contents))] if contents.history else []),
        Section("provenance", "Where these figures are from", _provenance(contents, this_run)),
    ]
    hypervisors = dict.fromkeys(row.hypervisor for row in contents.matrix.rows)
    text = Template(_PAGE).substitute(
        title=f"pvfast {escape(__version__)}: what paravirtualization costs",
        summary=f"The built-in kernel of pvfast with the paravirt_ops of Linux {escape(contents.matrix.era)}, under "
                f"{escape(', '.join(hypervisors))}: its patch sites as compiled (indirect), as direct calls, and "
                "patched. Instructions and modelled cycles are exact: the same on every run.",
        style=_STYLE + plots.STYLE, script=_SCRIPT,
        navigation="".join(f'<li><a href="#{section.name}">{section.title}</a></li>\n' for section in sections),
        sections="".join(f'<section id="{section.name}" aria-labelledby="{section.name}-title">\n'
                         f'<h2 id="{section.name}-title">{section.title}</h2>\n{section.markup}</section>\n'
                         for section in sections))
    return text.encode(errors="replace").decode()      # names from JSON may hold half a surrogate pair


# --- Sections --------------------------------------------------------------------------------------------------------

def _matrix(matrix: Matrix) -> str:
    workloads, operations = plots.split_rows(matrix.rows)
    text = _paragraph(f"Processor model {matrix.processor}. Overhead: cycles of the indirect form over the patched "
                      "one. Operations: how many members of paravirt_ops one iteration executes; interrupt: those "
                      "among them that mask interrupts, wait for them or return from them.")
    for rows, title in ((workloads, "One iteration of each workload"),
                        (operations, "One operation, less the loop around it")):
        if rows:
            text += _table(title, (Column("hypervisor"), Column("name"), *(
                Column(form, True, figure) for figure in _FIGURES for form in FORMS),
                Column("overhead", True), Column("operations", True), Column("interrupt", True)),
                (_matrix_row(row) for row in rows), filtered=True)
    panels = [(f"{name}: {'workloads' if part[0].is_workload else 'operations'}", plots.overhead_panel(name, part))
              for name, rows in plots.by_hypervisor(matrix) for part in plots.split_rows(rows) if part]
    return text + _details("The overheads as plots", _plots(panels)) + _notes(matrix.rows)


def _matrix_row(row: Row) -> list[Cell]:
    share = row.interrupt_percent
    units = f" \N{MULTIPLICATION SIGN} {row.units}" if row.units > 1 else ""
    return [_words(row.hypervisor), _words(row.name + units),
            *(_count(counts, figure) for figure in _FIGURES for counts in row.counts().values()),
            _percent(row.overhead_percent()), _number(row.executed if row.operations else None),
            Cell(_NOTHING) if share is None else Cell(f"{share:.0f} %", share)]


def _notes(rows: Iterable[Row]) -> str:
    about: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            about.setdefault(row.note, []).append(f"{row.hypervisor} {row.name}")
    if not about:
        return ""
    items = "".join(f"<li>{escape(', '.join(names))}: {escape(note)}</li>\n" for note, names in about.items())
    return _details("What is not measured, and what patching leaves alone", f"<ul>\n{items}</ul>\n")


def _histograms(matrix: Matrix) -> str:
    workloads, _ = plots.split_rows(matrix.measured)
    same: dict[tuple[str, tuple[tuple[str, str, int], ...]], list[str]] = {}
    for row in workloads:
        same.setdefault((row.benchmark, row.operations), []).append(row.hypervisor)
    every = {row.hypervisor for row in workloads}
    panels = []
    for (name, operations), hypervisors in same.items():
        under = "every hypervisor" if every == set(hypervisors) else ", ".join(hypervisors)
        panels.append((f"{name} ({under})", plots.operations_panel(
            f"{name} under {under}: operations of one iteration", operations)))
    return _paragraph("How often one iteration executes each operation, by group. Hypervisors under which a workload "
                      "executes the same ones share a histogram.") + _plots(panels)


def _processors(contents: Contents) -> str:
    workloads = {row.benchmark for row in contents.matrix.rows if row.is_workload}
    text = _paragraph("Cycles of the indirect form over the patched one, on bare hardware, in per cent. Where sources "
                      "leave a range, the interval has every cost at the end that makes the overhead smallest and "
                      "largest; the plots have a logarithmic scale. No model claims to be the processor.")
    for title, chosen in (("Workloads", True), ("Operations", False)):
        found = {name: [row for row in rows if (row.benchmark in workloads) is chosen]
                 for name, rows in contents.sensitivities.items()}
        every = [row for rows in found.values() for row in rows]
        if not every:
            continue
        decades = plots.interval_decades(every)
        text += f"<h3>{title}</h3>\n" + _plots(
            (name, plots.interval_panel(name, rows, decades)) for name, rows in found.items())
        by_name = {name: {row.benchmark: row for row in rows} for name, rows in found.items()}
        columns = (Column("name"), *(Column(name, True) for name in found))
        text += _table(f"{title}: overhead in per cent, and its interval", columns, (
            [_words(name), *(
                Cell(f"{row.percent} ({row.low}{_NOTHING}{row.high})", row.percent) if row else Cell(_NOTHING)
                for row in (rows.get(name) for rows in by_name.values()))]
            for name in dict.fromkeys(row.benchmark for row in every)))
    return text


def _profiles(contents: Contents) -> str:
    text = _paragraph("Instructions that one iteration executes from each label of the guest's source up to the next: "
                      "as compiled, and patched.")
    for workload, profiles in contents.profiles.items():
        counted = {key: dict(rows) for key, rows in profiles.items()}
        labels = dict.fromkeys(label for rows in profiles.values() for label, _ in rows)
        ordered = sorted(labels, key=lambda label: -max(rows.get(label, 0) for rows in counted.values()))
        columns = (Column("label"), *(Column(form, True, hypervisor) for hypervisor, form in counted))
        totals = ", ".join(f"{hypervisor} {sum(rows.values())}" for (hypervisor, form), rows in counted.items()
                           if form == PROFILED[0])
        text += _details(f"{workload}: {totals}", _table(f"{workload}: instructions by label", columns, (
            [_code(label), *(_number(rows.get(label)) for rows in counted.values())] for label in ordered)))
    return text


def _sites(contents: Contents) -> str:
    def both(code: bytes, text: str) -> Cell:
        lines = escape(text.replace("; ", "\n"))
        return Cell(f'<code class="bytes">{code.hex(" ")}</code><code>{lines}</code>')
    return _paragraph("Every patch site of the built-in kernel, as compiled and patched. Instructions and cycles: of "
                      "one execution, with the code that is called; sites that leave the kernel have none.") + _table(
        f"{len(contents.sites)} patch sites", (
            Column("hypervisor"), Column("site"), Column("operation"), Column("bytes", True),
            *(Column(when, True, figure) for figure in _FIGURES for when in ("before", "after")),
            *(Column(when, above="code") for when in ("before", "after"))), (
            [_words(site.hypervisor), _code(site.code.label), _words(site.operation), _number(len(site.code.before)),
             *(_count(counts, figure) for figure in _FIGURES for counts in (site.unpatched, site.patched)),
             both(site.code.before, site.code.before_text),
             Cell("the same") if site.code.kept else both(site.code.after, site.code.after_text)]
            for site in contents.sites), filtered=True)


def _history(contents: Contents) -> str:
    history = contents.history
    if history is None or not history.commits:
        return _paragraph("asv has no figures yet.")
    steps = [step for benchmark in history.benchmarks for step in benchmark.steps]
    worse = sum(step.worse for step in steps)
    text = _paragraph(f"Commits {history.commits[0].name} to {history.commits[-1].name} ({len(history.commits)}): "
                      f"{worse} regressions \N{BLACK UP-POINTING TRIANGLE}, {len(steps) - worse} improvements "
                      "\N{BLACK DOWN-POINTING TRIANGLE}. A line for each set of parameters, in per cent beyond its "
                      "first figure.")
    text += _plots((f"{found.name} ({found.unit}), on {found.machine}", plots.history_panel(found, history.commits))
                   for found in history.benchmarks)
    if not steps:
        return text
    return text + _table("Every step", (
        Column("commit"), Column("date"), Column("benchmark"), Column("machine"), Column("parameters"), Column("what"),
        Column("before", True), Column("after", True), Column("change", True)), (
        [_code(commit.name), _words(f"{commit.made:%Y-%m-%d %H:%M}"), _words(found.name), _words(found.machine),
         _words(step.parameters), Cell(_WORSE if step.worse else _BETTER), _number(step.before), _number(step.after),
         _percent(step.percent, 2)]
        for found in history.benchmarks for step in found.steps for commit in [history.commits[step.commit]]),
        filtered=True)


def _provenance(contents: Contents, this_run: Iterable[tuple[str, str]]) -> str:
    def listed(name: str, rows: Iterable[tuple[str, str]]) -> str:
        items = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>\n" for term, text in rows)
        return f'<dl id="{name}">\n{items}</dl>\n'
    return listed("versions", contents.versions) + listed("this-run", this_run)


# --- Parts of sections -----------------------------------------------------------------------------------------------

def _table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], filtered: bool = False) -> str:
    """A table in a box of its own that scrolls; the first cell of each row is its header."""
    head = "".join(_header(number, column) for number, column in enumerate(columns))
    shared = "".join(_shared(columns)) if any(column.above for column in columns) else ""
    body = "".join(f"<tr>{''.join(map(_cell, range(len(cells)), columns, cells))}</tr>\n" for cells in rows)
    return (f'<div class="scroll{" tall" if filtered else ""}" tabindex="0" role="region" '
            f'aria-label="{escape(caption)}">\n<table class="sortable{" filtered" if filtered else ""}">\n'
            f"<caption>{escape(caption)}</caption>\n<thead>{shared}<tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n"
            "</table>\n</div>\n")


def _header(number: int, column: Column) -> str:
    return (f'<th scope="col" data-column="{number}"{_class(column)}>{escape(column.name)}</th>')


def _shared(columns: Sequence[Column]) -> Iterable[str]:
    """The row above the names: one cell for neighbours that share one."""
    starts = [0, *(place + 1 for place, (left, right) in enumerate(pairwise(columns)) if left.above != right.above)]
    yield "<tr>"
    for start, end in pairwise([*starts, len(columns)]):
        name = columns[start].above
        yield f'<th scope="colgroup" colspan="{end - start}">{escape(name)}</th>' if name else (
            f'<td colspan="{end - start}"></td>')
    yield "</tr>"


def _cell(number: int, column: Column, cell: Cell) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    tag, scope = ("th", ' scope="row"') if number == 0 else ("td", "")
    return f"<{tag}{scope}{_class(column)}{value}>{cell.markup}</{tag}>"


def _class(column: Column) -> str:
    return ' class="figure"' if column.figures else ""


def _plots(panels: Iterable[tuple[str, plots.Panel]]) -> str:
    figures = "".join(f"<figure><figcaption>{escape(caption)}</figcaption>{panel.svg()}</figure>\n"
                      for caption, panel in panels)
    return f'<div class="plots">\n{figures}</div>\n'


def _details(summary: str, markup: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>\n{markup}</details>\n"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def _words(text: str) -> Cell:
    return Cell(escape(text))


def _code(text: str) -> Cell:
    return Cell(f"<code>{escape(text)}</code>")


def _number(value: float | None) -> Cell:
    return Cell(_NOTHING) if value is None else Cell(f"{value:g}" if value % 1 else f"{value:.0f}", value)


def _count(counts: Counts | None, figure: str) -> Cell:
    return _number(None if counts is None else getattr(counts, figure))


def _percent(value: float | None, digits: int = 1) -> Cell:
    return Cell(_NOTHING) if value is None else Cell(f"{value:+.{digits}f} %", value)
