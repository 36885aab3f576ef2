"""System instructions: flags with privilege, interrupts, segments, control registers, descriptor tables, ports.

Enters: SDM volume 2. Leaves: `FORMS`. Next: forms_vector.py. All of them are irregular: each row names a raw handler of
core/system.pxi, control.pxi, raw_segments.pxi, raw_descriptors.pxi or ports.pxi.

`privileged` rows raise #GP(0) unless CPL is 0, `protected` rows #UD in real and V86 mode. A row that leaves its block
in some cases only (STI, POPF, segment loads) does so by itself and is not marked `ends`.
"""
from __future__ import annotations

from pvfast.isa.form import Form, form


def _both_sizes(opcode: str, mnemonic: str, raw: str, *, access: str, wide: bool = False, privileged: bool = False,
                protected: bool = False, ends: bool = False, cost: str = "descriptor_table") -> list[Form]:
    """An instruction on r/m16 whatever the operand size; a `wide` register destination is written by size."""
    narrow = f"{raw}16" if wide else raw
    return [
        form(f"o32 {opcode}", f"{mnemonic} r/m{32 if wide else 16}", raw=raw, access=access, privileged=privileged,
             protected=protected, ends=ends, cost=cost),
        form(f"o16 {opcode}", f"{mnemonic} r/m16", raw=narrow, access=access, privileged=privileged,
             protected=protected, ends=ends, cost=cost),
    ]


def _flags() -> list[Form]:
    """SDM 1:7.3.13; POPF writes the arithmetic flags."""
    return [
        form("FA", "CLI", raw="cli", cost="cli"),
        form("FB", "STI", raw="sti", cost="sti"),
        form("o32 9C", "PUSHFD", raw="pushf", reads="oszapc", cost="pushf"),
        form("o16 9C", "PUSHF", raw="pushf16", reads="oszapc", cost="pushf"),
        form("o32 9D", "POPFD", raw="popf", writes="oszapc", cost="popf"),
        form("o16 9D", "POPF", raw="popf16", writes="oszapc", cost="popf"),
    ]


def _interrupts() -> list[Form]:
    return [
        form("CC", "INT3", raw="int3", ends=True, cost="int"),
        form("CD", "INT imm8", raw="int_n", access="r", ends=True, cost="int"),
        form("CE", "INTO", raw="into", reads="o", cost="branch"),
        form("o32 CF", "IRETD", raw="iret", writes="oszapc", ends=True, cost="iret"),
        form("o16 CF", "IRET", raw="iret16", writes="oszapc", ends=True, cost="iret"),
        form("F1", "INT1", raw="int1", ends=True, cost="int"),
        form("0F 34", "SYSENTER", raw="sysenter", ends=True, cost="sysenter", feature="SEP"),
        form("0F 35", "SYSEXIT", raw="sysexit", privileged=True, ends=True, cost="sysexit", feature="SEP"),
        form("F4", "HLT", raw="hlt", privileged=True, ends=True, cost="hlt"),
        form("0F 0B", "UD2", raw="ud2", ends=True, cost="nop"),
        form("0F B9 /r", "UD1 r32, r/m32", raw="ud1", access="- -", ends=True, cost="nop"),
        form("0F FF", "UD0", raw="ud2", ends=True, cost="nop"),
    ]


def _far() -> list[Form]:
    rows = []
    for size, narrow in ((32, ""), (16, "16")):
        rows += [
            form(f"o{size} EA", f"JMP ptr16:{size}", raw=f"jmp_far{size}", access="r", ends=True, cost="far"),
            form(f"o{size} FF /5", f"JMP m16:{size}", raw=f"jmp_far{size}", access="r", ends=True, cost="far"),
            form(f"o{size} 9A", f"CALL ptr16:{size}", raw=f"call_far{size}", access="r", ends=True, cost="far"),
            form(f"o{size} FF /3", f"CALL m16:{size}", raw=f"call_far{size}", access="r", ends=True, cost="far"),
            form(f"o{size} CB", "RETF", raw=f"ret_far{narrow}", ends=True, cost="far"),
            form(f"o{size} CA", "RETF imm16", raw=f"ret_far_i{narrow}", access="r", ends=True, cost="far"),
        ]
    return rows


def _segments() -> list[Form]:
    rows = [
        form("o32 8E /r", "MOV Sreg, r/m16", raw="mov_to_sreg", access="w r", cost="segment_load"),
        form("o16 8E /r", "MOV Sreg, r/m16", raw="mov_to_sreg", access="w r", cost="segment_load"),
        form("o32 8C /r", "MOV r/m32, Sreg", raw="mov_from_sreg", access="w r", cost="mov"),
        form("o16 8C /r", "MOV r/m16, Sreg", raw="mov_from_sreg16", access="w r", cost="mov"),
    ]
    for size in (32, 16):
        for push, pop, name in (("06", "07", "ES"), ("0E", None, "CS"), ("16", "17", "SS"), ("1E", "1F", "DS"),
                                ("0F A0", "0F A1", "FS"), ("0F A8", "0F A9", "GS")):
            rows.append(form(f"o{size} {push}", f"PUSH {name}", raw=f"push_{name.lower()}{size}", access="r",
                             cost="push"))
            if pop:
                rows.append(form(f"o{size} {pop}", f"POP {name}", raw=f"pop_{name.lower()}{size}", access="w",
                                 cost="segment_load"))
        for opcode, name in (("C4", "LES"), ("C5", "LDS"), ("0F B2", "LSS"), ("0F B4", "LFS"), ("0F B5", "LGS")):
            rows.append(form(f"o{size} {opcode} /r", f"{name} r{size}, m16:{size}", raw=f"{name.lower()}{size}",
                             access="w r", cost="segment_load"))
    return rows


