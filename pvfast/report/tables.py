"""Tables and JSON: results go in, rich renderables or text come out; `show` writes them.

One function per kind of result, one column list each. Colour and the width of the terminal are rich's business;
into a pipe goes plain text, as wide as it needs to be. Next: ``progress.py``.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pvfast.assembly import show_code
from pvfast.experiments.calibration import Calibration
from pvfast.experiments.kernel_runs import KernelRow, KernelRun
from pvfast.experiments.matrix import INTERRUPT_GROUPS, Matrix, Row, SiteCode, workload_names
from pvfast.experiments.tracing import TracedOperation
from pvfast.experiments.workloads import FORMS, Counts
from pvfast.isa.document import cost_class, flag_letters, needs
from pvfast.isa.form import Form
from pvfast.paravirt.linux import OperationSummary, PatchedSite, SiteRow
from pvfast.processor import Model
from pvfast.processor.cpuid import FEATURE_BITS

#: Of text that goes to a file or a pipe: nothing is cut or wrapped.
_PIPE_COLUMNS = 250
_NOTHING = "-"
_WORKLOAD_ORDER = workload_names()


def show(parts: Iterable[RenderableType], stream: TextIO | None = None) -> None:
    """Write tables and paragraphs, one after the other.

    Parameters
    ----------
    parts : iterable of renderable
    stream : text file, optional
        Standard output unless given.

    Examples
    --------
    >>> show([Text("pvfast")])
    pvfast
    """
    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        console = Console(file=stream, highlight=False, width=_PIPE_COLUMNS, no_color=True)
    with console.capture() as capture:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text))
    console.file.write("\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n")


def to_json(value: Any) -> str:
    """JSON text with a stable layout.

    Examples
    --------
    >>> print(to_json({"cycles": 17}))
    {
      "cycles": 17
    }
    """
    return json.dumps(value, indent=2)


def matrix_report(matrix: Matrix, sites: bool = False) -> list[RenderableType]:
    """What ``pvfast run`` shows: for each hypervisor its workloads, its operations and, when asked, the patch sites.

    Parameters
    ----------
    matrix : Matrix
        From `pvfast.experiments.run_matrix`.
    sites : bool, optional
        Whether to show the bytes of each operation's sites.
    """
    parts: list[RenderableType] = []
    for hypervisor, group in groupby(matrix.rows, key=lambda row: row.hypervisor):
        rows = list(group)
        workloads = [row for row in rows if row.is_workload]
        operations = [row for row in rows if not row.is_workload]
        model = f"Linux {matrix.era}, processor model {matrix.processor}"
        if workloads:
            workloads.sort(key=lambda row: _WORKLOAD_ORDER.index(row.benchmark))
            parts += [_heading(f"{hypervisor}: one iteration of a workload, {model}"),
                      _workload_table(matrix, workloads), *_notes(workloads), Text()]
        if operations:
            parts += [_heading(f"{hypervisor}: one operation, {model}"), _cost_table(matrix, operations),
                      *_notes(operations), Text()]
            if sites:
                parts += [_heading(f"{hypervisor}: patch sites"), *_guest_sites(operations), Text()]
    parts.append(Text(f"Figures: {' / '.join(FORMS)}. Overhead: cycles, indirect over patched. irq: the share of "
                      "interrupt operations among those executed; the talk says well over 90 %."))
    parts.append(Text("Instructions, modelled cycles and operations are exact and equal on every run."))
    if matrix.host_times:
        parts.append(Text("Host ns: median time on this host, not exact."))
    return parts


def trace_report(title: str, traced: Sequence[TracedOperation]) -> list[RenderableType]:
    """What ``pvfast run --trace`` shows: the operations of one iteration, as they happen."""
    table = _table(("instruction", "operation", "arguments", "site"), left=4)
    for found in traced:
        words = ", ".join(f"{word:#x}" for word in found.arguments)
        table.add_row(str(found.instruction), found.operation.name, words, found.place)
    interrupts = sum(found.operation.group in INTERRUPT_GROUPS for found in traced)
    share = f", {interrupts} of them interrupt operations" if traced else ""
    return [_heading(title), table,
            Text(f"{len(traced)} operations{share}. Arguments: EAX, EDX, ECX, as many as it takes.")]


def _workload_table(matrix: Matrix, rows: Sequence[Row]) -> Table:
    timed = bool(matrix.host_times)
    table = _table(("workload", "instructions", "cycles", "overhead", "operations", "irq",
                    *(("host ns",) if timed else ())), left=1)
    for row in rows:
        times = (_slashed(matrix.host_ns(row, form) for form in FORMS),) if timed else ()
        counts = list(row.counts().values())
        share = row.interrupt_percent
        name = f"{row.benchmark} (x {row.units})" if row.units > 1 else row.benchmark
        table.add_row(name, _slashed(_figure(found, "instructions") for found in counts),
                      _slashed(_figure(found, "cycles") for found in counts), _percent(row),
                      str(row.executed) if row.operations else _NOTHING,
                      _NOTHING if share is None else f"{share:.0f} %", *times)
    return table


def _notes(rows: Sequence[Row]) -> list[RenderableType]:
    """One paragraph per note, with the rows it is about."""
    about: dict[str, list[str]] = {}
    for row in rows:
        about.setdefault(row.note, []).append(row.name)
    return [Text(f"{', '.join(names)}: {note}") for note, names in about.items() if note]


def _cost_table(matrix: Matrix, rows: Sequence[Row]) -> Table:
    timed = bool(matrix.host_times)
    table = _table(("operation", "instructions", "cycles", "overhead", *(("host ns",) if timed else ())), left=1)
    for row in rows:
        times = (_slashed(matrix.host_ns(row, form) for form in FORMS),) if timed else ()
        counts = list(row.counts().values())
        table.add_row(row.name, _slashed(_figure(found, "instructions") for found in counts),
                      _slashed(_figure(found, "cycles") for found in counts), _percent(row), *times)
    return table


def _guest_sites(rows: Sequence[Row]) -> list[RenderableType]:
    seen: dict[tuple[str, bytes, bytes], SiteCode] = {}
    for row in rows:
        for site in row.sites:
            seen.setdefault((site.label, site.before, site.after), site)
    return [_site(f"{site.label} {site.address:#010x}", (site.before, site.before_text),
                  (site.after, site.after_text)) for site in seen.values()]


def _site(name: str, before: tuple[bytes, str], after: tuple[bytes, str], *more: str) -> RenderableType:
    """A site's name, and below it bytes and instructions before and after."""
    width = 3 * max(len(before[0]), len(after[0]))
    lines = [f"  before  {before[0].hex(' '):<{width}} {before[1]}"]
    same = before[0] == after[0]
    lines.append("  after   the same" if same else f"  after   {after[0].hex(' '):<{width}} {after[1]}")
    return Text.assemble((name, "bold"), *(f"\n{line}" for line in (*lines, *more)))


