"""The measured tables of the documentation: ``python -m benchmarks.document``; with ``--check``, whether they are true.

Enters: the matrix, the sensitivity of the overheads, a trace. Leaves: the text between ``<!-- measured:begin -->`` and
``<!-- measured:end -->`` in a page per hypervisor, docs/overhead.md, docs/the-talk.md and README.md. All of it but the
README's host times is exact, so a test can compare it, and a page is written only when something exact has changed.
Next: report.py writes the tables of host times.
"""

import io
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from rich.console import RenderableType

from pvfast.experiments import HYPERVISORS, Matrix, Row, run_matrix, trace_iteration, workload_names
from pvfast.experiments.matrix import INTERRUPT_GROUPS
from pvfast.experiments.sensitivity import Sensitivity, sensitivity
from pvfast.guest import build
from pvfast.report import tables

README = Path(__file__).resolve().parents[1] / "README.md"
DOCS = README.with_name("docs")
BEGIN, END = "<!-- measured:begin -->\n", "<!-- measured:end -->"
#: The processors of the overhead tables, as people call them.
PROCESSORS = {"pentium4": "Pentium 4", "k8": "K8", "nehalem": "Nehalem", "skylake": "Skylake",
              "skylake-retpoline": "Skylake, retpolines", "zen": "Zen"}
OPERATIONS = ("irq_disable", "irq_enable", "save_fl", "restore_fl", "irq_save_restore", "null_syscall_sysenter")
HEADLINE = "pentium4"
#: Of the README: hypervisor and workload, and how many lines are shown, three of them the head.
TRACED = ("xen", "context-switch-2p")
TRACED_LINES = 13


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; the first column holds words."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def slashed(row: Row, figure: str) -> str:
    return " / ".join("-" if counts is None else str(getattr(counts, figure)) for counts in row.counts().values())


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def hypervisor_page(rows: Sequence[Row]) -> str:
    """Workloads, then operations, under one hypervisor."""
    order = workload_names()
    workloads = sorted((row for row in rows if row.is_workload), key=lambda row: order.index(row.benchmark))
    text = "One iteration of each workload; indirect / direct / patched; generic processor model.\n\n"
    text += table(("workload", "instructions", "cycles", "overhead", "operations", "of them interrupt"), (
        (f"`{row.benchmark}`" + (f" x {row.units}" if row.units > 1 else ""), slashed(row, "instructions"),
         slashed(row, "cycles"), percent(row.overhead_percent()), row.executed,
         "-" if row.interrupt_percent is None else f"{row.interrupt_percent:.0f} %")
        for row in workloads if row.indirect))
    text += "\nOne operation, less the loop around it.\n\n"
    return text + table(("operation", "instructions", "cycles", "overhead"), (
        (f"`{row.benchmark}`" + (f" ({row.variant})" if row.variant else ""), slashed(row, "instructions"),
         slashed(row, "cycles"), percent(row.overhead_percent()))
        for row in rows if not row.is_workload and row.indirect))


def interval(found: Sensitivity | None) -> str:
    if found is None:
        return "-"
    if found.low == found.high:
        return f"{found.percent:.1f}"
    return f"{found.percent:.1f} ({found.low:.1f} to {found.high:.1f})"


def overhead_page() -> str:
    """The overhead on bare hardware by processor, and what carries the headline."""
    names = (*workload_names(), *OPERATIONS)
    found = {processor: {row.benchmark: row for row in sensitivity("native", names, processor)}
             for processor in PROCESSORS}
    text = "Cycles of the indirect form over the patched one, in per cent, on bare hardware.\n\n"
    text += table(("", *PROCESSORS.values()), (
        (f"`{name}`", *(interval(found[processor].get(name)) for processor in PROCESSORS)) for name in names))
    text += (f"\n{PROCESSORS[HEADLINE]}: the overhead with one assumption alone at the low and the high end of its "
             "range.\n\n")
    classes = sorted({name for row in found[HEADLINE].values() for name, _, _ in row.carriers})
    return text + table(("", *(f"`{name}`" for name in classes)), (
        (f"`{benchmark}`", *(ends(row, name) for name in classes)) for benchmark, row in found[HEADLINE].items()
        if row.carriers))


def ends(row: Sensitivity, name: str) -> str:
    return next((f"{low:.1f} to {high:.1f}" for carrier, low, high in row.carriers if carrier == name), "")


