"""General-purpose instructions without privilege: data movement, arithmetic, logic, branches, strings.

Enters: SDM volume 2. Leaves: `FORMS`. Next: forms_system.py.
"""
from __future__ import annotations

from pvfast.isa.form import Form, form

CONDITIONS = ("O", "NO", "B", "NB", "Z", "NZ", "BE", "NBE", "S", "NS", "P", "NP", "L", "NL", "LE", "NLE")
"""Condition codes 0-15 (SDM 1:B.1)."""
CONDITION_READS = ("o", "c", "z", "cz", "s", "p", "so", "zso")
"""Flags that the pairs of conditions read."""

_NUMBER = {8: "imm8", 16: "imm16", 32: "imm32"}
_ACCUMULATOR = {8: "AL", 16: "AX", 32: "EAX"}


def _arithmetic() -> list[Form]:
    """The eight operations that share nine encodings (SDM 2, ADD ... CMP)."""
    rows = []
    for number, (name, sem, reads, undefined) in enumerate((
            ("ADD", "add", "", ""), ("OR", "bit_or", "", "a"), ("ADC", "adc", "c", ""), ("SBB", "sbb", "c", ""),
            ("AND", "bit_and", "", "a"), ("SUB", "sub", "", ""), ("XOR", "bit_xor", "", "a"), ("CMP", "cmp", "", ""))):
        first = "r" if name == "CMP" else "rw"
        lock = name != "CMP"
        base = number * 8
        for size in (8, 16, 32):
            wide = size > 8

            def row(opcode: str, operands: str, memory: bool = False, first: str = first, name: str = name,
                    sem: str = sem, reads: str = reads, undefined: str = undefined, lock: bool = lock) -> Form:
                return form(opcode, f"{name} {operands}", sem=sem, access=f"{first} r", reads=reads, writes="oszapc",
                            undefined=undefined, lock=lock and memory)
            rows += [
                row(f"{base + wide:02X} /r", f"r/m{size}, r{size}", True),
                row(f"{base + 2 + wide:02X} /r", f"r{size}, r/m{size}"),
                row(f"{base + 4 + wide:02X}", f"{_ACCUMULATOR[size]}, {_NUMBER[size]}"),
                row(f"{0x81 if wide else 0x80:02X} /{number}", f"r/m{size}, {_NUMBER[size]}", True),
                row(f"{0x83 if wide else 0x82:02X} /{number}", f"r/m{size}, simm8", True),
            ]
    return rows


def _shifts() -> list[Form]:
    rows = []
    for number, name, sem, writes, undefined, reads in (
            (0, "ROL", "rol", "oc", "o", ""), (1, "ROR", "ror", "oc", "o", ""), (2, "RCL", "rcl", "oc", "o", "c"),
            (3, "RCR", "rcr", "oc", "o", "c"), (4, "SHL", "shl", "oszapc", "oa", ""),
            (5, "SHR", "shr", "oszapc", "oa", ""), (6, "SHL", "shl", "oszapc", "oa", ""),
            (7, "SAR", "sar", "oszapc", "oa", "")):
        for size in (8, 16, 32):
            wide = size > 8
            by_one = undefined.replace("o", "")
            rows += [
                form(f"{0xC0 + wide:02X} /{number}", f"{name} r/m{size}, imm8", sem=sem, access="rw r", reads=reads,
                     writes=writes, undefined=undefined + ("c" if size < 32 and sem in ("shl", "shr") else ""),
                     cost="shift"),
                form(f"{0xD0 + wide:02X} /{number}", f"{name} r/m{size}, 1", sem=sem, access="rw r", reads=reads,
                     writes=writes, undefined=by_one, cost="shift"),
                form(f"{0xD2 + wide:02X} /{number}", f"{name} r/m{size}, CL", sem=sem, access="rw r", reads=reads,
                     writes=writes, undefined=undefined + ("c" if size < 32 and sem in ("shl", "shr") else ""),
                     cost="shift_cl"),
            ]
    for opcode, name, sem in ((0xA4, "SHLD", "shld"), (0xAC, "SHRD", "shrd")):
        for size in (16, 32):
            undefined = "oa" if size == 32 else "oszapc"
            rows += [
                form(f"0F {opcode:02X} /r", f"{name} r/m{size}, r{size}, imm8", sem=sem, access="rw r r",
                     writes="oszapc", undefined=undefined, cost="shift_cl"),
                form(f"0F {opcode + 1:02X} /r", f"{name} r/m{size}, r{size}, CL", sem=sem, access="rw r r",
                     writes="oszapc", undefined=undefined, cost="shift_cl"),
            ]
    return rows


