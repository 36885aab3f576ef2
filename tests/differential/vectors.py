"""MMX, SSE and SSE2 instructions: registers and memory with numbers where something happens.

Enters: a Program, a Form and a Choice. Leaves: the program, longer, and `program.fxsave`. Next: families.py.
"""
from __future__ import annotations

import random
import re
import struct

from pvfast.isa.form import Form

from .builder import INITIAL_FXSAVE, SHAPES, Program
from .encoder import EDI, ESP, encode
from .instructions import Choice, operand

SINGLES = (0, 0x80000000, 0x3F800000, 0xBF800000, 0x3F000000, 0x3FC00000, 0xC0200000, 0x00000001, 0x80000001,
           0x007FFFFF, 0x00800000, 0x80800001, 0x00FFFFFF, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000,
           0xFFC00001,
           0x7F800001, 0xFFBFFFFF, 0x7FABCDEF, 0x4F000000, 0xCF000000, 0x4EFFFFFF, 0xCF000001, 0x4B800000, 0x33800000,
           0x34000000, 0x1F800000, 0x20000000, 0x5F000000, 0x5F800001, 0x3EAAAAAB, 0x2F800000)
"""Zeros, ones, halves, denormals, limits, infinities, quiet and signalling NaNs, the ends of the doublewords, and
numbers whose products and quotients overflow, underflow or round."""
DOUBLES = (0, 1 << 63, 0x3FF0 << 48, 0xBFF0 << 48, 0x3FE0 << 48, 0x3FF8 << 48, 1, 1 << 63 | 1, (1 << 52) - 1, 1 << 52,
           0x8010000000000001, 0x7FEFFFFFFFFFFFFF, 0xFFEFFFFFFFFFFFFF, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48,
           0xFFF8000000000001, 0x7FF0000000000001, 0xFFF7FFFFFFFFFFFF, 0x7FF123456789ABCD, 0x41E0 << 48, 0xC1E0 << 48,
           0x41DFFFFFFFC00000, 0x41DFFFFFFFE00000, 0xC1E00000001FFFFF, 0xC1E0000000100000, 0x47EFFFFFE0000000,
           0x47EFFFFFF0000000, 0x47F0 << 48, 0x3810 << 48, 0x380FFFFFFFFFFFFF, 0x36A0 << 48, 0x3690000000000001,
           0x3CA0 << 48, 0x1FF0 << 48, 0x2000 << 48, 0x5FF0 << 48, 0x6000000000000001, 0x3FD5555555555555,
           0x4330000000000001, 0x3FF0000010000000, 0x3FF0000030000000)
"""The same for double precision, and the ends of single precision."""
INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x80007FFF, 0x7F80FF01,
            0x00FF00FF, 0x10, 0x1F, 0x20, 0x3F, 0x40, 0x00800080, 0xFF7FFF80, 0x7FFF8000, 0xFFFF8001, 0x01000001)
MXCSR, TOP_SHIFT, ST, XMM = 24, 11, 32, 160
"""Places in the FXSAVE image (SDM 2, FXSAVE)."""
ALL_MASKED = 0x1F80
MEMORY = re.compile(r"(?:^|/)m(\d+)$")
UNALIGNED = ("MOVUPS", "MOVUPD", "MOVDQU")


def has(form: Form) -> bool:
    return form.feature in ("MMX", "SSE", "SSE2", "CLFSH")


def number(rng: random.Random, kind: str) -> int:
    """16 bytes: singles, doubles or integers, half of them ones where something happens."""
    if kind == "d":
        words = [rng.choice(DOUBLES) if rng.random() < 0.6 else rng.getrandbits(64) for _ in range(2)]
        return words[0] | words[1] << 64
    known = SINGLES if kind == "s" else INTEGERS
    lanes = [rng.choice(known) if rng.random() < 0.6 else rng.getrandbits(32) for _ in range(4)]
    return sum(lane << 32 * i for i, lane in enumerate(lanes))


