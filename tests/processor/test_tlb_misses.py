"""What the core charges for as misses of the data TLB, against a foreign execution of the same workloads.

The built-in kernel runs in Unicorn (unicorn_kernel.py), and the pages that it uses there go through TLBs of plain
Python: one like the core's, which has to miss exactly as often as the core says, and those of the processors that have
cost models.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from pvfast.experiments import GuestRun, settings
from pvfast.guest import GuestImage, build
from pvfast.guest.benchmarks import WORKLOADS
from pvfast.guest.prelude import PAGE_OFFSET
from pvfast.processor import load_model
from tests.guest.programs import with_program
from tests.guest.test_machine_calls import SUSPEND

from .unicorn_kernel import Event, UnicornKernel

DOCUMENT = Path(__file__).parents[2] / "docs" / "overhead.md"
ITERATIONS = (4, 3, 4)
"""Of the runs of a workload. The first is not counted, and the others differ by an iteration. None has more than the
first: the kernel's pages stay in the TLB, and it has used them all by then."""
WORKLOAD_NAMES = [row.name for row in WORKLOADS]
Geometry = tuple[tuple[int, int], ...]
CORE: Geometry = ((512, 1),)
GEOMETRIES: dict[str, Geometry] = {
    "pentium4": ((64, 64),),                # SDM 2, CPUID, descriptor 5B; assumed: fully associative
    "k8": ((32, 32), (512, 4)),             # assumed: as commonly reported
    "nehalem": ((64, 4), (512, 4)),         # SDM 2, CPUID, descriptors 03 and CA
    "skylake": ((64, 4), (1536, 12)),       # Intel 248966, table 2-15; descriptor C3 has 6 ways
    "zen": ((64, 64), (1536, 12)),          # AMD 55723, 2.7
}
"""Entries and ways of each level, for data and pages of 4 KiB."""
INSTRUCTIONS: Geometry = ((32, 32), (512, 4))
"""The smallest instruction TLB of these processors, the K8's."""
TOO_FEW = {"page-fault": 1}
"""Walks that the Pentium 4 makes more often, per iteration: the mapping has 64 pages, and the kernel has its own."""
SECOND_LEVEL = {"page-fault": 1, "context-switch-8p": 25}
"""Hits there that one iteration more makes a difference of, at most: of a page of that mapping, and of those of eight
processes, most of all on the K8, whose first level is the smallest. They are 6 or 7 cycles each (k8.py, nehalem.py),
which no model charges."""


class Misses(NamedTuple):
    """Page walks, how many of them for pages of the kernel, and hits in a level below the first."""

    walks: int
    of_kernel_pages: int
    hits_below: int