def _moves() -> list[Form]:
    rows = []
    for size in (8, 16, 32):
        wide = size > 8
        a = _ACCUMULATOR[size]
        rows += [
            form(f"{0x88 + wide:02X} /r", f"MOV r/m{size}, r{size}", sem="mov", access="w r", cost="mov"),
            form(f"{0x8A + wide:02X} /r", f"MOV r{size}, r/m{size}", sem="mov", access="w r", cost="mov"),
            form(f"{0xA0 + wide:02X}", f"MOV {a}, moffs{size}", sem="mov", access="w r", cost="mov"),
            form(f"{0xA2 + wide:02X}", f"MOV moffs{size}, {a}", sem="mov", access="w r", cost="mov"),
            form(f"{0xB8 if wide else 0xB0:02X}+r", f"MOV r{size}, {_NUMBER[size]}", sem="mov", access="w r",
                 cost="mov"),
            form(f"{0xC6 + wide:02X} /0", f"MOV r/m{size}, {_NUMBER[size]}", sem="mov", access="w r", cost="mov"),
            form(f"{0x86 + wide:02X} /r", f"XCHG r/m{size}, r{size}", raw=f"xchg{size}", access="rw rw", lock=True,
                 cost="xchg", register_cost="mov"),
            form(f"0F {0xC0 + wide:02X} /r", f"XADD r/m{size}, r{size}", raw=f"xadd{size}", access="rw rw",
                 writes="oszapc", lock=True, cost="xadd"),
            form(f"0F {0xB0 + wide:02X} /r", f"CMPXCHG r/m{size}, r{size}", raw=f"cmpxchg{size}", access="rw r",
                 writes="oszapc", lock=True, cost="cmpxchg"),
        ]
        if wide:
            rows += [
                form("0F B6 /r", f"MOVZX r{size}, r/m8", sem="zero_extend", access="w r", cost="mov"),
                form("0F BE /r", f"MOVSX r{size}, r/m8", sem="sign_extend", access="w r", cost="mov"),
                form("8D /r", f"LEA r{size}, m", sem="lea", access="w -", cost="lea"),
                form("90+r", f"XCHG r{size}, {a}", raw=f"xchg_a{size}", access="rw rw", cost="mov"),
            ]
    for row in (("0F B7 /r", "MOVZX r32, r/m16", "zero_extend"), ("0F BF /r", "MOVSX r32, r/m16", "sign_extend")):
        rows.append(form(row[0], row[1], sem=row[2], access="w r", cost="mov"))
    rows += [
        form("0F B7 /r", "MOVZX r16, r/m16", sem="mov", access="w r", cost="mov"),
        form("0F BF /r", "MOVSX r16, r/m16", sem="mov", access="w r", cost="mov"),
        form("0F C8+r", "BSWAP r32", sem="bswap", access="rw"),
        form("0F C8+r", "BSWAP r16", raw="bswap16", access="w"),
        form("0F C7 /1", "CMPXCHG8B m64", raw="cmpxchg8b", access="rw", writes="z", lock=True, cost="cmpxchg8b",
             feature="CX8"),
        form("D7", "XLAT", raw="xlat", cost="mov"),
        form("D6", "SALC", raw="salc", reads="c"),
        form("9F", "LAHF", raw="lahf", reads="szapc", cost="lahf"),
        form("9E", "SAHF", raw="sahf", writes="szapc", cost="lahf"),
    ]
    return rows


