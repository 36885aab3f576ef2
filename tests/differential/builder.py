"""Programs whose addresses are known while they are made, so that every access lands in the windows.

Enters: decisions of cases.py. Leaves: `Program`: code, initial state, and the flags left undefined. Next: cases.py.

The builder follows which registers hold known values. `require()` gives a register a value: as initial state while no
instruction has used it, by a MOV afterwards. What a branch may skip is forgotten at its target.
"""
from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from pvfast.isa.form import Form
from pvfast.isa.forms import FORMS

from .encoder import EBP, ESP, SIXTEEN_MOD_RM, Memory, encode

DATA, DATA_BYTES = 0x3000, 0x4000
STACK, STACK_BYTES = 0x7000, 0x2000
WINDOW = range(DATA, STACK + STACK_BYTES)
"""Data and stack: all that programs read and write, below 64 KiB for 16-bit addressing."""
SEGMENT_BASE = {"fs": 0x1230, "gs": 0xFFFFE000}
"""Linear bases of FS and GS relative to DS; that of GS wraps around, as a per-CPU offset may."""

FXSAVE_BYTES = 512
INITIAL_FXSAVE = struct.pack("<HHBxHIIIII", 0x37F, 0, 0, 0, 0, 0, 0, 0, 0x1F80).ljust(FXSAVE_BYTES, b"\0")
"""x87, MMX and SSE state after FNINIT, with the MXCSR of RESET (SDM 1:8.1.5, 1:10.2.3; layout: SDM 2 FXSAVE)."""

INTERESTING = (0, 1, 2, 3, 0x7F, 0x80, 0x81, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
               0x80000001, 0xFFFFFF80, 0xFFFF8000, 0xFFFFFFFE, 0xFFFFFFFF, 0x0F, 0x10, 0x1F, 0x20, 0x55555555)
JUMP_BYTES = 5
"""JMP rel32."""
BYTES_OF_FLAGS = 0x8D5 | 0x400


def row(opcode: str, syntax: str) -> Form:
    return next(form for form in FORMS if (form.opcode, form.syntax) == (opcode, syntax))


MOV_REGISTER = row("B8+r", "MOV r32, imm32")
MOV_MEMORY = {1: row("C6 /0", "MOV r/m8, imm8"), 2: row("C7 /0", "MOV r/m16, imm16"),
              4: row("C7 /0", "MOV r/m32, imm32")}
CMP = row("39 /r", "CMP r/m32, r32")


def value(rng: random.Random) -> int:
    """A register's value: half of the time one where something happens."""
    return rng.choice(INTERESTING) if rng.random() < 0.5 else rng.getrandbits(32)


