"""`python -m tests.differential.fuzz`: many cases, their differences, and which handlers they executed.

Enters: a seed and a count. Leaves: a report and an exit status. Half of the cases go through TARGETS in turn, the other
half are sequences; every case runs in four worlds of pvfast and once in Unicorn.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from capstone import CS_ARCH_X86, CS_MODE_32, Cs

from pvfast.core.engine import decoded_handlers
from pvfast.isa.form import Form
from pvfast.isa.forms import FORMS
from pvfast.isa.generate import handler_names

from .cases import Case, sequence, single
from .differences import DIFFERENCES, TRAPS, reason_not_compared
from .instructions import COMPARED
from .runners import CODE, SLOT, SLOTS, PvfastRunner, UnicornRunner, compare, pool
from .targets import TARGETS

COLLECT = 0x1000
"""Handlers are collected after this many cases, well before their slots and the arena are used again."""


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


@dataclass
class Fuzz:
    """One run: `run()` some cases, then look at what was found."""

    seed: int
    cases: int = 0
    found: list[Found] = field(default_factory=list)
    tried: Counter[Form] = field(default_factory=Counter)
    completed: Counter[Form] = field(default_factory=Counter)
    executed: set[int] = field(default_factory=set)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        content = pool(self.seed)
        self.unicorn = UnicornRunner(content)
        self.worlds = [PvfastRunner(content, paged=paged, segmented=segmented)
                       for segmented in (False, True) for paged in (False, True)]
        self.clean: set[int] = set()        # slots whose case ran to its end without a difference

    def make(self, number: int) -> Case:
        """Case `number`: even ones are targets in turn, odd ones sequences."""
        address = CODE + number % SLOTS * SLOT
        if number % 2:
            return sequence(self.seed, number, address)
        target = TARGETS[number // 2 % len(TARGETS)]
        return single(self.seed, number, address, target.form, target.choice, target.dead, target.jump)

    def run(self, count: int, progress: bool = False) -> None:
        start = time.perf_counter()
        for _ in range(count):
            self.run_case(self.make(self.cases))
            self.cases += 1
            if self.cases % COLLECT == 0:
                self.collect()
                if progress:
                    print(f"\r{self.cases} cases, {len(self.found)} differences, {len(self.executed)} handlers, "
                          f"{self.cases / (time.perf_counter() - start):.0f}/s ", end="", file=sys.stderr, flush=True)
        self.collect()
        self.seconds += time.perf_counter() - start
        if progress:
            print(file=sys.stderr)

    def run_case(self, case: Case) -> None:
        expected = self.unicorn.run(case)
        differences = {}
        for world in self.worlds:
            if found := compare(case, expected, world.run(case)):
                differences[world.name] = found
        complete = expected.vector in (None, "halt")
        for form in dict.fromkeys(case.forms):
            self.tried[form] += 1
            self.completed[form] += complete
        if differences:
            self.found.append(Found(case, differences))
        elif complete:
            self.clean.add((case.address - CODE) // SLOT)

    def collect(self) -> None:
        """Note the handlers of the blocks that clean cases ran; forget the slots."""
        for world in self.worlds:
            for start, _, numbers in decoded_handlers(world.machine):
                if ((start - world.base & 0xFFFFFFFF) - CODE) // SLOT in self.clean:
                    self.executed.update(numbers)
        self.clean.clear()
        if self.cases % SLOTS == 0:
            self.unicorn.forget()

    # --- What came of it ------------------------------------------------------------------------------------------

    def missing_forms(self) -> list[Form]:
        return [form for form in COMPARED if not self.tried[form]]

    def faulting_forms(self) -> list[Form]:
        """Rows of which fewer than 80 % of the cases complete, though faulting is not their job."""
        return [form for form in COMPARED if form.raw not in TRAPS and self.completed[form] < 0.8 * self.tried[form]]

    def missing_handlers(self) -> list[str]:
        """Generated handlers of compared rows that no clean case executed."""
        names = handler_names()
        excluded = {f"h{index}" for index, form in enumerate(FORMS, 1) if reason_not_compared(form)}
        return [name for number, name in enumerate(names)
                if number not in self.executed and name.split("_")[0] not in excluded]

    def report(self) -> str:
        """Markdown, the same for the same seed and sources but for the speed."""
        total = len(handler_names())
        missing = self.missing_handlers()
        share = min(self.completed[f] / self.tried[f] for f in COMPARED if f.raw not in TRAPS and self.tried[f])
        lines = [
            "# Differential tests against Unicorn 2.1.4", "",
            f"Made by `python -m tests.differential.fuzz --cases {self.cases} --seed {self.seed}`.",
            "Every case runs once in Unicorn and in four worlds of pvfast (flat, paged, segmented, both); registers,",
            "EFLAGS without undefined flags, memory, EIP and faults are compared.", "",
            "| what | figure |", "|---|---|", f"| cases | {self.cases} |",
            f"| comparisons | {self.cases * len(self.worlds)} |", f"| unexplained differences | {len(self.found)} |",
            f"| rows compared | {len(COMPARED) - len(self.missing_forms())} of {len(COMPARED)} |",
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    options = parser.parse_args(arguments)
    fuzz = Fuzz(options.seed)
    fuzz.run(options.cases, progress=True)
    for found in fuzz.found[:20]:
        print(found)
    missing = fuzz.missing_handlers()
    print(f"{fuzz.cases} cases (seed {fuzz.seed}), {len(fuzz.found)} differences, {len(missing)} handlers not "
          f"executed, {fuzz.cases / fuzz.seconds:.0f} cases/s")
    for name in missing[:40]:
        print(f"    not executed: {name}")
    for form in fuzz.faulting_forms():
        print(f"    faults too often: {form.opcode} {form.syntax} ({fuzz.completed[form]} of {fuzz.tried[form]})")
    if options.report:
        options.report.write_text(fuzz.report())
    whole = fuzz.cases >= 2 * len(TARGETS)
    return bool(fuzz.found or fuzz.missing_forms() or fuzz.faulting_forms() or (whole and missing))


if __name__ == "__main__":
    sys.exit(main())