def kernel_report(run: KernelRun) -> list[RenderableType]:
    """What ``pvfast run --image`` shows: costs, sites and states, and what was not measured."""
    costs = _table(("operation", "sites", "instructions", "cycles", "overhead"), left=1)
    sites: list[RenderableType] = [Text()]
    for row in run.measured:
        pair = (row.unpatched, row.patched)
        costs.add_row(row.operation, str(row.sites), _slashed(_figure(found, "instructions") for found in pair),
                      _slashed(_figure(found, "cycles") for found in pair), _percent(row))
        sites.append(_site(f"{row.operation} {row.address:#010x}", (row.before, row.before_text),
                           (row.after or b"", row.after_text), f"  state   {row.state}"))
    missing = [row for row in run.rows if row not in run.measured]
    return [
        _heading(run.banner or "a kernel without a version banner"),
        Text("One real site of each operation with its real callee, from the site to the address behind it; "
             f"processor model {run.processor}. Figures: unpatched / patched."),
        costs, *sites, Text(),
        Text(f"{len(run.measured)} of {len(run.rows)} operations measured."),
        *(Text(f"  {row.operation} ({row.sites} sites): {row.reason}") for row in missing),
    ]


def sites_report(rows: Sequence[SiteRow], summary: Sequence[OperationSummary]) -> list[RenderableType]:
    """What ``pvfast sites`` shows."""
    table = _table(("site", "type", "operation", "length", "section", "instructions"), left=1)
    for row in rows:
        table.add_row(f"{row.address:#010x}", str(row.type), row.operation, str(row.length), row.section,
                      row.disassembly)
    counts = _table(("operation", "type", "sites", "bytes"), left=1)
    for entry in summary:
        counts.add_row(entry.operation, str(entry.type), str(entry.sites), str(entry.bytes))
    return [table, Text(), counts, Text(f"{len(rows)} patch sites, {len(summary)} operations")]


