"""Operands of a row as Cython expressions: where a value is read, where it is stored, how an address is made.

Enters: a Form. Leaves: Operand records and source text. Next: wrappers.py.
"""
from __future__ import annotations

from dataclasses import dataclass

from pvfast.isa.form import Form

REGISTERS = ("EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI")
CTYPE = {8: "u8", 16: "u16", 32: "u32"}


@dataclass(frozen=True)
class Operand:
    """One operand of a row: what kind, how wide, and whether it is read or written."""

    kind: str       # rm, r, imm, acc, m, moffs, cl, one
    size: int
    access: str


def parse(form: Form) -> list[Operand]:
    """The operands of a row that has a semantic function."""
    result = []
    for text, access in zip(form.operands, form.access, strict=True):
        if text.startswith("r/m"):
            result.append(Operand("rm", int(text[3:]), access))
        elif text.startswith("moffs"):
            result.append(Operand("moffs", int(text[5:]), access))
        elif text in ("AL", "AX", "EAX"):
            result.append(Operand("acc", {"AL": 8, "AX": 16, "EAX": 32}[text], access))
        elif text.startswith("imm") or text == "simm8":
            result.append(Operand("imm", 8, access))
        elif text == "CL":
            result.append(Operand("cl", 8, access))
        elif text == "1":
            result.append(Operand("one", 8, access))
        elif text == "m":
            result.append(Operand("m", 32, access))
        elif text.startswith("r") and text[1:].isdigit():
            result.append(Operand("rplus" if "+r" in form.opcode else "r", int(text[1:]), access))
        else:
            raise ValueError(f"{form.opcode} {form.syntax}: operand {text!r}")
    return result


def kinds(operands: list[Operand]) -> str:
    names = {"rplus": "r"}
    return " ".join(names.get(o.kind, o.kind) + (str(o.size) if o.kind in ("rm", "r", "rplus", "acc") else "")
                    for o in operands)


def is_memory_operand(operand: Operand) -> bool:
    return operand.kind in ("rm", "moffs")


def register(operand: Operand, number: str) -> str:
    """The expression that reads a register operand."""
    if operand.size == 8 and number.isdigit():
        # Always whole words: the host forwards and renames those, but not a byte store to a wider load.
        return f"<u8>whole{int(number) & 3}" if int(number) < 4 else f"<u8>(whole{int(number) & 3} >> 8)"
    if operand.size == 8:
        return f"(<u8*>cpu.gpr)[{number}]"
    return f"cpu.gpr[{number}].{'w' if operand.size == 16 else 'd'}"


def store(operand: Operand, number: str, value: str) -> str:
    if operand.size == 8 and number.isdigit():
        low = int(number) < 4
        place = int(number) & 3
        return (f"cpu.gpr[{place}].q = (whole{place} & {'0xFFFFFF00u' if low else '0xFFFF00FFu'}) | "
                f"(<u32><u8>({value}){'' if low else ' << 8'})")
    if operand.size == 8:
        return f"(<u8*>cpu.gpr)[{number}] = {value}"
    return f"cpu.gpr[{number}].{'w' if operand.size == 16 else 'q'} = {value}"


def number_of(operand: Operand, special: dict[str, int]) -> str:
    """Where the register number comes from: fixed, specialised, or the uop."""
    if operand.kind == "acc":
        return "EAX"
    place = "base" if operand.kind in ("rm", "rplus") else "reg"
    if place not in special or special[place] > 7:
        return f"op.{place}"
    return str(special[place]) if operand.size == 8 else REGISTERS[special[place]]


def value_of(operand: Operand, width: int, special: dict[str, int], memory: str) -> str:
    """The expression that reads an operand as `width` bits; `memory` is the one for the memory operand."""
    ctype = CTYPE[width]
    if operand.kind == "imm":
        return f"<{ctype}>op.imm"
    if operand.kind == "cl":
        return f"<{ctype}>cpu.gpr[ECX].b[0]"
    if operand.kind == "one":
        return f"<{ctype}>1"
    if memory and operand.kind in ("rm", "moffs"):
        return memory
    return register(operand, number_of(operand, special))


def address(special: dict[str, int]) -> str:
    """The effective address.

    `slot` 0-7: that base; 8: none; 9-16: no base, index `slot` - 9; 17: base and index; 18: any base alone;
    19: any index alone.
    """
    slot = special.get("slot", 17)
    if slot == 17:
        return "offset_of(cpu, op)"
    if slot == 18:
        return "cpu.gpr[op.base].d + <u32>op.disp"
    if slot == 19:
        return "(cpu.gpr[op.index].d << op.scale) + <u32>op.disp"
    if slot == 8:
        return "<u32>op.disp"
    if slot < 8:
        return f"cpu.gpr[{REGISTERS[slot]}].d + <u32>op.disp"
    return f"(cpu.gpr[{REGISTERS[slot - 9]}].d << op.scale) + <u32>op.disp"
