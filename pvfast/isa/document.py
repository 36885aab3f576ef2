"""docs/instructions.md from the rows: ``python -m pvfast.isa.document CASES FILE`` (`make instructions`).

Enters: FORMS, and the figures of the last recorded run of the differential tests (docs/differential.json). Leaves:
Markdown, the same for the same rows and figures. Next: report/tables.py, which shows the same columns in a terminal.
"""
from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from pvfast.isa.form import FLAGS, Form
from pvfast.isa.forms import FORMS

COLUMNS = ("opcode", "instruction", "operands", "reads", "writes", "undefined", "needs", "cost class", "cases")
HEAD = """<!-- Written by pvfast/isa/document.py (make instructions). Do not edit. -->

# Instructions

One line per row of `pvfast/isa/forms_*.py`, {forms} in all: what the core executes.

* Opcode: as in Intel's manual, volume 2. `o16`, `o32`: with that operand size only; `NP`, `66`, `F3`, `F2`: with that
  mandatory prefix, or none of them; `+i`: eight ModRM bytes in a row.
* Operands: per operand `r`ead, `w`ritten, `rw`, or `-` for not accessed.
* Flags read, written and left undefined, of `oszapc`; an instruction may also write flags that the manual leaves
  undefined. Instructions that load or store EFLAGS as a whole say so in the manual.
* Needs: CPL 0 (else #GP), protected mode (else #UD), a CPUID feature (else #UD). `LOCK`: may be locked (memory only).
* Cost class: what `pvfast/processor/` gives a number of modelled cycles for; behind a stroke that of the instruction
  without a memory operand, where it is another.
* Cases: executions compared with a processor that is not pvfast, in the run that [differential.md](differential.md)
  records; `-` for rows that have readable tests against the manual's text instead, in `tests/core`.
"""


def flag_letters(mask: int) -> str:
    """The letters of an EFLAGS mask, in the manual's order.

    >>> flag_letters(0x841)
    'ozc'
    """
    return "".join(letter for letter in "oszapc" if mask & FLAGS[letter])


def needs(form: Form) -> list[str]:
    """What has to be true for an instruction to be executed, or locked."""
    words = {"CPL 0": form.privileged, "protected mode": form.protected, form.feature: form.feature, "LOCK": form.lock}
    return [word for word, needed in words.items() if needed]


def cost_class(form: Form) -> str:
    """The class, or two of them.

    >>> [cost_class(form) for form in FORMS if form.opcode in ("86 /r", "88 /r")]
    ['mov', 'xchg / mov']
    """
    return form.cost if form.register_cost == form.cost else f"{form.cost} / {form.register_cost}"


def family(form: Form) -> str:
    """The section a row belongs to.

    >>> from pvfast.isa.form import form
    >>> family(form("D8 /0", "FADD m32", raw="x")), family(form("9C", "PUSHF", raw="x", cost="pushf"))
    ('x87', 'Flags')
    """
    if form.feature in ("MMX", "SSE", "SSE2"):
        return form.feature
    if (not form.encoding.escape and 0xD8 <= form.encoding.byte <= 0xDF) or form.feature in ("FPU", "FXSR"):
        return "x87"
    return TITLES[form.cost]


FAMILIES = {
    "Arithmetic and logic": "alu mul div decimal",
    "Shifts and rotates": "shift shift_cl",
    "Moves": "nop pause mov lea xchg xadd cmpxchg cmpxchg8b",
    "Stack": "push pop pusha enter",
    "Branches": "branch jump jump_indirect call call_indirect ret loop",
    "Strings": "movs stos lods cmps scas",
    "Flags": "cli sti cld lahf pushf popf",
    "Interrupts, far transfers": "int iret bound sysenter sysexit far",
    "Segments and descriptor tables": "segment_load descriptor_table",
    "Control registers, caches, the processor itself":
        "cr_read cr_write dr invlpg wbinvd rdmsr wrmsr rdtsc cpuid hlt fence",
    "Ports": "io",
}
"""Section titles of rows without a feature of their own, and their cost classes."""
TITLES = {cost: title for title, costs in FAMILIES.items() for cost in costs.split()}
SECTIONS = (*FAMILIES, "x87", "MMX", "SSE", "SSE2")


def row_name(form: Form) -> str:
    """How docs/differential.json names a row."""
    return f"{form.opcode} {form.syntax}"


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def document(cases: Mapping[str, int]) -> str:
    """The whole file; `cases` by `row_name`."""
    lines = [HEAD.format(forms=len(FORMS))]
    for title, rows in groupby(sorted(FORMS, key=lambda form: SECTIONS.index(family(form))), key=family):
        lines += [f"## {title}", "", _line(COLUMNS), _line(("---",) * (len(COLUMNS) - 1) + ("---:",))]
        for form in rows:
            lines.append(_line((
                f"`{form.opcode}`", form.syntax, " ".join(form.access), *map(flag_letters, (
                    form.reads, form.writes, form.undefined)), ", ".join(needs(form)), cost_class(form),
                str(cases.get(row_name(form), "-")))))
        lines.append("")
    return "\n".join(lines)


def main(cases: str, target: str) -> None:
    figures = json.loads(Path(cases).read_text(encoding="utf-8"))
    Path(target).write_text(document(figures["rows"]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