def sites_json(rows: Sequence[SiteRow], summary: Sequence[OperationSummary]) -> str:
    """What ``pvfast sites --json`` prints."""
    columns = ("address", "type", "operation", "length", "section", "disassembly")
    return to_json({
        "kind": "sites", "schema": 1,
        "sites": [{name: getattr(row, name) for name in columns} for row in rows],
        "summary": [{name: getattr(entry, name) for name in ("type", "operation", "sites", "bytes")}
                    for entry in summary],
    })


def sites_csv(rows: Sequence[SiteRow]) -> str:
    """What ``pvfast sites --csv`` prints: addresses in lower-case hexadecimal, as ``pvfast patch --csv`` does.

    Examples
    --------
    >>> print(sites_csv([SiteRow(0xC0100000, 31, "irq.irq_disable", 6, ".text", "calll *0xc0400010")]), end="")
    site,type,op,len,section,instructions
    c0100000,31,irq.irq_disable,6,.text,calll *0xc0400010
    """
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("site", "type", "op", "len", "section", "instructions"))
    writer.writerows((f"{row.address:x}", row.type, row.operation, row.length, row.section, row.disassembly)
                     for row in rows)
    return text.getvalue()


def patch_report(sites: Sequence[PatchedSite], bits: int) -> list[RenderableType]:
    """What ``pvfast patch`` shows; the undecided sites and their reasons come last.

    Parameters
    ----------
    sites : sequence of PatchedSite
    bits : int
        32 or 64: what their code is.
    """
    decided = [site for site in sites if site.after is not None]
    table = _table(("site", "operation", "before", "after", "instructions after"), left=5)
    for site in decided:
        after = site.after or b""
        table.add_row(f"{site.record.address:#010x}", site.operation or _NOTHING, site.before.hex(" "),
                      after.hex(" "), show_code(after, site.record.address, bits))
    undecided = [site for site in sites if site.after is None]
    return [
        table,
        Text(f"{len(decided)} of {len(sites)} patch sites decided"),
        *(Text(f"  undecided: {site.record.address:#010x} {site.operation or f'type {site.record.type}'}: "
               f"{site.reason}") for site in undecided),
    ]


def isa_report(forms: Sequence[Form]) -> list[RenderableType]:
    """What ``pvfast isa`` shows: one line per row of the instruction set."""
    table = _table(("opcode", "instruction", "operands", "reads", "writes", "undefined", "needs", "cost"), left=8)
    for row in forms:
        table.add_row(row.opcode, row.syntax, " ".join(row.access), *map(flag_letters, (
            row.reads, row.writes, row.undefined)), ", ".join(needs(row)), cost_class(row))
    return [table, Text(f"{len(forms)} forms; operands: r read, w written, - not accessed; flags: o s z a p c; "
                        "LOCK: may be locked")]