def parts_of(size: int) -> list[int]:
    """Widths of the MOVs that store so many bytes."""
    return [4] * (size // 4) + [2] * (size % 4 // 2) + [1] * (size % 2)


@dataclass
class Skip:
    """A forward branch whose target is not known yet."""

    at: int             # of the displacement, in the code
    size: int
    left: int           # statements to skip
    known: dict[int, int]
    undefined: int


@dataclass
class Program:
    """Code at `address`, the state it starts from, and what comparing it has to know."""

    rng: random.Random
    address: int
    code: bytearray = field(default_factory=bytearray)
    initial: list[int] = field(default_factory=list)
    eflags: int = 0x2
    patches: list[tuple[int, bytes]] = field(default_factory=list)
    pool_offset: int = 0
    fxsave: bytes = INITIAL_FXSAVE
    forms: list[Form] = field(default_factory=list)
    undefined: int = 0
    ever_undefined: int = 0
    known: dict[int, int] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    stored: bool = False
    landings: int = 0
    skips: list[Skip] = field(default_factory=list)
    references: list[tuple[int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.initial = [value(self.rng) for _ in range(8)]
        self.initial[ESP] = STACK + STACK_BYTES // 2 + self.rng.randrange(-64, 64)
        self.eflags |= self.rng.getrandbits(12) & BYTES_OF_FLAGS
        self.pool_offset = self.rng.randrange(0x8000)
        self.known = dict(enumerate(self.initial))

    @property
    def here(self) -> int:
        return self.address + len(self.code)

    def require(self, register: int, wanted: int) -> None:
        """Let a register hold a value when the next instruction starts."""
        wanted &= 0xFFFFFFFF
        if self.known.get(register) == wanted:
            self.used.add(register)
        elif register not in self.used:
            self.initial[register] = self.known[register] = wanted
            self.used.add(register)
        else:
            self.code += encode(MOV_REGISTER, reg=register, immediate=wanted)
            self.known[register] = wanted

    def stores_before(self, size: int) -> int:
        """How many bytes of code `require_memory()` is going to append for so many bytes of memory."""
        if not (self.stored or self.skips):
            return 0
        return sum(len(encode(MOV_MEMORY[part], rm=Memory(disp=DATA))) for part in parts_of(size))

    def require_memory(self, address: int, size: int, wanted: int) -> None:
        """Let memory hold a value when the next instruction starts."""
        if self.stored or self.skips:
            self.stored = True
            for part in parts_of(size):
                self.code += encode(MOV_MEMORY[part], rm=Memory(disp=address),
                                    immediate=wanted & (1 << 8 * part) - 1)
                address, wanted = address + part, wanted >> 8 * part
        else:
            self.patches.append((address, (wanted & (1 << 8 * size) - 1).to_bytes(size, "little")))

    def landing(self, length: int) -> int:
        """Where 16 bits of EIP can lead: a JMP in the data window to what comes `length` bytes from here."""
        where = DATA + 0x10 + 8 * self.landings         # where target() is not
        self.landings += 1
        target = self.here + self.stores_before(JUMP_BYTES) + length
        jump = b"\xe9" + struct.pack("<i", target - (where + JUMP_BYTES))
        self.require_memory(where, JUMP_BYTES, int.from_bytes(jump, "little"))
        return where

    def require_stack(self) -> None:
        """ESP in the middle of the stack window."""
        top = self.known.get(ESP)
        if top is None or not STACK + 0x400 <= top <= STACK + STACK_BYTES - 0x400:
            self.require(ESP, STACK + STACK_BYTES // 2 + self.rng.randrange(-64, 64))
        self.used.add(ESP)

    def require_defined(self, flags: int) -> None:
        """An instruction that reads undefined flags would have no defined result: compare something first."""
        if self.undefined & flags:
            self.code += encode(CMP, reg=self.rng.randrange(8), rm=self.rng.randrange(8))
            self.used.update(range(8))
            self.undefined = 0

    def emit(self, form: Form, code: bytes, writes: Iterable[int] = (), stack: int | None = None,
             undefined: int | None = None, stores: bool = False, reference: bytes | None = None,
             may_keep_flags: bool = False) -> None:
        """Append an instruction.

        `writes`: registers whose value is unknown now; `stack`: what it adds to ESP; `reference`: other bytes of the
        same meaning for Unicorn, which does not know these.
        """
        if reference is not None:
            self.references.append((len(self.code), reference))
        self.code += code
        self.forms.append(form)
        self.used.update(range(8))
        for register in writes:
            self.known.pop(register, None)
        if stack is not None and ESP in self.known:
            self.known[ESP] = (self.known[ESP] + stack) & 0xFFFFFFFF
        self.stored = self.stored or stores
        left = form.undefined if undefined is None else undefined
        certain = 0 if form.sem in COUNTED or may_keep_flags else form.writes
        self.undefined = (self.undefined & ~certain) | left
        self.ever_undefined |= left

    def skip(self, at: int, size: int, count: int) -> None:
        """The branch just emitted leads behind `count` more statements."""
        self.skips.append(Skip(at, size, count + 1, dict(self.known), self.undefined))

    def end_statement(self) -> None:
        """Branches may lead to here: between an instruction and what it requires they may not."""
        for skip in self.skips:
            skip.left -= 1
        for skip in [s for s in self.skips if s.left <= 0]:
            self.skips.remove(skip)
            distance = len(self.code) - (skip.at + skip.size)
            self.code[skip.at:skip.at + skip.size] = distance.to_bytes(skip.size, "little")
            self.known = {r: v for r, v in self.known.items() if skip.known.get(r) == v}
            self.undefined |= skip.undefined

    def close(self) -> None:
        """Let every branch that is still open lead to the end."""
        while self.skips:
            self.end_statement()

    def gap(self) -> None:
        """Bytes that are never executed."""
        self.code += b"\x0f\x0b" * self.rng.randrange(3)

    # --- Memory operands ----------------------------------------------------------------------------------------------

    def target(self, size: int) -> int:
        """An address in the data window; now and then at the end of a page or a line."""
        rng = self.rng
        if rng.random() < 0.1:
            return DATA + 0x1000 * rng.randrange(1, DATA_BYTES // 0x1000) - rng.randrange(size + 1)
        return DATA + 0x100 + rng.randrange(DATA_BYTES - 0x200 - size)

    def memory(self, target: int, shape: str, *, base: int, index: int, scale: int, segment: str | None = None,
               esp_offset: int = 0) -> Memory:
        """An operand of that shape whose effective address is `target` (see SHAPES)."""
        rng = self.rng
        offset = target - SEGMENT_BASE.get(segment or "", 0)
        short = rng.random() < 0.7
        if shape == "absolute":
            return Memory(disp=offset, segment=segment)
        if shape == "address16":
            if rng.random() < 0.3:
                return Memory(disp=offset, segment=segment, address16=True)
            base, sixteen_index = rng.choice(tuple(SIXTEEN_MOD_RM))
            self.require(base, rng.getrandbits(32))
            if sixteen_index is not None:
                self.require(sixteen_index, rng.getrandbits(32))
            total = self.known[base] + (self.known[sixteen_index] if sixteen_index is not None else 0)
            return Memory(base, sixteen_index, disp=offset - total, segment=segment, address16=True)
        if index == ESP:
            index = EBP
        total = 0
        if "index" in shape:
            if index not in self.known:
                self.require(index, rng.randrange(0x200) if rng.random() < 0.5 else rng.getrandbits(32))
            self.used.add(index)
            total = self.known[index] << scale
        if shape == "index":
            return Memory(None, index, scale, offset - total, segment)
        if base == ESP:
            self.require_stack()
            total += esp_offset
        else:
            near = offset - total - rng.choice((0, 0, 4, 8, -4, 100, -128, 127, 128, 0x1000))
            if base not in self.known or ("index" not in shape and short and base not in self.used):
                self.require(base, near if base != index or "index" not in shape else value(rng))
                total = self.known[index] << scale if "index" in shape else 0
        self.used.add(base)
        total += self.known[base]
        return Memory(base, index if "index" in shape else None, scale, offset - total, segment, short=short)


SHAPES = ("absolute", "base", "index", "base+index", "address16")
COUNTED = {"rol", "ror", "rcl", "rcr", "shl", "shr", "sar", "shld", "shrd"}
"""Operations that leave flags alone when the count is 0."""