def _unary() -> list[Form]:
    rows = []
    for size in (8, 16, 32):
        wide = size > 8
        rm = f"r/m{size}"
        rows += [
            form(f"{0xFE + wide:02X} /0", f"INC {rm}", sem="inc", access="rw", writes="oszap", lock=True),
            form(f"{0xFE + wide:02X} /1", f"DEC {rm}", sem="dec", access="rw", writes="oszap", lock=True),
            form(f"{0xF6 + wide:02X} /2", f"NOT {rm}", sem="bit_not", access="rw", lock=True),
            form(f"{0xF6 + wide:02X} /3", f"NEG {rm}", sem="neg", access="rw", writes="oszapc", lock=True),
            form(f"{0xF6 + wide:02X} /4", f"MUL {rm}", raw=f"mul{size}", access="r", writes="oszapc",
                 undefined="szap", cost="mul"),
            form(f"{0xF6 + wide:02X} /5", f"IMUL {rm}", raw=f"imul{size}", access="r", writes="oszapc",
                 undefined="szap", cost="mul"),
            form(f"{0xF6 + wide:02X} /6", f"DIV {rm}", raw=f"div{size}", access="r", writes="oszapc",
                 undefined="oszapc", cost="div"),
            form(f"{0xF6 + wide:02X} /7", f"IDIV {rm}", raw=f"idiv{size}", access="r", writes="oszapc",
                 undefined="oszapc", cost="div"),
            form(f"{0x84 + wide:02X} /r", f"TEST {rm}, r{size}", sem="test", access="r r", writes="oszapc",
                 undefined="a"),
            form(f"{0xA8 + wide:02X}", f"TEST {_ACCUMULATOR[size]}, {_NUMBER[size]}", sem="test", access="r r",
                 writes="oszapc", undefined="a"),
        ]
        rows += [form(f"{0xF6 + wide:02X} /{number}", f"TEST {rm}, {_NUMBER[size]}", sem="test", access="r r",
                      writes="oszapc", undefined="a") for number in (0, 1)]
        if wide:
            rows += [
                form("40+r", f"INC r{size}", sem="inc", access="rw", writes="oszap"),
                form("48+r", f"DEC r{size}", sem="dec", access="rw", writes="oszap"),
                form("0F AF /r", f"IMUL r{size}, {rm}", sem="imul", access="rw r", writes="oszapc", undefined="szap",
                     cost="mul"),
                form("69 /r", f"IMUL r{size}, {rm}, {_NUMBER[size]}", sem="imul", access="w r r", writes="oszapc",
                     undefined="szap", cost="mul"),
                form("6B /r", f"IMUL r{size}, {rm}, simm8", sem="imul", access="w r r", writes="oszapc",
                     undefined="szap", cost="mul"),
                form("0F BC /r", f"BSF r{size}, {rm}", sem="bsf", access="rw r", writes="oszapc", undefined="osapc"),
                form("0F BD /r", f"BSR r{size}, {rm}", sem="bsr", access="rw r", writes="oszapc", undefined="osapc"),
            ]
            for number, name in ((4, "bt"), (5, "bts"), (6, "btr"), (7, "btc")):
                access = "r r" if name == "bt" else "rw r"
                rows += [
                    form(f"0F BA /{number}", f"{name.upper()} {rm}, imm8", sem=name, access=access, writes="c",
                         undefined="osap", lock=name != "bt"),
                    form(f"0F {0x83 + number * 8:02X} /r", f"{name.upper()} {rm}, r{size}", raw=f"{name}{size}",
                         access=access, writes="c", undefined="osap", lock=name != "bt"),
                ]
    rows += [
        form("o16 98", "CBW", raw="cbw"), form("o32 98", "CWDE", raw="cwde"),
        form("o16 99", "CWD", raw="cwd"), form("o32 99", "CDQ", raw="cdq"),
        form("F8", "CLC", raw="clc", writes="c"), form("F9", "STC", raw="stc", writes="c"),
        form("F5", "CMC", raw="cmc", reads="c", writes="c"),
        form("FC", "CLD", raw="cld", cost="cld"), form("FD", "STD", raw="std", cost="cld"),
    ]
    return rows


def _decimal() -> list[Form]:
    """SDM 1:7.3.4.4."""
    rows = [form(opcode, name, raw=name.lower(), reads=reads, writes="oszapc", undefined=undefined, cost="decimal")
            for opcode, name, reads, undefined in (("27", "DAA", "ac", "o"), ("2F", "DAS", "ac", "o"),
                                                   ("37", "AAA", "a", "oszp"), ("3F", "AAS", "a", "oszp"))]
    return [
        *rows,
        form("D4", "AAM imm8", raw="aam", access="r", writes="oszapc", undefined="oac", cost="div"),
        form("D5", "AAD imm8", raw="aad", access="r", writes="oszapc", undefined="oac", cost="decimal"),
    ]


def _hints() -> list[Form]:
    """What changes nothing: NOP, PAUSE, PREFETCHh. The opcodes 0F 18 to 0F 1F came with the P6 family, as CMOV did."""
    rows = [form("90", "NOP", raw="nop", cost="nop"), form("F3 90", "PAUSE", raw="nop", cost="pause")]
    for number, name in enumerate(("NTA", "T0", "T1", "T2")):
        rows += [form(f"0F 18 /{number}", operands, raw="nop", access="-", cost="nop", feature="CMOV")
                 for operands in (f"PREFETCH{name} m8", "NOP r")]
    rows += [form(f"0F 18 /{number}", "NOP r/m", raw="nop", access="-", cost="nop", feature="CMOV")
             for number in range(4, 8)]
    return rows + [form(f"0F {opcode:02X} /r", "NOP r/m", raw="nop", access="-", cost="nop", feature="CMOV")
                   for opcode in range(0x19, 0x20)]


