"""Families of rows, and who makes their instructions.

Enters: a Program, a Form and a Choice. Leaves: the program, longer. Next: cases.py.

A family that needs more than general registers and memory (x87, MMX, SSE) is a module with a function
`add(program, form, choice)` like that of instructions.py, and a line in FAMILIES. It takes addresses from
`program.target()` and `instructions.operand()`, emits with `program.emit()`, and at its first instruction sets
`program.fxsave`, the x87, MMX and SSE state that the case starts with. Runners load it and put what came of it into
`Outcome.fxsave`; outcome.py compares the two images.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pvfast.isa.form import Form

from . import instructions, near16, segments, vectors, x87
from .builder import Program
from .instructions import Choice

ANY = Choice()


@dataclass(frozen=True)
class Family:
    """`has(form)`: whether the row is one of these; `add`: appends an instruction of it."""

    has: Callable[[Form], bool]
    add: Callable[[Program, Form, Choice], None]


FAMILIES = (
    Family(segments.has, segments.add),
    Family(near16.has, near16.add),
    Family(x87.has, x87.add),
    Family(vectors.has, vectors.add),
    Family(lambda form: True, instructions.add),        # the last: general registers, memory, flags
)


def add(program: Program, form: Form, choice: Choice = ANY) -> None:
    """Append one instruction of a row, with whatever has to come before it."""
    next(family for family in FAMILIES if family.has(form)).add(program, form, choice)
