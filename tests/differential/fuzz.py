"""`python -m tests.differential.fuzz`: many cases, their differences, and which handlers they executed.

Enters: a seed and a count. Leaves: a report and an exit status. Half of the cases go through TARGETS in turn, the other
half are sequences. Every case runs in seven worlds of pvfast, in Unicorn and on the host's processor: Unicorn says what
is expected in ring 0, the host in ring 3, and either of them for both where the other cannot and the ring does not
matter.
"""
from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from capstone import CS_ARCH_X86, CS_MODE_32, Cs

from pvfast.core.engine import decoded_handlers
from pvfast.isa.document import row_name
from pvfast.isa.form import Form
from pvfast.isa.forms import FORMS
from pvfast.isa.generate import handler_names

from .cases import Case, sequence, single
from .differences import (
    DIFFERENCES,
    FAULTING,
    depends_on_ring,
    is_word_handler,
    needs_host,
    reason_not_compared,
)
from .host import host
from .instructions import COMPARED
from .outcome import Outcome, compare
from .runners import CODE, IF, SLOT, SLOTS, PvfastRunner, UnicornRunner, pool
from .targets import TARGETS

CHUNK = 0x2000
"""Cases that one process runs with fresh runners. Fewer than slots, so that no address is used twice."""
COLLECT = 0x800
"""Handlers are collected after this many cases, well before the arena is used again."""
COMPLETE = 0.8
"""The share of a row's cases that must get to their end: faulting is cheap to compare."""


@dataclass
class Found:
    """A case that differs, and how, by world."""

    case: Case
    differences: dict[str, list[str]]

    def __str__(self) -> str:
        lines = [f"case {self.case.number}: registers {' '.join(f'{value:x}' for value in self.case.registers)} "
                 f"eflags {self.case.eflags:x} undefined {self.case.undefined:x}"]
        for instruction in Cs(CS_ARCH_X86, CS_MODE_32).disasm(self.case.code, self.case.address):
            lines.append(f"    {instruction.address:x}  {instruction.bytes.hex():20} {instruction.mnemonic} "
                         f"{instruction.op_str}")
        lines += [f"    {world}: {'; '.join(found)}" for world, found in self.differences.items()]
        return "\n".join(lines)


