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
from pvfast.guest import build
from pvfast.guest.benchmarks import WORKLOADS
from pvfast.guest.prelude import PAGE_OFFSET
from pvfast.processor import load_model

from .unicorn_kernel import Event, UnicornKernel

DOCUMENT = Path(__file__).parents[2] / "docs" / "overhead.md"
ITERATIONS = (1, 2, 3)
"""Of the runs of a workload. The first is not counted, and the others differ by an iteration."""
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
SECOND_LEVEL = 3
"""Hits there, at most: of a page of that mapping, and in `context-switch-8p` of three, depending on where pages lie.
They are 6 or 7 cycles each (k8.py, nehalem.py), which no model charges."""


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

    def __init__(self, geometry: Geometry) -> None:
        self.levels = [([{} for _ in range(entries // ways)], ways) for entries, ways in geometry]
        self.walked: list[int] = []
        self.hits_below = 0

    def flush(self) -> None:
        for sets, _ in self.levels:
            for entries in sets:
                entries.clear()

    def drop(self, page: int) -> None:
        for sets, _ in self.levels:
            sets[page % len(sets)].pop(page, None)

    def access(self, page: int, store: bool, dirty: bool) -> None:
        stores = store or dirty
        for depth, (sets, _) in enumerate(self.levels):
            entries = sets[page % len(sets)]
            if page in entries and (entries[page] or not store):
                stores = entries[page]
                self.hits_below += depth > 0
                break
        else:
            self.walked.append(page)
        for sets, ways in self.levels[:depth + 1]:
            entries = sets[page % len(sets)]
            if entries.pop(page, None) is None and len(entries) == ways:
                del entries[next(iter(entries))]
            entries[page] = stores


class Tlbs:
    """One for data unless told; `split`: one for each privilege, as the core has them."""

    def __init__(self, geometry: Geometry, split: bool = False, kinds: tuple[str, ...] = ("read", "write"),
                 fault: str = "fault") -> None:
        self.kinds, self.fault = kinds, fault
        self.supervisor = Tlb(geometry)
        self.user = Tlb(geometry) if split else self.supervisor

    def see(self, event: Event) -> None:
        """A fault is a walk too, after which the page is in no TLB (SDM 3:4.10.4.1)."""
        own = self.user if event.user else self.supervisor
        if event.kind in self.kinds:
            own.access(event.page, event.kind == "write", event.dirty)
        elif event.kind == "flush":
            self.supervisor.flush()
            self.user.flush()
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


@pytest.fixture(scope="module")
def seen() -> Mapping[str, tuple[Seen, Seen]]:
    """By workload, the two runs that count."""
    setting, = settings(build(), "native")
    kernel = UnicornKernel(setting.formed("indirect"))
    charged, free = (GuestRun(setting, "indirect", load_model("generic").with_costs(tlb_miss=cost)) for cost in (1, 0))
    tlbs = {name: Tlbs(geometry) for name, geometry in GEOMETRIES.items()} | {
        "core": Tlbs(CORE, split=True), "instructions": Tlbs(INSTRUCTIONS, kinds=("fetch",), fault="fetch fault")}

    def run(name: str, iterations: int) -> Seen:
        kernel.loop(name, iterations)
        counts = [each.counts(name, iterations) for each in (charged, free)]
        return Seen(counts[0].cycles - counts[1].cycles, (kernel.instructions, counts[0].instructions),
                    {name: each.misses(kernel.events) for name, each in tlbs.items()})

    found = {}
    for row in WORKLOADS:
        _, *runs = (run(row.name, iterations) for iterations in ITERATIONS)
        found[row.name] = tuple(runs)
    return found


def per_iteration(runs: tuple[Seen, Seen], tlb: str) -> Misses:
    return Misses(*(more - less for less, more in zip(*(run.misses[tlb] for run in runs), strict=True)))


@pytest.mark.parametrize("name", WORKLOAD_NAMES)
def test_the_core_charges_for_what_misses_in_its_tlb(seen: Mapping[str, tuple[Seen, Seen]], name: str) -> None:
    """Of the whole run, with the process that is made for it and its end."""
    for run in seen[name]:
        assert run.instructions[0] == run.instructions[1]
        assert run.charged == run.misses["core"].walks


@pytest.mark.parametrize("name", WORKLOAD_NAMES)
@pytest.mark.parametrize("processor", GEOMETRIES)
def test_processors_miss_as_often_as_the_core(seen: Mapping[str, tuple[Seen, Seen]], processor: str, name: str) -> None:
    core, own = (per_iteration(seen[name], tlb) for tlb in ("core", processor))
    one_level = len(GEOMETRIES[processor]) == 1
    assert own.walks - core.walks == (TOO_FEW.get(name, 0) if one_level else 0)
    assert 0 <= own.hits_below <= SECOND_LEVEL


def test_the_table_of_the_documentation(seen: Mapping[str, tuple[Seen, Seen]]) -> None:
    """The overheads are computed from whole cycles: those of the model, with more misses or with fewer."""
    setting, = settings(build(), "native")
    runs = {name: [GuestRun(setting, form, name) for form in ("indirect", "patched")] for name in ("pentium4", "k8")}
    rows = []
    for name in WORKLOAD_NAMES:
        data, code = (per_iteration(seen[name], tlb) for tlb in ("core", "instructions"))
        if not data.walks:
            assert not code.walks
            continue
        cells = [data.walks, data.of_kernel_pages, code.walks]
        for processor, forms in runs.items():
            indirect, patched = (run.per_iteration(name).cycles for run in forms)
            miss = load_model(processor).cycles["tlb_miss"].cycles
            cells.append(" / ".join(f"{100 * (indirect - patched) / (patched + more * miss):.1f}"
                                    for more in (0, code.walks, -data.of_kernel_pages)))
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
