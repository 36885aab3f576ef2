"""Code for hostile machines: random bytes, instructions made from the rows, and mutations of both.

Enters: a random generator. Leaves: bytes. Next: scenario.py.
"""
from __future__ import annotations

import random
import re

from pvfast.isa.form import Form
from pvfast.isa.forms import FORMS

PREFIXES = (0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
SYSTEM = tuple(form for form in FORMS if form.privileged or form.ends or form.raw)
OPCODE_BYTE = re.compile(r"([0-9A-F]{2})(\+\w+)?")
IMMEDIATE = re.compile(r"(?:s?imm|rel|moffs|ptr)(\d+)(?::(\d+))?")
SNIPPETS = tuple(bytes.fromhex(text) for text in (
    "cf", "66cf", "9d", "9c58", "fbf4", "f4", "cd80", "cc", "f1", "ce", "c3", "cb", "ca0800", "f3a4", "f3ab", "f2ae",
    "f366a5", "f36c", "f36e", "e40f", "ec", "ef", "60", "61", "6660", "c8100003", "c8ffff1f", "c9", "0fa2", "0f31",
    "0f30", "0f32", "0f34", "0f35", "0f0b", "0f06", "0f20c0", "0f22c0", "0f20d8", "0f22d8", "0f22e0", "0f23f8",
    "0f22d0", "0f0108", "0f0110", "0f0118", "0f0130", "0f0138", "0f00d0", "0f00d8", "8ed0", "8ed8", "8ee8", "17", "1f",
    "c508", "c408", "0fb208", "ff18", "ff28", "eb00", "ebfe", "e2fc", "ffe0", "ffd0", "0fae00", "0fae08", "dd20",
    "db38", "9b", "dbe3", "0f77", "6300", "0f02c1", "0f03c1", "0f00e0", "62041e", "d40a", "d500", "f7f1", "f0ff00",
    "0fc70e", "d6", "0fb900"))
"""Instructions that leave blocks, change modes, fault or repeat, with the simplest operands."""


def instruction(rng: random.Random, form: Form) -> bytes:
    """One instruction of a row with random operands, addressed as in 32-bit code."""
    code = bytearray(rng.choice(PREFIXES) for _ in range(rng.choice((0, 0, 0, 0, 0, 0, 1, 1, 2, 4))))
    if form.opcode.startswith("o16") and rng.random() < 0.9:
        code.append(0x66)
    body = b""
    for part in form.opcode.split():
        if byte := OPCODE_BYTE.fullmatch(part):
            code.append((int(byte[1], 16) + (rng.randrange(8) if byte[2] else 0)) & 0xFF)
        elif part.startswith("/"):
            body = mod_rm(rng, rng.randrange(8) if part == "/r" else int(part[1]))
    size = sum(int(bits or 0) for operand in form.operands if (found := IMMEDIATE.fullmatch(operand))
               for bits in found.groups())
    return bytes(code) + body + immediate(rng, size // 8)


def mod_rm(rng: random.Random, reg: int) -> bytes:
    """ModRM, SIB and displacement of 32-bit addressing (SDM 2:2.1.5); displacements are small most of the time."""
    mod, rm = rng.choice((0, 0, 1, 1, 2, 3, 3)), rng.randrange(8)
    code = bytes([mod << 6 | reg << 3 | rm])
    if mod != 3 and rm == 4:
        code += bytes([sib := rng.randrange(256)])
        rm = sib & 7
    if mod == 2 or (mod == 0 and rm == 5):
        return code + immediate(rng, 4)
    return code + (immediate(rng, 1) if mod == 1 else b"")


def immediate(rng: random.Random, size: int) -> bytes:
    if size == 4 and rng.random() < 0.7:
        return rng.randrange(-0x40, 0x8000).to_bytes(4, "little", signed=True)
    return rng.randbytes(size)


def valid(rng: random.Random, size: int) -> bytes:
    """Instructions of the rows, and now and then a snippet, at least `size` bytes of them."""
    code = bytearray()
    while len(code) < size:
        kind = rng.random()
        if kind < 0.15:
            code += rng.choice(SNIPPETS)
        else:
            code += instruction(rng, rng.choice(SYSTEM if kind < 0.4 else FORMS))
    return bytes(code)


def code(rng: random.Random, size: int, values: list[int]) -> bytes:
    """About `size` bytes of one kind or another; addresses and selectors of the machine are strewn in."""
    kind = rng.random()
    if kind < 0.15:
        return rng.randbytes(size)
    made = bytearray(valid(rng, size))
    for _ in range(rng.choice((0, 0, 0, 1, 3, size // 16))):
        made[rng.randrange(len(made))] = rng.choice((rng.randrange(256), rng.choice(PREFIXES), 0, 0xFF))
    for _ in range(rng.choice((0, 1, 4))):
        at = rng.randrange(len(made))
        load = bytes([0xB8 + rng.randrange(8)]) + rng.choice(values).to_bytes(4, "little")     # mov $value, %reg
        made[at:at] = load + rng.choice((b"", rng.choice(SNIPPETS)))
    if rng.random() < 0.3:          # a loop: blocks get linked and run again
        made += b"\xe9" + (-rng.randrange(5, len(made) + 5)).to_bytes(4, "little", signed=True)
    return bytes(made)