def kind_of(form: Form) -> str:
    """What the row computes with: s, d or i."""
    name = form.mnemonic
    if not form.sem.startswith("float:"):
        return "i"
    if name.startswith("CVT"):
        name = name.removeprefix("CVTT" if name.startswith("CVTT") else "CVT")
        return {"PS": "s", "SS": "s", "PD": "d", "SD": "d"}.get(name[:2], "i")
    return "d" if name[-1] == "D" else "s"


def start(program: Program, form: Form) -> None:
    """The state that the case begins with. MXCSR masks everything nearly always."""
    rng = program.rng
    image = bytearray(program.fxsave)
    kinds = [kind_of(form), rng.choice("sdi")]
    for i in range(8):
        image[XMM + 16 * i:XMM + 16 * i + 16] = number(rng, rng.choice(kinds)).to_bytes(16, "little")
        exponent = rng.choice((0xFFFF, 0, 0x3FFF, 0x7FFF, rng.getrandbits(16)))
        image[ST + 16 * i:ST + 16 * i + 10] = struct.pack("<QH", number(rng, kinds[0]) & (1 << 64) - 1, exponent)
    masks = ALL_MASKED if rng.random() < 0.94 else ALL_MASKED & rng.getrandbits(16)
    control = masks | rng.choice((0, 0, 0x2000, 0x4000, 0x6000)) | rng.choice((0, 0, 0x40, 0x8000, 0x8040))
    struct.pack_into("<I", image, MXCSR, control | (rng.getrandbits(6) if rng.random() < 0.5 else 0))
    struct.pack_into("<HB", image, 2, rng.randrange(8) << TOP_SHIFT, rng.getrandbits(8))
    program.fxsave = bytes(image)


def memory_bits(form: Form) -> int:
    """Of the memory operand; 0 without one."""
    match = next((m for o in form.operands if (m := MEMORY.search(o))), None)
    return int(match.group(1)) if match else 0


def add(program: Program, form: Form, choice: Choice) -> None:
    """Append one instruction of a row."""
    rng = program.rng
    if program.fxsave is INITIAL_FXSAVE:
        start(program, form)
    program.require_stack()         # #XM is delivered
    bits = memory_bits(form)
    reg = rng.randrange(8) if choice.reg is None else choice.reg
    shape = choice.shape or rng.choice(("register", *SHAPES))
    if not form.takes_memory:
        shape = "register"
    elif form.takes_only_memory and shape == "register":
        shape = "base"
    rm = rng.randrange(8) if choice.base is None else choice.base
    in_memory = shape != "register"
    writes = set()
    if "r32" in form.operands[:1] or (form.operands and form.operands[0] == "r/m32" and not in_memory):
        writes.add(rm if form.operands[0] == "r/m32" else reg)
        if ESP in writes:
            writes, reg, rm = {EDI}, EDI, EDI
    stores = in_memory and any("w" in access and MEMORY.search(operand_)
                               for operand_, access in zip(form.operands, form.access, strict=True))
    if form.raw in ("maskmovq", "maskmovdqu"):
        program.require(EDI, program.target(16))
        stores = True
    if in_memory:
        target = program.target(bits // 8)
        if bits == 128 and form.mnemonic not in UNALIGNED and rng.random() < 0.985:
            target &= ~15
        if not stores and form.raw != "clflush":
            content = number(rng, kind_of(form)) & (1 << bits) - 1
            if form.raw == "ldmxcsr":
                content = ALL_MASKED | content & (0xFFFF if rng.random() < 0.9 else 0xFFFFFFFF)
            program.require_memory(target, bits // 8, content)
        rm = operand(program, target, shape, choice, {reg} if "r32" in form.operands[1:2] else set())
    immediate = rng.choice((rng.getrandbits(8), rng.randrange(20))) if "imm8" in form.operands else 0
    program.emit(form, encode(form, reg=reg, rm=rm, immediate=immediate), writes, stores=stores)
