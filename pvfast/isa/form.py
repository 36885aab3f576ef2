"""A form: one row of the instruction set, in the notation of Intel's manual (SDM volume 2).

Enters: calls of `form()` in forms_*.py. Leaves: `Form` records. Next: generate.py turns them into Cython.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

FLAGS = {"c": 0x1, "p": 0x4, "a": 0x10, "z": 0x40, "s": 0x80, "o": 0x800}
"""The arithmetic flags by their letter (SDM 1:3.4.3.1); `oszapc` names all six."""


@dataclass(frozen=True, slots=True)
class Form:
    """One encoding of one instruction.

    Attributes
    ----------
    opcode : str
        The manual's opcode column: bytes, then ``/r``, ``/0``-``/7``, ``+r`` or ``+cc`` as in ``"0F 40+cc /r"``.
        A leading ``66``, ``F2`` or ``F3`` followed by another byte is a mandatory prefix.
    syntax : str
        Mnemonic and operands, e.g. ``"ADD r/m32, r32"``.
    sem : str
        The function of core/sem_*.pxd that computes the result, through a generated wrapper; empty for `raw` forms.
    raw : str
        The handwritten handler `raw_<name>` of an irregular instruction; empty for `sem` forms.
    access : str
        Per operand ``r``, ``w``, ``rw`` or ``-`` (not accessed).
    reads, writes, undefined : int
        Arithmetic flags as an EFLAGS mask. `undefined` ones are masked in comparisons.
    lock : bool
        LOCK is legal with a memory destination.
    privileged : bool
        #GP(0) unless CPL is 0; decided when the block is decoded.
    ends : bool
        The instruction ends its block.
    cost : str
        Cost class, one of processor/costs.py.
    """

    opcode: str
    syntax: str
    sem: str
    raw: str
    access: tuple[str, ...]
    reads: int
    writes: int
    undefined: int
    lock: bool
    privileged: bool
    ends: bool
    cost: str

    @property
    def mnemonic(self) -> str:
        return self.syntax.split()[0]

    @property
    def operands(self) -> tuple[str, ...]:
        """Operand names of the syntax, e.g. ``("r/m32", "imm8")``."""
        _, _, rest = self.syntax.partition(" ")
        return tuple(part.strip() for part in rest.split(",")) if rest else ()

    @property
    def has_modrm(self) -> bool:
        return "/" in self.opcode

    @property
    def name(self) -> str:
        """A C identifier, unique among the rows."""
        text = f"{self.opcode}_{self.syntax}".replace("+", "p").replace("/", "")
        return re.sub(r"[^0-9A-Za-z]+", "_", text)


def mask(letters: str) -> int:
    """The EFLAGS mask of flag letters.

    >>> hex(mask("oszapc"))
    '0x8d5'
    """
    return sum(FLAGS[letter] for letter in letters)


def form(opcode: str, syntax: str, *, sem: str = "", raw: str = "", access: str = "", reads: str = "",
         writes: str = "", undefined: str = "", lock: bool = False, privileged: bool = False, ends: bool = False,
         cost: str = "alu") -> Form:
    """One row.

    >>> form("01 /r", "ADD r/m32, r32", sem="add", access="rw r", writes="oszapc", lock=True).operands
    ('r/m32', 'r32')
    """
    if bool(sem) == bool(raw):
        raise ValueError(f"{opcode} {syntax}: name either a semantic function or a raw handler")
    return Form(opcode, syntax, sem, raw, tuple(access.split()), mask(reads), mask(writes), mask(undefined), lock,
                privileged, ends, cost)
