"""Instructions of forms_x87.py, with the state and the operands on which they differ.

Enters: a Program, a Form and a Choice. Leaves: the program, longer. Next: families.py.

The host alone says what is right: a processor's x87 rounds, flags and fails as pvfast's does, to the last bit.
Pointers are not compared: processors have stopped keeping some of them (CPUID.7.EBX, FDP_EXCPTN_ONLY and the
deprecation of FCS and FDS). What stores them runs when they are known on both sides.
"""
from __future__ import annotations

import random
import struct

from pvfast.isa.form import Form
from pvfast.isa.forms_x87 import FORMS

from .builder import INITIAL_FXSAVE, SHAPES, Program, row
from .encoder import EAX, encode
from .instructions import Choice, operand

X87 = frozenset(FORMS)
FNINIT = row("DB E3", "FNINIT")
MEMORY_BYTES = {"m32fp": 4, "m64fp": 8, "m80fp": 10, "m16int": 2, "m32int": 4, "m64int": 8, "m80bcd": 10, "m2byte": 2,
                "m14byte": 14, "m28byte": 28, "m94byte": 94, "m108byte": 108, "m512byte": 512}
ALL_MASKED, MASKS, ONE = 0x3F, 0x3F, 0x40
EXPONENTS = (0, 1, 2, 60, 0x3BF0, 0x3C00, 0x3C01, 0x3F6A, 0x3F80, 0x3F81, 0x3FFE, 0x3FFF, 0x407E, 0x407F, 0x43FE,
             0x43FF, 0x7FFD, 0x7FFE)
"""Where extended, double and single precision begin and end, and what is near 1."""
SIGNIFICANDS = (1 << 63, 1 << 63 | 1, (1 << 64) - 1, (1 << 64) - (1 << 11), (1 << 64) - (1 << 10),
                (1 << 64) - (1 << 40))
INTEGERS = (1, 2, 3, 5, 10, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 1 << 62, (1 << 63) - 1, 10 ** 18 - 1, 10 ** 18)
SINGLES = (0, 1 << 31, 1, 0x807FFFFF, 0x7F800000, 0xFF800000, 0x7FC00001, 0x7F800001, 0xFFA00000, 0x3F800000)
DOUBLES = (0, 1 << 63, 1, 0x800FFFFFFFFFFFFF, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48 | 1, 0x7FF << 52 | 1, 0x3FF << 52)


def real(rng: random.Random) -> bytes:
    """Ten bytes of every kind of value (SDM 1:4.2.2, 1:4.8.3, 1:8.2.2)."""
    kind = rng.randrange(14)
    sign = rng.choice((0, 0x8000))
    fraction = rng.getrandbits(63)
    significand, exponent = 1 << 63 | fraction, rng.randrange(1, 0x7FFF)
    if kind == 0:
        significand, exponent = 0, 0
    elif kind == 1:
        significand, exponent = 1 << 63, 0x7FFF                                     # infinity
    elif kind == 2:
        significand, exponent = rng.choice((3 << 62, 3 << 62 | fraction)), 0x7FFF       # QNaN
    elif kind == 3:
        significand, exponent = 1 << 63 | (fraction >> 1) | 1, 0x7FFF                   # SNaN
    elif kind == 4:
        significand, exponent = fraction >> rng.randrange(63), 0                        # denormal
    elif kind == 5:
        exponent = 0                                                                    # pseudo-denormal
    elif kind == 6:
        significand, exponent = fraction >> rng.randrange(63), rng.randrange(1, 0x8000)     # unsupported
    elif kind in (7, 8):
        exponent = 0x3FFF + rng.randrange(-70, 70)
    elif kind == 9:
        exponent = rng.choice(EXPONENTS)
    elif kind == 10:
        number = rng.choice((*INTEGERS, rng.getrandbits(16) | 1))
        significand, exponent = number << 64 - number.bit_length(), 0x3FFE + number.bit_length()
    elif kind == 11:
        significand, exponent = 1 << 63 | rng.getrandbits(8) << 55, 0x3FFF + rng.randrange(-8, 8)
    elif kind == 12:
        significand, exponent = rng.choice(SIGNIFICANDS), rng.choice(EXPONENTS)
    return struct.pack("<QH", significand, sign | exponent)