def comparison(matrix: Matrix) -> str:
    """What each hypervisor replaces, and cycles of each workload under every one, over bare hardware's."""
    image = build()
    native = image.implementations("native")
    text = table(("", *HYPERVISORS), (
        ("operations replaced", *(sum(native[name] != target for name, target in image.implementations(each).items())
                                  for each in HYPERVISORS)),
        ("sites that become inline code", *(inlined(matrix, each) for each in HYPERVISORS))))
    text += "\nPatched, modelled cycles of one iteration; in brackets, times those of bare hardware.\n\n"

    def cell(hypervisor: str, name: str) -> str:
        row, base = (matrix.row(each, name).patched for each in (hypervisor, "native"))
        return "-" if row is None or base is None else f"{row.cycles} ({row.cycles / base.cycles:.2f})"
    text += table(("", *HYPERVISORS), (
        (f"`{name}`", *(cell(hypervisor, name) for hypervisor in HYPERVISORS)) for name in workload_names()))
    text += "\nOperations of one iteration on bare hardware, by group of the table.\n\n"
    rows = [matrix.row("native", name) for name in workload_names()]
    groups = sorted({group for row in rows for _, group, _ in row.operations} - INTERRUPT_GROUPS)
    return text + table(("", "all", "interrupt", *groups, "share of interrupt operations"), (
        (f"`{row.benchmark}`", row.executed, sum(n for _, group, n in row.operations if group in INTERRUPT_GROUPS),
         *(sum(n for _, found, n in row.operations if found == group) or "" for group in groups),
         f"{row.interrupt_percent:.0f} %") for row in rows))


def inlined(matrix: Matrix, hypervisor: str) -> str:
    """How many of the sites that the loops execute hold neither a call nor a jump once they are patched."""
    sites = {site.label: site.after_text for row in matrix.rows if row.hypervisor == hypervisor and not row.variant
             for site in row.sites}
    plain = sum(not any(word in text for word in ("call", "jmp")) for text in sites.values())
    return f"{plain} of {len(sites)}"


def run_output() -> str:
    """What two commands print, shortened."""
    text = printed(tables.matrix_report(run_matrix(("native",), host_time=True), sites=True))
    heading = "native: patch sites\n"
    head, _, rest = text.partition(heading)
    sites, _, foot = rest.partition("\n\n")
    site, = re.findall(r"^site_irq_disable .*\n(?:  .*\n)+", sites, re.MULTILINE)
    traced = trace_iteration(*TRACED)
    trace = printed(tables.trace_report(f"{TRACED[1]} under {TRACED[0]}", traced)).splitlines(keepends=True)
    return (f"`pvfast run native` (one patch site of the list):\n\n```\n{head}{heading}{site}...\n\n{foot}```\n\n"
            f"`pvfast run {' '.join(TRACED)} --trace` (the first of {len(traced)} operations):\n\n"
            f"```\n{''.join(trace[:TRACED_LINES])}...\n```\n")


def printed(parts: Iterable[RenderableType]) -> str:
    """As a command prints it into a pipe."""
    text = io.StringIO()
    tables.show(parts, text)
    return text.getvalue()


def pages() -> dict[Path, str]:
    """What belongs between the marks of each page."""
    matrix = run_matrix()
    found = {DOCS / "hypervisors" / f"{name}.md": hypervisor_page(list(rows))
             for name, rows in groupby(matrix.rows, key=lambda row: row.hypervisor)}
    return found | {DOCS / "overhead.md": overhead_page(), DOCS / "the-talk.md": comparison(matrix),
                    README: run_output()}


def replaced(page: Path, text: str) -> str:
    """The page with new text between its marks."""
    head, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN.strip()} and {END}")
    return f"{head}{BEGIN}{text}{END}{tail}"


def exact(text: str) -> str:
    """Without the column of host times, which differ on every run, and what is as wide as they are."""
    return re.sub(r" +host ns$|   (?: *-?[0-9]+\.[0-9] /){2} -?[0-9]+\.[0-9]$|─+$", "", text, flags=re.MULTILINE)


def outdated() -> dict[Path, str]:
    """Pages whose tables are not what is measured, as they ought to be."""
    measured = {page: replaced(page, text) for page, text in pages().items()}
    return {page: text for page, text in measured.items() if exact(text) != exact(page.read_text(encoding="utf-8"))}


def main() -> int:
    wrong = outdated()
    if sys.argv[1:] == ["--check"]:
        print("\n".join(f"{page}: run python -m benchmarks.document" for page in wrong), end="\n" if wrong else "")
        return 1 if wrong else 0
    for page, text in wrong.items():
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
