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
        The manual's opcode column: bytes, then ``/r``, ``/0``-``/7`` or ``+r``; see `Opcode`. ``o16`` or ``o32``
        before it: with that operand size only. ``NP``, ``66``, ``F3`` or ``F2``: with that mandatory prefix, or with
        none of them. A byte from C0 behind the opcode is a whole ModRM byte, ``+i`` one of eight in a row.
    syntax : str
        Mnemonic and operands, e.g. ``"ADD r/m32, r32"``.
    sem : str
        The function of core/sem_*.pxd that computes the result, through a generated wrapper; empty for `raw` forms.
    raw : str
        The handwritten handler `raw_<name>` of an irregular instruction; empty for `sem` forms. With a colon, an
        inline function and its constant arguments (`"x87_compare:False, 1"`), which gets a wrapper; a memory form's
        has the variant as its last.
    access : str
        Per operand ``r``, ``w``, ``rw`` or ``-`` (not accessed).
    reads, writes, undefined : int
        Arithmetic flags as an EFLAGS mask. `undefined` ones are masked in comparisons.
    lock : bool
        LOCK is legal with a memory destination.
    privileged : bool
        #GP(0) unless CPL is 0; decided when the block is decoded.
    protected : bool
        #UD in real-address and virtual-8086 mode.
    ends : bool
        The instruction ends its block.
    cost : str
        Cost class, one of processor/costs.py.
    register_cost : str
        The same without a memory operand.
    feature : str
        The CPUID feature (processor/cpuid.py) without which the instruction is #UD; empty for none.
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
    protected: bool
    ends: bool
    cost: str
    register_cost: str
    feature: str

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
        return self.encoding.has_modrm

    @property
    def encoding(self) -> Opcode:
        return parse_opcode(self.opcode)

    @property
    def takes_memory(self) -> bool:
        """A ModRM operand may lie in memory, e.g. ``r/m32``, ``xmm/m128``, ``m64``, ``m16:32``."""
        return self.takes_only_memory or any("/m" in operand for operand in self.operands)

    @property
    def takes_only_memory(self) -> bool:
        return any(re.match(r"m(\d|$)", operand) for operand in self.operands)

    @property
    def name(self) -> str:
        """A C identifier, unique among the rows."""
        text = f"{self.opcode}_{self.syntax}".replace("+", "p").replace("/", "")
        return re.sub(r"[^0-9A-Za-z]+", "_", text)


PREFIXES = ("NP", "66", "F3", "F2")
"""Mandatory prefixes, in the order of the decoder's maps (SDM 2:2.1.2); NP is none of the others."""


@dataclass(frozen=True, slots=True)
class Opcode:
    """The opcode column, taken apart.

    `size`: 16, 32 or 0 for any; `prefix`: one of PREFIXES, or empty where prefixes do not select; `escape`: 0F comes
    first; `modrm`: a whole ModRM byte, else None; `extension`: "r", "0"-"7" or None; `span`: opcodes (or ModRM bytes)
    in a row that mean the row, 8 for ``+r`` and ``+i``.
    """

    size: int
    prefix: str
    escape: bool
    byte: int
    modrm: int | None
    extension: str | None
    span: int

    @property
    def has_modrm(self) -> bool:
        return self.extension is not None or self.modrm is not None


def parse_opcode(text: str) -> Opcode:
    """Read the opcode column.

    >>> parse_opcode("66 0F 71 /6")
    Opcode(size=0, prefix='66', escape=True, byte=113, modrm=None, extension='6', span=1)
    >>> parse_opcode("D8 C0+i").modrm, parse_opcode("o16 0F B2 /r").size
    (192, 16)
    """
    parts = text.split()
    size = int(parts.pop(0)[1:]) if parts[0] in ("o16", "o32") else 0
    prefix = parts.pop(0) if parts[0] in PREFIXES and len(parts) > 1 else ""
    extension = parts.pop()[1:] if parts[-1].startswith("/") else None
    span = 8 if "+" in parts[-1] else 1
    codes = [int(part.partition("+")[0], 16) for part in parts]
    escape = codes[0] == 0x0F
    byte, *rest = codes[1:] if escape else codes
    if len(rest) > 1 or (rest and (extension is not None or rest[0] < 0xC0)):
        raise ValueError(f"{text}: one opcode byte, and a ModRM byte that names a register, are supported")
    return Opcode(size, prefix, escape, byte, rest[0] if rest else None, extension, span)


def mask(letters: str) -> int:
    """The EFLAGS mask of flag letters.

    >>> hex(mask("oszapc"))
    '0x8d5'
    """
    return sum(FLAGS[letter] for letter in letters)


def form(opcode: str, syntax: str, *, sem: str = "", raw: str = "", access: str = "", reads: str = "",
         writes: str = "", undefined: str = "", lock: bool = False, privileged: bool = False,
         protected: bool = False, ends: bool = False, cost: str = "alu", register_cost: str = "",
         feature: str = "") -> Form:
    """One row.

    >>> form("01 /r", "ADD r/m32, r32", sem="add", access="rw r", writes="oszapc", lock=True).operands
    ('r/m32', 'r32')
    """
    if bool(sem) == bool(raw):
        raise ValueError(f"{opcode} {syntax}: name either a semantic function or a raw handler")
    return Form(opcode, syntax, sem, raw, tuple(access.split()), mask(reads), mask(writes), mask(undefined), lock,
                privileged, protected, ends, cost, register_cost or cost, feature)