def state(rng: random.Random) -> bytes:
    """An FXSAVE image; most have all exceptions masked, and no exception is pending."""
    image = bytearray(INITIAL_FXSAVE)
    masks = ALL_MASKED if rng.random() < 0.95 else rng.choice((0, rng.getrandbits(6), MASKS ^ 1 << rng.randrange(6)))
    modes = rng.choice((0x300, 0x300, 0x200, 0, 0x1300)) | rng.choice((0, 0, 0x400, 0x800, 0xC00))
    flags = rng.choice((0, 0, rng.getrandbits(6))) & masks
    top = rng.randrange(8)
    status = flags | top << 11 | rng.getrandbits(16) & 0x4700 | (0x40 if flags & 1 and rng.random() < 0.5 else 0)
    valid = rng.choice((0xFF, 0, rng.getrandbits(8), 1 << top, *[0xFF ^ 1 << (top - 1 & 7)] * 4))
    opcode, eip = rng.getrandbits(11), rng.getrandbits(32)
    struct.pack_into("<HHBxHII", image, 0, modes | masks | ONE, status, valid, opcode, eip, 0)
    for i in range(8):
        image[32 + 16 * i:42 + 16 * i] = real(rng)
    return bytes(image)


def content(rng: random.Random, name: str) -> bytes:
    """What a memory operand holds."""
    size = MEMORY_BYTES[name]
    if name == "m32fp":
        return struct.pack("<I", rng.choice((*SINGLES, *[rng.getrandbits(32)] * 8, rng.getrandbits(23))))
    if name == "m64fp":
        return struct.pack("<Q", rng.choice((*DOUBLES, *[rng.getrandbits(64)] * 8, rng.getrandbits(52))))
    if name == "m80fp":
        return real(rng)
    if name == "m80bcd":
        if rng.random() < 0.2:
            return rng.randbytes(size)          # digits that are none
        return bytes.fromhex(f"{rng.randrange(10 ** 18):018}") + rng.choice((b"\0", b"\x80", b"\x55"))
    if "int" in name:
        extremes = (bytes(size), b"\xff" * size, bytes(size - 1) + b"\x80", b"\1" + bytes(size - 1))
        return rng.choice((*extremes, rng.randbytes(size), rng.randbytes(size)))
    result = bytearray(rng.randbytes(size))
    if rng.random() < 0.97:
        result[0] |= MASKS
    if name == "m512byte":
        result[24:32] = INITIAL_FXSAVE[24:32]
    return bytes(result)


def has(form: Form) -> bool:
    return form in X87


def add(program: Program, form: Form, choice: Choice) -> None:
    """Append one instruction; the first one of a program brings a state for the whole of it."""
    rng = program.rng
    first = program.fxsave is INITIAL_FXSAVE
    if first:
        program.fxsave = state(rng)
    program.require_defined(form.reads)
    program.require_stack()         # a pending exception is delivered
    if not first and form.mnemonic in ("FNSTENV", "FNSAVE", "FXSAVE"):
        program.code += encode(FNINIT)              # the pointers are 0
    if not form.takes_memory:
        writes = (EAX,) if form.raw == "fnstsw_ax" else ()
        program.emit(form, encode(form, rm=rng.randrange(8)), writes)
        return
    name = form.operands[0]
    size = MEMORY_BYTES[name]
    target = program.target(size)
    if name == "m512byte":
        target &= ~15
    shape = choice.shape if choice.shape in SHAPES else rng.choice(SHAPES)
    if form.access == ("r",):
        data = content(rng, name)
        if program.stored or program.skips:         # too long to be stored by instructions: what matters of it
            parts = [(0, data[:min(size, 10)])] + ([(24, data[24:28])] if size == 512 else [])
        else:
            parts = [(0, data)]
        for offset, part in parts:
            program.require_memory(target + offset, len(part), int.from_bytes(part, "little"))
    where = operand(program, target, shape, choice, set())
    program.emit(form, encode(form, rm=where), stores=form.access == ("w",))