def isa_json(forms: Sequence[Form]) -> str:
    """What ``pvfast isa --json`` prints: every column of the rows but the names of core functions."""
    columns = ("opcode", "syntax", "access", "lock", "privileged", "protected", "ends", "cost", "register_cost",
               "feature")
    return to_json({"kind": "isa", "schema": 1, "forms": [
        {name: getattr(row, name) for name in columns}
        | {name: flag_letters(getattr(row, name)) for name in ("reads", "writes", "undefined")} for row in forms]})


def models_report(models: Sequence[Model]) -> list[RenderableType]:
    """What ``pvfast models`` shows: a line per processor."""
    table = _table(("model", "CPUID", "branches", "features"), left=4)
    for model in models:
        signature = f"{model.cpuid[1][0]:#x}" if model.cpuid else _NOTHING
        names = [name for name, bit in FEATURE_BITS.items() if model.features >> bit & 1]
        table.add_row(model.name, signature, "predicted" if model.prediction else "always right", " ".join(names))
    return [table, Text("pvfast models NAME lists what it charges, and where each number is from.")]


def models_json(models: Sequence[Model]) -> str:
    """What ``pvfast models --json`` prints."""
    return to_json({"kind": "models", "schema": 1, "models": [model.name for model in models]})


def model_report(model: Model) -> list[RenderableType]:
    """What ``pvfast models NAME`` shows: every number with its range and source."""
    table = _table(("class", "cycles", "range", "source"), left=1)
    table.columns[-1].justify = "left"
    for name, cost in model.cycles.items():
        span = f"{cost.low}-{cost.high}" if cost.low != cost.high else ""
        table.add_row(name, str(cost.cycles), span, cost.source)
    parts: list[RenderableType] = [_heading(f"{model.name}: modelled cycles by cost class"), table, Text()]
    if model.prediction is None:
        return [*parts, Text("Every branch counts as predicted.")]
    branches = _table(("prediction", "number", "source"), left=1)
    branches.columns[-1].justify = "left"
    for field in fields(model.prediction):
        number, source = getattr(model.prediction, field.name)
        branches.add_row(field.name.replace("_", " "), str(number), source)
    return [*parts, _heading("Branch prediction: cycles of a wrong guess, and sizes"), branches]


def model_json(model: Model) -> str:
    """What ``pvfast models NAME --json`` prints."""
    return to_json({
        "kind": "model", "schema": 1, "model": model.name,
        "cycles": {name: cost._asdict() for name, cost in model.cycles.items()},
        "prediction": model.prediction and {
            field.name: dict(zip(("number", "source"), getattr(model.prediction, field.name), strict=True))
            for field in fields(model.prediction)},
    })


def calibration_report(found: Calibration) -> list[RenderableType]:
    """What ``pvfast calibrate`` shows: measured and modelled cycles of each sequence."""
    table = _table(("site", "instructions", "with its loop", "beyond it", "model"), left=2)
    for name, text, taken, beyond, modelled in found.rows():
        table.add_row(name, text, f"{taken:.2f}", f"{beyond:.2f}", str(modelled))
    return [
        _heading(f"{found.processor}: cycles of its time-stamp counter, in ring 3"), table, Text(),
        Text("The model adds up whole cycles, at least one for each instruction; the processor runs several at once. "
             "What only ring 0 can do (cli, sti, iret) is not measured, and costs what it does in the generic model."),
    ]


def _table(columns: Sequence[str], left: int) -> Table:
    """The first `left` columns hold words, the others figures."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < left else "right", overflow="fold")
    return table


def _heading(text: str) -> Text:
    return Text(text, style="bold")


def _slashed(values: Iterable[object]) -> str:
    found = list(values)
    if all(value is None for value in found):
        return _NOTHING
    return " / ".join(_NOTHING if value is None else str(value) for value in found)


def _figure(counts: Counts | None, name: str) -> int | None:
    return None if counts is None else getattr(counts, name)


def _percent(row: Row | KernelRow) -> str:
    value = row.overhead_percent()
    return _NOTHING if value is None else f"{value:+.1f} %"
