"""Bytes of an instruction from its row: the opcode and syntax columns and nothing else.

Enters: a Form and operand values. Leaves: bytes. Next: builder.py. The assembler is not used, so that a mistake in a
row is met by bytes that the row itself promises to decode.
"""
from __future__ import annotations

from dataclasses import dataclass

from pvfast.isa.form import Form

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
SEGMENT_PREFIX = {"es": 0x26, "cs": 0x2E, "ss": 0x36, "ds": 0x3E, "fs": 0x64, "gs": 0x65}
OPERAND_SIZE, ADDRESS_SIZE, LOCK, REPNZ, REPZ = 0x66, 0x67, 0xF0, 0xF2, 0xF3

IMMEDIATE_BYTES = {"imm8": 1, "simm8": 1, "rel8": 1, "imm16": 2, "imm32": 4, "rel16": 2, "rel32": 4, "moffs8": 4,
                   "moffs16": 4, "moffs32": 4, "ptr16:16": 4, "ptr16:32": 6}
_SIXTEEN = {"r16", "r/m16", "AX", "imm16", "rel16", "moffs16"}
SIXTEEN_MOD_RM = {(3, 6): 0, (3, 7): 1, (5, 6): 2, (5, 7): 3, (6, None): 4, (7, None): 5, (5, None): 6, (3, None): 7}
"""(base, index) of 16-bit addressing to its r/m number (SDM 2, table 2-1)."""


@dataclass(frozen=True)
class Memory:
    """A memory operand; registers by number, None for none. `short` asks for the shortest displacement."""

    base: int | None = None
    index: int | None = None
    scale: int = 0
    disp: int = 0
    segment: str | None = None
    address16: bool = False
    short: bool = True

    def prefixes(self) -> bytes:
        return bytes([SEGMENT_PREFIX[self.segment]] if self.segment else []) + bytes(
            [ADDRESS_SIZE] if self.address16 else [])


def operand_size(form: Form) -> int:
    """16 or 32: whether the row needs the operand-size prefix in 32-bit code."""
    if form.opcode.startswith("o16 "):
        return 16
    if form.opcode.startswith("o32 ") or form.encoding.prefix or form.mnemonic in ("RET", "ENTER"):
        return 32
    if form.mnemonic in ("MOVZX", "MOVSX"):
        return 16 if "r16" in form.operands else 32
    if form.raw.rstrip("0123456789") in ("movs", "stos", "lods", "cmps", "scas") and form.raw.endswith("16"):
        return 16
    return 16 if _SIXTEEN & set(form.operands) else 32


def _signed8(value: int) -> bool:
    return -128 <= value - ((value >> 31) << 32) < 128


def _modrm(reg: int, operand: int | Memory) -> bytes:
    """ModRM, SIB and displacement (SDM 2:2.1.5)."""
    if isinstance(operand, int):
        return bytes([0xC0 | reg << 3 | operand])
    if operand.address16:
        return _modrm16(reg, operand)
    disp = operand.disp & 0xFFFFFFFF
    sib = b""
    rm = operand.base
    if operand.index is not None or operand.base == ESP:
        rm = 4
        index = 4 if operand.index is None else operand.index
        sib = bytes([operand.scale << 6 | index << 3 | (EBP if operand.base is None else operand.base)])
    if operand.base is None:
        mod, rm, size = 0, EBP if rm is None else rm, 4
    elif operand.short and disp == 0 and operand.base != EBP:
        mod, size = 0, 0
    elif operand.short and _signed8(disp):
        mod, size = 1, 1
    else:
        mod, size = 2, 4
    return bytes([mod << 6 | reg << 3 | rm]) + sib + (disp & (1 << 8 * size) - 1).to_bytes(size, "little")


def _modrm16(reg: int, operand: Memory) -> bytes:
    disp = (operand.disp & 0xFFFF).to_bytes(2, "little")
    if operand.base is None:
        return bytes([reg << 3 | 6]) + disp
    return bytes([0x80 | reg << 3 | SIXTEEN_MOD_RM[operand.base, operand.index]]) + disp


def encode(form: Form, *, reg: int = 0, rm: int | Memory | None = None, immediate: int = 0,
           prefixes: bytes = b"") -> bytes:
    """One instruction. `rm` is the r/m (or moffs, or string source) operand; `reg` is also the +r register."""
    memory = rm if isinstance(rm, Memory) else None
    head = prefixes + (memory.prefixes() if memory else b"")
    if operand_size(form) == 16:
        head += bytes([OPERAND_SIZE])
    parts = [part for part in form.opcode.split() if part not in ("o16", "o32", "NP")]
    extension = next((part[1:] for part in parts if part.startswith("/")), None)
    opcode = bytearray(int(part.split("+")[0], 16) for part in parts if not part.startswith("/"))
    if form.encoding.prefix not in ("", "NP"):
        head += bytes([opcode.pop(0)])
    if any("+i" in part for part in parts):
        opcode[-1] += 0 if rm is None else rm
    if any("+r" in part for part in parts):
        opcode[-1] += reg
    body = b""
    if extension is not None:
        body = _modrm(reg if extension == "r" else int(extension), 0 if rm is None else rm)
    sizes = [IMMEDIATE_BYTES[o] for o in form.operands if o in IMMEDIATE_BYTES]
    if memory and any(o.startswith("moffs") for o in form.operands):
        immediate, sizes = memory.disp, [2 if memory.address16 else 4]
    size = sum(sizes)
    return head + bytes(opcode) + body + (immediate & (1 << 8 * size) - 1).to_bytes(size, "little")