def _descriptors() -> list[Form]:
    rows = [
        *_both_sizes("0F 00 /0", "SLDT", "sldt", access="w", wide=True, protected=True, cost="cr_read"),
        *_both_sizes("0F 00 /1", "STR", "str", access="w", wide=True, protected=True, cost="cr_read"),
        *_both_sizes("0F 00 /2", "LLDT", "lldt", access="r", privileged=True, protected=True),
        *_both_sizes("0F 00 /3", "LTR", "ltr", access="r", privileged=True, protected=True),
        *_both_sizes("0F 00 /4", "VERR", "verr", access="r", protected=True, cost="segment_load"),
        *_both_sizes("0F 00 /5", "VERW", "verw", access="r", protected=True, cost="segment_load"),
        form("0F 01 /0", "SGDT m", raw="sgdt", access="w", cost="cr_read"),
        form("0F 01 /1", "SIDT m", raw="sidt", access="w", cost="cr_read"),
        form("o32 0F 01 /2", "LGDT m", raw="lgdt", access="r", privileged=True, cost="descriptor_table"),
        form("o16 0F 01 /2", "LGDT m", raw="lgdt16", access="r", privileged=True, cost="descriptor_table"),
        form("o32 0F 01 /3", "LIDT m", raw="lidt", access="r", privileged=True, cost="descriptor_table"),
        form("o16 0F 01 /3", "LIDT m", raw="lidt16", access="r", privileged=True, cost="descriptor_table"),
    ]
    for opcode, name in (("0F 02", "LAR"), ("0F 03", "LSL")):
        rows += [
            form(f"o32 {opcode} /r", f"{name} r32, r/m16", raw=name.lower(), access="w r", writes="z",
                 protected=True, cost="segment_load"),
            form(f"o16 {opcode} /r", f"{name} r16, r/m16", raw=f"{name.lower()}16", access="w r", writes="z",
                 protected=True, cost="segment_load"),
        ]
    rows += [form(f"{size} 63 /r", "ARPL r/m16, r16", raw="arpl", access="rw r", writes="z", protected=True,
                  cost="segment_load") for size in ("o32", "o16")]
    return rows


def _control() -> list[Form]:
    """Control and debug registers ignore the operand size, and the mod field: their r/m is a register."""
    return [
        form("0F 20 /r", "MOV r32, CR", raw="mov_from_cr", access="w r", privileged=True, cost="cr_read"),
        form("0F 22 /r", "MOV CR, r32", raw="mov_to_cr", access="w r", privileged=True, ends=True,
             cost="cr_write"),
        form("0F 21 /r", "MOV r32, DR", raw="mov_from_dr", access="w r", privileged=True, cost="dr"),
        form("0F 23 /r", "MOV DR, r32", raw="mov_to_dr", access="w r", privileged=True, ends=True, cost="dr"),
        form("0F 06", "CLTS", raw="clts", privileged=True, cost="cr_write"),
        *_both_sizes("0F 01 /4", "SMSW", "smsw", access="w", wide=True, cost="cr_read"),
        *_both_sizes("0F 01 /6", "LMSW", "lmsw", access="r", privileged=True, ends=True, cost="cr_write"),
        form("0F 01 /7", "INVLPG m", raw="invlpg", access="-", privileged=True, ends=True, cost="invlpg"),
        form("0F 08", "INVD", raw="invd", privileged=True, cost="wbinvd"),
        form("0F 09", "WBINVD", raw="wbinvd", privileged=True, cost="wbinvd"),
        form("0F 30", "WRMSR", raw="wrmsr", privileged=True, cost="wrmsr", feature="MSR"),
        form("0F 32", "RDMSR", raw="rdmsr", privileged=True, cost="rdmsr", feature="MSR"),
        form("0F 31", "RDTSC", raw="rdtsc", cost="rdtsc", feature="TSC"),
        form("0F 33", "RDPMC", raw="rdpmc", cost="rdtsc", feature="RDPMC"),
        form("0F A2", "CPUID", raw="cpuid", cost="cpuid", feature="CPUID"),
    ]


def _ports() -> list[Form]:
    """A device may raise an interrupt: its access ends the block."""
    rows = []
    for size, accumulator, opcode in ((8, "AL", "{:02X}"), (16, "AX", "o16 {:02X}"), (32, "EAX", "o32 {:02X}")):
        wide = size > 8
        for number, syntax, raw, access in (
                (0xE4, f"IN {accumulator}, imm8", f"in{size}_imm", "w r"),
                (0xE6, f"OUT imm8, {accumulator}", f"out{size}_imm", "r r"),
                (0xEC, f"IN {accumulator}, DX", f"in{size}_dx", "w r"),
                (0xEE, f"OUT DX, {accumulator}", f"out{size}_dx", "r r")):
            rows.append(form(opcode.format(number + wide), syntax, raw=raw, access=access, ends=True, cost="io"))
        letter = {8: "B", 16: "W", 32: "D"}[size]
        rows += [
            form(opcode.format(0x6C + wide), f"INS{letter}", raw=f"ins{size}", ends=True, cost="io"),
            form(opcode.format(0x6E + wide), f"OUTS{letter}", raw=f"outs{size}", ends=True, cost="io"),
        ]
    return rows


FORMS: tuple[Form, ...] = tuple(
    _flags() + _interrupts() + _far() + _segments() + _descriptors() + _control() + _ports())
