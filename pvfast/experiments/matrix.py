"""Every operation and workload under every hypervisor in every form: names go in, one frozen record per row comes out.

Figures are integers, equal on every run; host times stand apart, because they are not. A row that cannot exist
says why. Next: ``pvfast/report/tables.py`` shows it.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from pvfast.assembly import show_code
from pvfast.errors import PvfastError
from pvfast.experiments.runs import GuestRun
from pvfast.experiments.tracing import trace_operations
from pvfast.experiments.workloads import FORMS, Counts, Setting, overhead_percent, settings
from pvfast.guest import Benchmark, build
from pvfast.guest.benchmarks import ROWS, WORKLOADS
from pvfast.paravirt.hypervisors import BUILT_IN

#: What `run_matrix` measures unless asked for less.
HYPERVISORS = tuple(BUILT_IN)

#: Groups of the table whose operations mask interrupts, wait for them or return from them: the talk's "interrupt
#: operations".
INTERRUPT_GROUPS = frozenset(("irq", "exit"))

_HOST_REPEATS = 7
_HOST_INSTRUCTIONS = 50_000             # of a timed run, about

#: Called with (done, total, what comes next).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class SiteCode:
    """A patch site that a row executes, before and after patching.

    Attributes
    ----------
    label : str
        In the guest's source.
    address : int
        Linear.
    before, after : bytes
        As compiled, and patched.
    before_text, after_text : str
        The same, disassembled.
    """

    label: str
    address: int
    before: bytes
    after: bytes
    before_text: str
    after_text: str

    @property
    def kept(self) -> bool:
        """Whether the hypervisor left the site as it is."""
        return self.before == self.after


@dataclass(frozen=True, slots=True)
class Row:
    """One operation or workload under one hypervisor.

    Attributes
    ----------
    hypervisor, benchmark, variant : str
        The key; `benchmark` names a `pvfast.guest.Benchmark`, `variant` a body of ``irq_disable`` or nothing.
    title : str
        For people.
    is_workload : bool
        A whole iteration of a user program, nothing subtracted; else an operation, less the loop around it.
    baseline : str
        Of a workload: the row that lmbench subtracts from it.
    units : int
        How many of what lmbench reports one iteration is: the hops of a token, the pages of a mapping.
    sites : tuple of SiteCode
        The sites that an operation executes, in order; a workload's are not listed.
    operations : tuple of (str, str, int)
        Counted: name and group of each member of ``paravirt_ops`` that an iteration executes, and how often.
    indirect, direct, patched : Counts or None
        Per iteration; None when the row does not exist.
    note : str
        Why the row does not exist, or what patching left alone.
    """

    hypervisor: str
    benchmark: str
    variant: str
    title: str
    is_workload: bool
    baseline: str
    units: int
    sites: tuple[SiteCode, ...]
    operations: tuple[tuple[str, str, int], ...] = ()
    indirect: Counts | None = None
    direct: Counts | None = None
    patched: Counts | None = None
    note: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What rows are sorted by."""
        return self.hypervisor, self.benchmark, self.variant

    @property
    def name(self) -> str:
        """Benchmark and variant, for people."""
        return f"{self.benchmark} ({self.variant})" if self.variant else self.benchmark

    @property
    def executed(self) -> int:
        """How many operations an iteration executes."""
        return sum(count for _, _, count in self.operations)

    @property
    def interrupt_percent(self) -> float | None:
        """The share of interrupt operations among them; None when there are none."""
        interrupts = sum(count for _, group, count in self.operations if group in INTERRUPT_GROUPS)
        return round(100 * interrupts / self.executed, 1) if self.executed else None

    def counts(self) -> dict[str, Counts | None]:
        """By form, in the order of `FORMS`."""
        return dict(zip(FORMS, (self.indirect, self.direct, self.patched), strict=True))

    def overhead_percent(self, figure: str = "cycles") -> float | None:
        """How much more the indirect form costs than the patched one, in "cycles" or "instructions"."""
        return overhead_percent(self.indirect, self.patched, figure)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "hypervisor": self.hypervisor, "benchmark": self.benchmark, "variant": self.variant,
            "kind": "workload" if self.is_workload else "operation", "title": self.title, "baseline": self.baseline,
            "units": self.units,
            "operations": {name: {"group": group, "executed": count} for name, group, count in self.operations},
            "interrupt_percent": self.interrupt_percent,
            "sites": [_site_dict(site) for site in self.sites],
            **{form: counts and counts.as_dict() for form, counts in self.counts().items()},
            "overhead_percent": {name: self.overhead_percent(name) for name in ("instructions", "cycles")},
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class HostTime:
    """Time that the host took for one iteration: the median of interleaved repeats. Never compared exactly.

    Attributes
    ----------
    hypervisor, benchmark, variant, form : str
        The key.
    nanoseconds : float
        Per iteration, of an operation the empty loop subtracted.
    """

    hypervisor: str
    benchmark: str
    variant: str
    form: str
    nanoseconds: float

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What times are sorted by."""
        return self.hypervisor, self.benchmark, self.variant, FORMS.index(self.form)


@dataclass(frozen=True, slots=True)
class Matrix:
    """All rows of an experiment, sorted by key.

    Attributes
    ----------
    era : str
        Kernel release whose ``paravirt_ops`` the guest has.
    processor : str
        The processor model.
    rows : tuple of Row
    host_times : tuple of HostTime
        Empty unless they were asked for.
    """

    era: str
    processor: str
    rows: tuple[Row, ...]
    host_times: tuple[HostTime, ...] = ()

    @property
    def measured(self) -> tuple[Row, ...]:
        """The rows that hold figures."""
        return tuple(row for row in self.rows if row.indirect is not None)

    def row(self, hypervisor: str, benchmark: str, variant: str = "") -> Row:
        """The row of a key; KeyError when it was not measured."""
        for row in self.rows:
            if row.key == (hypervisor, benchmark, variant):
                return row
        raise KeyError((hypervisor, benchmark, variant))

    def host_ns(self, row: Row, form: str) -> float | None:
        """Host nanoseconds of a row's form, or None."""
        key = (*row.key, FORMS.index(form))
        return next((time.nanoseconds for time in self.host_times if time.key == key), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON; the host's times stand apart from the exact figures."""
        times = [{"hypervisor": time.hypervisor, "benchmark": time.benchmark, "variant": time.variant,
                  "form": time.form, "nanoseconds": time.nanoseconds} for time in self.host_times]
        return {
            "kind": "matrix", "schema": 2, "era": self.era, "processor": self.processor,
            "rows": [row.as_dict() for row in self.rows], "host_times": times,
        }


def operation_names() -> tuple[str, ...]:
    """The operations that `run_matrix` can measure, sorted.

    Examples
    --------
    >>> operation_names()[:3]
    ('asm_irq_disable', 'asm_irq_enable', 'iret')
    """
    return tuple(sorted(row.name for row in ROWS if row.sites))


def workload_names() -> tuple[str, ...]:
    """The workloads that `run_matrix` can measure, as lmbench orders them.

    Examples
    --------
    >>> workload_names()[:3]
    ('null', 'read', 'write')
    """
    return tuple(row.name for row in WORKLOADS)


def run_matrix(
    hypervisors: Iterable[str] = HYPERVISORS,
    benchmarks: Iterable[str] = (),
    *,
    host_time: bool = False,
    processor: str = "generic",
    progress: Progress | None = None,
) -> Matrix:
    """Measure operations and workloads of the built-in guest kernel, its sites indirect, direct and patched.

    Parameters
    ----------
    hypervisors : iterable of str, optional
        Names; those of `HYPERVISORS` unless given.
    benchmarks : iterable of str, optional
        Of `operation_names` and `workload_names`; all unless given.
    host_time : bool, optional
        Whether to time the host as well.
    processor : str, optional
        A model of `pvfast.processor`.
    progress : callable, optional
        Called with (done, total, what comes next).

    Returns
    -------
    Matrix
        Equal on every run, but for the host's times.

    Raises
    ------
    GuestError
        A guest did not do what it should.
    PvfastError
        There is no such benchmark, hypervisor or processor.

    Examples
    --------
    >>> row = run_matrix(["native"], ["irq_disable"]).row("native", "irq_disable")
    >>> row.indirect.instructions, row.direct.instructions, row.patched.instructions
    (7, 8, 4)
    >>> row.sites[0].after_text
    'cli; nop; leal (%esi), %esi; nop'
    """
    known = (*operation_names(), *workload_names())
    wanted = set(benchmarks) or set(known)
    if unknown := sorted(wanted.difference(known)):
        raise PvfastError(f"no operation or workload {unknown[0]!r}: choose from {', '.join(known)}")
    every = [setting for name in sorted(set(hypervisors)) for setting in settings(build(hypervisor=name), name)]
    todo = [(setting, [loop for loop in setting.benchmarks() if loop.name in wanted]) for setting in every]
    total = sum(len(loops) for _, loops in todo)
    rows: list[Row] = []
    times: list[HostTime] = []
    for setting, loops in todo:
        if not loops:
            continue
        runs = [GuestRun(setting, form, processor) for form in FORMS]
        for loop in loops:
            if progress:
                progress(len(rows), total, f"{setting.hypervisor} {loop.name} {setting.variant}".strip())
            rows.append(_measure(setting, loop, runs))
            if host_time and rows[-1].indirect:
                times += _host_times(setting, loop, runs)
    if progress:
        progress(total, total, "")
    return Matrix(build().era.name, processor, tuple(sorted(rows, key=lambda row: row.key)),
                  tuple(sorted(times, key=lambda time: time.key)))


def _measure(setting: Setting, loop: Benchmark, runs: list[GuestRun]) -> Row:
    sites = _sites(loop, runs)
    title = f"{loop.title}, {setting.title}" if setting.title else loop.title
    row = Row(setting.hypervisor, loop.name, setting.variant, title, loop.is_workload,
              loop.baseline if loop.is_workload else "", loop.units, sites)
    if missing := runs[0].missing(loop):
        return replace(row, note=missing)
    indirect, direct, patched = (run.measure(loop.name) for run in runs)
    return replace(row, operations=_operations(runs[0], loop.name), indirect=indirect, direct=direct, patched=patched,
                   note=_kept(sites) or _jumps(sites, gained=patched != direct))


def _operations(run: GuestRun, name: str) -> tuple[tuple[str, str, int], ...]:
    """What an iteration executes, the most frequent first."""
    counted = Counter(traced.operation for traced in trace_operations(run, name))
    return tuple((operation.name, operation.group, count) for operation, count in counted.most_common())


def _kept(sites: tuple[SiteCode, ...]) -> str:
    """A note on the sites that the patch function left alone."""
    kept = [site.label for site in sites if site.kept]
    if not kept:
        return ""
    which = "" if len(kept) == len(sites) else f"{', '.join(kept)} "
    return (f"{which}stays an indirect call: no inline form fits, and a bare call may destroy registers that the "
            "site keeps")


def _jumps(sites: tuple[SiteCode, ...], *, gained: bool) -> str:
    """A note on a site that does the same as its direct form."""
    if gained or not sites or not all(site.after_text.startswith("jmp ") for site in sites):
        return ""
    return ("gains nothing over the direct form: patched, it becomes a jmp to the hypervisor's code, which makes the "
            "hypercall; there is no inline form")


def _sites(loop: Benchmark, runs: list[GuestRun]) -> tuple[SiteCode, ...]:
    images = {run.form: run.image for run in runs}
    found = []
    for label in loop.sites:
        site = images["indirect"].site(label)
        before, after = (images[form].read(label, site.length) for form in ("indirect", "patched"))
        found.append(SiteCode(label, site.address, before, after, *(
            show_code(code, site.address) for code in (before, after))))
    return tuple(found)


def _host_times(setting: Setting, loop: Benchmark, runs: list[GuestRun]) -> list[HostTime]:
    """The forms take turns, so that what disturbs the host disturbs them alike."""
    iterations = max(1, _HOST_INSTRUCTIONS // runs[0].per_iteration(loop.name).instructions)
    repeats = [[run.host_ns(loop.name, iterations) for run in runs] for _ in range(_HOST_REPEATS)]
    return [HostTime(setting.hypervisor, loop.name, setting.variant, form, round(median(taken), 1))
            for form, taken in zip(FORMS, zip(*repeats, strict=True), strict=True)]


def _site_dict(site: SiteCode) -> dict[str, Any]:
    return {"label": site.label, "address": site.address, "length": len(site.before), "before": site.before.hex(),
            "after": site.after.hex(), "before_text": site.before_text, "after_text": site.after_text}