class Tlb:
    """Of levels, (entries, ways) each, replaced by least recent use. It notes the pages that it walks for, and counts
    hits in a level below the first.

    An entry that a read has made serves stores when the page was dirty then; otherwise a store walks again, to set D.
    """

    class Entry(NamedTuple):
        stores: bool
        kept: bool

    def __init__(self, geometry: Geometry) -> None:
        self.levels: list[tuple[list[dict[int, Tlb.Entry]], int]] = [
            ([{} for _ in range(entries // ways)], ways) for entries, ways in geometry]
        self.walked: list[int] = []
        self.hits_below = 0

    def flush(self, kept: bool) -> None:
        """`kept`: but for global pages."""
        for sets, _ in self.levels:
            for entries in sets:
                for page in [page for page, entry in entries.items() if not (kept and entry.kept)]:
                    del entries[page]

    def drop(self, page: int) -> None:
        for sets, _ in self.levels:
            sets[page % len(sets)].pop(page, None)

    def access(self, page: int, store: bool, dirty: bool, kept: bool) -> None:
        entry = self.Entry(store or dirty, kept)
        for depth, (sets, _) in enumerate(self.levels):
            entries = sets[page % len(sets)]
            if page in entries and (entries[page].stores or not store):
                entry = entries[page]
                self.hits_below += depth > 0
                break
        else:
            self.walked.append(page)
        for sets, ways in self.levels[:depth + 1]:
            entries = sets[page % len(sets)]
            if entries.pop(page, None) is None and len(entries) == ways:
                del entries[next(iter(entries))]
            entries[page] = entry


class Tlbs:
    """One for data unless told; `split`: one for each privilege, as the core has them; `keeps`: global pages."""

    def __init__(self, geometry: Geometry, split: bool = False, kinds: tuple[str, ...] = ("read", "write"),
                 fault: str = "fault", keeps: bool = True) -> None:
        self.kinds, self.fault, self.keeps = kinds, fault, keeps
        self.supervisor = Tlb(geometry)
        self.user = Tlb(geometry) if split else self.supervisor

    def see(self, event: Event) -> None:
        """A fault is a walk too, after which the page is in no TLB (SDM 3:4.10.4.1)."""
        own = self.user if event.user else self.supervisor
        if event.kind in self.kinds:
            own.access(event.page, event.kind == "write", event.dirty, event.kept)
        elif event.kind in ("flush", "flush all"):
            for tlb in (self.supervisor, self.user):
                tlb.flush(kept=self.keeps and event.kind == "flush")
        elif event.kind in ("drop", "fault", "fetch fault"):
            self.supervisor.drop(event.page)
            self.user.drop(event.page)
            if event.kind == self.fault:
                own.walked.append(event.page)

    def misses(self, events: Iterable[Event]) -> Misses:
        """Those of these events; what they leave in the TLB stays."""
        each = {id(tlb): tlb for tlb in (self.supervisor, self.user)}.values()
        for tlb in each:
            tlb.walked, tlb.hits_below = [], 0
        for event in events:
            self.see(event)
        pages = [page for tlb in each for page in tlb.walked]
        return Misses(len(pages), sum(page >= PAGE_OFFSET >> 12 for page in pages), sum(tlb.hits_below for tlb in each))


@dataclass(frozen=True)
class Seen:
    """Of a run of a workload: what the core has counted, and Unicorn."""

    charged: int
    instructions: tuple[int, int]
    misses: Mapping[str, Misses]


class Both:
    """The kernel in the core, with misses that cost one cycle and with free ones, and in Unicorn."""

    def __init__(self, image: GuestImage) -> None:
        setting, = settings(image, "native")
        self.kernel = UnicornKernel(setting.formed("indirect"))
        self.charged, self.free = (
            GuestRun(setting, "indirect", load_model("generic").with_costs(tlb_miss=cost)) for cost in (1, 0))
        self.tlbs = {name: Tlbs(geometry) for name, geometry in GEOMETRIES.items()} | {
            "core": Tlbs(CORE, split=True), "not global": Tlbs(CORE, split=True, keeps=False),
            "instructions": Tlbs(INSTRUCTIONS, kinds=("fetch",), fault="fetch fault")}

    def run(self, name: str, iterations: int) -> Seen:
        self.kernel.loop(name, iterations)
        charged, free = (each.counts(name, iterations) for each in (self.charged, self.free))
        return Seen(charged.cycles - free.cycles, (self.kernel.instructions, charged.instructions),
                    {name: each.misses(self.kernel.events) for name, each in self.tlbs.items()})

    def runs(self, name: str) -> tuple[Seen, Seen]:
        _, less, more = (self.run(name, iterations) for iterations in ITERATIONS)
        return less, more


@pytest.fixture(scope="module")
def seen() -> Mapping[str, tuple[Seen, Seen]]:
    """By workload, the two runs that count."""
    both = Both(build())
    return {name: both.runs(name) for name in WORKLOAD_NAMES}


def per_iteration(runs: tuple[Seen, Seen], tlb: str) -> Misses:
    return Misses(*(more - less for less, more in zip(*(run.misses[tlb] for run in runs), strict=True)))


@pytest.mark.parametrize("name", WORKLOAD_NAMES)
def test_the_core_charges_for_what_misses_in_its_tlb(seen: Mapping[str, tuple[Seen, Seen]], name: str) -> None:
    """Of the whole run, with the process that is made for it and its end."""
    for run in seen[name]:
        assert run.instructions[0] == run.instructions[1]
        assert run.charged == run.misses["core"].walks


def test_a_change_of_pge_takes_global_pages_out() -> None:
    """flush_tlb_kernel, which no workload uses, when the processor wakes up."""
    both = Both(with_program(build(), f"1: pushl %ebx\n{SUSPEND}popl %ebx\ndecl %ebx\njnz 1b\nexit %eax"))
    for run in both.runs("null"):
        assert run.instructions[0] == run.instructions[1]
        assert run.charged == run.misses["core"].walks
        assert run.misses["core"].of_kernel_pages


@pytest.mark.parametrize("name", WORKLOAD_NAMES)
@pytest.mark.parametrize("processor", GEOMETRIES)
def test_processors_miss_as_often_as_the_core(seen: Mapping[str, tuple[Seen, Seen]], processor: str, name: str) -> None:
    core, own = (per_iteration(seen[name], tlb) for tlb in ("core", processor))
    one_level = len(GEOMETRIES[processor]) == 1
    assert own.walks - core.walks == (TOO_FEW.get(name, 0) if one_level else 0)
    assert abs(own.hits_below) <= SECOND_LEVEL.get(name, 0)


@pytest.mark.parametrize("name", WORKLOAD_NAMES)
def test_no_page_of_the_kernel_is_walked_for_twice(seen: Mapping[str, tuple[Seen, Seen]], name: str) -> None:
    assert [run.misses["core"].of_kernel_pages for run in seen[name]] == [0, 0]


def test_the_table_of_the_documentation(seen: Mapping[str, tuple[Seen, Seen]]) -> None:
    """The overheads are computed from whole cycles: those of the model, and with more misses."""
    setting, = settings(build(), "native")
    cycles = {processor: [[run.per_iteration(name).cycles for name in WORKLOAD_NAMES]
                          for run in (GuestRun(setting, form, processor) for form in ("indirect", "patched"))]
              for processor in ("pentium4", "k8")}
    rows = []
    for number, name in enumerate(WORKLOAD_NAMES):
        walks, without, code = (per_iteration(seen[name], tlb).walks for tlb in ("core", "not global", "instructions"))
        if not walks:
            assert not without and not code
            continue
        cells = [walks, without, code]
        for processor, forms in cycles.items():
            indirect, patched = (form[number] for form in forms)
            miss = load_model(processor).cycles["tlb_miss"].cycles
            cells.append(" / ".join(f"{100 * (indirect - patched) / (patched + more * miss):.1f}"
                                    for more in (0, without - walks, code)))
        rows.append(f"| `{name}` | {' | '.join(map(str, cells))} |\n")
    assert "".join(rows) in DOCUMENT.read_text(encoding="utf-8"), "".join(rows)


def test_both_forms_miss_equally_often() -> None:
    """So that the cost of a miss is in the divisor of an overhead alone."""
    setting, = settings(build(), "native")
    found = []
    for form in ("indirect", "patched"):
        runs = [GuestRun(setting, form, load_model("generic").with_costs(tlb_miss=cost)) for cost in (1, 0)]
        found.append([(runs[0].per_iteration(name) - runs[1].per_iteration(name)).cycles for name in WORKLOAD_NAMES])
    assert found[0] == found[1]