def _stack() -> list[Form]:
    rows = []
    for size in (16, 32):
        rows += [
            form("50+r", f"PUSH r{size}", raw=f"push_r{size}", access="r", cost="push"),
            form("58+r", f"POP r{size}", raw=f"pop_r{size}", access="w", cost="pop"),
            form("68", f"PUSH imm{size}", raw=f"push_i{size}", access="r", cost="push"),
            form("FF /6", f"PUSH r/m{size}", raw=f"push_rm{size}", access="r", cost="push"),
            form("8F /0", f"POP r/m{size}", raw=f"pop_rm{size}", access="w", cost="pop"),
        ]
    for prefix, narrow in (("o32", ""), ("o16", "16")):
        rows += [
            form(f"{prefix} 6A", "PUSH simm8", raw=f"push_i{narrow or 32}", access="r", cost="push"),
            form(f"{prefix} C9", "LEAVE", raw=f"leave{narrow}", cost="pop"),
            form(f"{prefix} C8", "ENTER imm16, imm8", raw=f"enter{narrow}", access="r r", cost="enter"),
            form(f"{prefix} 60", "PUSHA", raw=f"pusha{narrow}", cost="pusha"),
            form(f"{prefix} 61", "POPA", raw=f"popa{narrow}", cost="pusha"),
        ]
    return rows


def _branches() -> list[Form]:
    rows = [
        form("EB", "JMP rel8", raw="jmp", ends=True, cost="jump"),
        form("E0", "LOOPNZ rel8", raw="loopnz", ends=True, reads="z", cost="loop"),
        form("E1", "LOOPZ rel8", raw="loopz", ends=True, reads="z", cost="loop"),
        form("E2", "LOOP rel8", raw="loop", ends=True, cost="loop"),
        form("E3", "JECXZ rel8", raw="jecxz", ends=True, cost="loop"),
    ]
    for size, narrow in ((32, ""), (16, "16")):
        rows += [
            form("E9", f"JMP rel{size}", raw="jmp", ends=True, cost="jump"),
            form("E8", f"CALL rel{size}", raw=f"call{narrow}", ends=True, cost="call"),
            form("FF /2", f"CALL r/m{size}", raw=f"call_rm{narrow}", access="r", ends=True, cost="call_indirect"),
            form("FF /4", f"JMP r/m{size}", raw=f"jmp_rm{narrow}", access="r", ends=True, cost="jump_indirect"),
            form(f"o{size} C3", "RET", raw=f"ret{narrow}", ends=True, cost="ret"),
            form(f"o{size} C2", "RET imm16", raw=f"ret_i{narrow}", ends=True, cost="ret"),
        ]
    for code, name in enumerate(CONDITIONS):
        reads = CONDITION_READS[code >> 1]
        rows += [
            form(f"{0x70 + code:02X}", f"J{name} rel8", raw=f"jcc_{code}", reads=reads, ends=True, cost="branch"),
            form(f"0F {0x80 + code:02X}", f"J{name} rel32", raw=f"jcc_{code}", reads=reads, ends=True, cost="branch"),
            form(f"0F {0x80 + code:02X}", f"J{name} rel16", raw=f"jcc_{code}", reads=reads, ends=True, cost="branch"),
            form(f"0F {0x90 + code:02X} /r", f"SET{name} r/m8", sem=f"setcc:{code}", access="w", reads=reads),
        ]
        rows += [form(f"0F {0x40 + code:02X} /r", f"CMOV{name} r{size}, r/m{size}", sem=f"cmov:{code}",
                      access="rw r", reads=reads, feature="CMOV") for size in (16, 32)]
    return rows


def _strings() -> list[Form]:
    rows = []
    for size, letter in ((8, "B"), (16, "W"), (32, "D")):
        wide = size > 8
        rows += [
            form(f"{0xA4 + wide:02X}", f"MOVS{letter}", raw=f"movs{size}", cost="movs"),
            form(f"{0xAA + wide:02X}", f"STOS{letter}", raw=f"stos{size}", cost="stos"),
            form(f"{0xAC + wide:02X}", f"LODS{letter}", raw=f"lods{size}", cost="lods"),
            form(f"{0xA6 + wide:02X}", f"CMPS{letter}", raw=f"cmps{size}", writes="oszapc", cost="cmps"),
            form(f"{0xAE + wide:02X}", f"SCAS{letter}", raw=f"scas{size}", writes="oszapc", cost="scas"),
        ]
    return rows


FORMS: tuple[Form, ...] = tuple(
    _arithmetic() + _shifts() + _moves() + _unary() + _decimal() + _stack() + _branches() + _strings() + _hints() + [
        form("62 /r", "BOUND r16, m16&16", raw="bound16", access="r r", cost="bound"),
        form("62 /r", "BOUND r32, m32&32", raw="bound32", access="r r", cost="bound"),
    ])