class Session:
    """Runners of all kinds, and what they found about some cases."""

    def __init__(self, seed: int) -> None:
        content = pool(seed)
        self.fuzz = Fuzz(seed)
        self.unicorn = UnicornRunner(content)
        self.host = None if host.unavailable() else host.HostRunner(content)
        self.worlds = [PvfastRunner(content, paged=paged, segmented=segmented)
                       for segmented in (False, True) for paged in (False, True)]
        self.worlds += [PvfastRunner(content, paged=True, segmented=segmented, user=True)
                        for segmented in (False, True)]
        self.worlds.append(PvfastRunner(content, checked=True))
        self.clean: set[int] = set()        # slots whose case ran to its end without a difference

    def run(self, cases: Sequence[Case]) -> None:
        for first in range(0, len(cases), COLLECT):
            some = cases[first:first + COLLECT]
            natives = self.host.run_many(some) if self.host else [None] * len(some)
            for case, native in zip(some, natives, strict=True):
                self.run_case(case, native)
            self.collect()
        if self.host:
            self.host.close()

    def run_case(self, case: Case, native: Outcome | None) -> None:
        fuzz = self.fuzz
        fuzz.cases += 1
        emulated = None if any(map(needs_host, case.forms)) else self.unicorn.run(case)
        same = not depends_on_ring(case)
        fuzz.comparisons["Unicorn"] += emulated is not None
        fuzz.comparisons["host"] += native is not None
        differences = {}
        complete = None
        for world in self.worlds:
            first, second = (native, emulated) if world.user else (emulated, native)
            expected = first or (second if same else None)
            if expected is None:
                continue
            actual = world.run(case)
            fuzz.comparisons[world.name] += 1
            ignored_flags = 0 if expected is first else IF
            found = compare(case, expected, actual, ignored_flags)
            if found and ran_away(case, expected) and ran_away(case, actual):
                fuzz.ran_away += 1
            elif found:
                differences[world.name] = found
                if expected is first and second is not None and same:
                    agrees = not compare(case, second, actual, IF)
                    found.append(f"{'Unicorn' if world.user else 'the host'} agrees with "
                                 f"{'pvfast' if agrees else 'it or neither'}")
            # A privileged instruction completes in ring 0 only: one of the two has to.
            complete = complete or expected.vector in (None, "halt")
        if complete is not None:
            for form in dict.fromkeys(case.forms):
                fuzz.tried[form] += 1
                fuzz.completed[form] += complete
        if differences:
            fuzz.found.append(Found(case, differences))
        elif complete:
            self.clean.add((case.address - CODE) // SLOT)

    def collect(self) -> None:
        """Note the handlers of the blocks that clean cases ran."""
        for world in self.worlds:
            for start, _, numbers in decoded_handlers(world.machine):
                if ((start - world.base & 0xFFFFFFFF) - CODE) // SLOT in self.clean:
                    self.fuzz.executed.update(numbers)
        self.clean.clear()


def ran_away(case: Case, outcome: Outcome) -> bool:
    """A branch led out of the case: each runner has other bytes there, and other pages."""
    return outcome.vector in ("hang", "BUDGET") or not case.address <= outcome.eip <= case.end


def undecided(form: Form) -> bool:
    """Whether nothing here can say what is right."""
    return needs_host(form) and host.unavailable() is not None


def run_chunk(chunk: tuple[int, range]) -> Fuzz:
    """Some cases of a seed, with runners of their own."""
    seed, numbers = chunk
    session = Session(seed)
    session.run([session.fuzz.make(number) for number in numbers])
    return session.fuzz


@dataclass
class Fuzz:
    """What came of some cases of a seed."""

    seed: int
    cases: int = 0
    comparisons: Counter[str] = field(default_factory=Counter)
    ran_away: int = 0
    found: list[Found] = field(default_factory=list)
    tried: Counter[Form] = field(default_factory=Counter)
    completed: Counter[Form] = field(default_factory=Counter)
    executed: set[int] = field(default_factory=set)

    def make(self, number: int) -> Case:
        """Case `number`: even ones are targets in turn, odd ones sequences."""
        address = CODE + number % SLOTS * SLOT
        if number % 2:
            return sequence(self.seed, number, address)
        target = TARGETS[number // 2 % len(TARGETS)]
        return single(self.seed, number, address, target.form, target.choice, target.dead, target.jump)

    def run(self, count: int, processes: int = 1, progress: bool = False) -> None:
        """The first `count` cases. The same for any number of processes."""
        chunks = [(self.seed, range(first, min(first + CHUNK, count))) for first in range(0, count, CHUNK)]
        start = time.perf_counter()
        with multiprocessing.Pool(processes) as workers:
            for part in workers.imap(run_chunk, chunks):
                self.merge(part)
                if progress:
                    print(f"\r{self.cases} of {count} cases, {len(self.found)} differences, {len(self.executed)} "
                          f"handlers, {self.cases / (time.perf_counter() - start):.0f}/s ", end="", file=sys.stderr,
                          flush=True)
        if progress:
            print(file=sys.stderr)

    def merge(self, part: Fuzz) -> None:
        self.cases += part.cases
        self.ran_away += part.ran_away
        self.found += part.found
        for mine, other in ((self.tried, part.tried), (self.completed, part.completed),
                            (self.comparisons, part.comparisons)):
            mine.update(other)
        self.executed |= part.executed

    # --- What came of it ------------------------------------------------------------------------------------------

    def missing_forms(self) -> list[Form]:
        return [form for form in COMPARED if not self.tried[form] and not undecided(form)]

    def faulting_forms(self) -> list[Form]:
        """Rows of which, by more than chance, fewer than 80 % complete, though faulting is not their job."""
        return [form for form in COMPARED if form.raw not in FAULTING and self.completed[form]
                < COMPLETE * self.tried[form] - 2 * (COMPLETE * (1 - COMPLETE) * self.tried[form]) ** 0.5]

    def missing_handlers(self) -> list[str]:
        """Generated handlers of compared rows that no clean case executed."""
        names = handler_names()
        excluded = {f"h{index}" for index, form in enumerate(FORMS, 1)
                    if reason_not_compared(form) or form.raw in FAULTING or undecided(form)}
        return [name for number, name in enumerate(names)
                if number not in self.executed and name.split("_")[0] not in excluded and not is_word_handler(name)]

    def report(self) -> str:
        """Markdown, the same for the same seed and sources but for the speed."""
        total = len(handler_names())
        missing = self.missing_handlers()
        share = min(self.completed[f] / self.tried[f] for f in COMPARED if f.raw not in FAULTING and self.tried[f])
        lines = [
            "# Differential tests against Unicorn 2.1.4 and the host's processor", "",
            f"Made by `python -m tests.differential.fuzz --cases {self.cases} --seed {self.seed}`.",
            "Every case runs in Unicorn (ring 0), on the host's processor (ring 3) and in seven worlds of pvfast:",
            "flat, paged, segmented, both, with a data breakpoint; and in ring 3 paged and segmented+paged. Registers,",
            "EFLAGS without undefined flags, x87, MMX and SSE state, memory, EIP and faults are compared; in ring 3",
            "also selectors, error codes and CR2.", "",
            "| what | figure |", "|---|---|", f"| cases | {self.cases} |",
            *(f"| {'states expected by' if name in ('Unicorn', 'host') else 'compared in world'} {name} | {count} |"
              for name, count in self.comparisons.items()),
            f"| comparisons given up where a branch led out of the case, into bytes that differ | {self.ran_away} |",
            f"| unexplained differences | {len(self.found)} |",
            f"| rows compared | {sum(self.tried[form] > 0 for form in COMPARED)} of {len(FORMS)} |",
            f"| fewest cases of a row | {min(self.tried[form] for form in COMPARED)} |",
            f"| least share of a row's cases that complete without a fault | {share:.0%} |",
            f"| generated handlers executed in a comparison | {total - len(missing)} of {total} |", ""]
        if missing:
            lines += ["## Handlers not executed", "", *(f"- `{name}`" for name in missing), ""]
        lines += ["## Where Unicorn differs", "", "| rows | what | who is right | treatment |", "|---|---|---|---|"]
        lines += [f"| {d.rows} | {d.what} | {d.right} | {d.treatment} |" for d in DIFFERENCES]
        lines += ["", "## Rows that are not compared", "", "| row | reason |", "|---|---|"]
        lines += [f"| `{form.opcode}` {form.syntax} | {reason} |" for form in FORMS
                  if (reason := reason_not_compared(form))]
        lines += ["", "## Cases by row", "", "| row | cases | completed |", "|---|---|---|"]
        lines += [f"| `{form.opcode}` {form.syntax} | {self.tried[form]} | "
                  f"{self.completed[form] / max(self.tried[form], 1):.0%} |" for form in COMPARED]
        return "\n".join(lines) + "\n"

    def figures(self) -> str:
        """What other documents need, as JSON: the cases of each row."""
        rows = {row_name(form): self.tried[form] for form in COMPARED}
        return json.dumps({"seed": self.seed, "cases": self.cases, "rows": rows}, indent=1, sort_keys=True) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--report", type=Path, help="Markdown file to write, and beside it the figures in JSON")
    options = parser.parse_args(arguments)
    if reason := host.unavailable():
        print(f"not compared with the host: {reason}")
    fuzz = Fuzz(options.seed)
    start = time.perf_counter()
    fuzz.run(options.cases, options.processes, progress=True)
    for found in fuzz.found[:20]:
        print(found)
    missing = fuzz.missing_handlers()
    print(f"{fuzz.cases} cases (seed {fuzz.seed}), {len(fuzz.found)} differences, {len(missing)} handlers not "
          f"executed, {fuzz.cases / (time.perf_counter() - start):.0f} cases/s")
    for name in missing[:40]:
        print(f"    not executed: {name}")
    for form in fuzz.faulting_forms():
        print(f"    faults too often: {form.opcode} {form.syntax} ({fuzz.completed[form]} of {fuzz.tried[form]})")
    if options.report:
        options.report.write_text(fuzz.report())
        options.report.with_suffix(".json").write_text(fuzz.figures())
    whole = fuzz.cases >= 2 * len(TARGETS)
    return bool(fuzz.found or fuzz.faulting_forms() or (whole and (missing or fuzz.missing_forms())))


if __name__ == "__main__":
    sys.exit(main())
