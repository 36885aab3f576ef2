"""Tables: what the decoder knows of each row (FormInfo), and the opcode maps that lead to it.

Enters: all rows. Leaves: assignments for tables.pxi. Next: generate.py.
"""
from __future__ import annotations

import re

from pvfast.isa.form import FLAGS, PREFIXES, Form
from pvfast.isa.forms import FORMS
from pvfast.isa.operands import REGISTERS, kinds, parse
from pvfast.isa.specialisation import FUSED
from pvfast.isa.vectors import is_vector
from pvfast.isa.wrappers import SEGMENTS, VARIANTS, Output

TERMINATORS = {"jmp", "call", "call_rm", "jmp_rm", "ret", "ret_i", "loop", "loopz", "loopnz", "jecxz",
               "call16", "call_rm16", "jmp_rm16", "ret16", "ret_i16"}
STACK_TEMPLATES = {"call": "call", "ret": "ret", "call_rm": "call_memory", "jmp_rm": "jmp_memory"}
"""Raw terminators whose fast variants are inline functions of core/sem_branch.pxi."""
WORD_STACK = {"push_r16": "push_word", "pop_r16": "pop_word", "call16": "call_word", "ret16": "ret_word"}
"""What 16-bit code does most on its stack: the inline functions of core/sem_stack.pxi and sem_branch.pxi."""
SIZED = {
    "xchg": "exchange(cpu, op, mem, {bytes}, {memory})", "xadd": "exchange_add(cpu, op, mem, {bytes}, {memory})",
    "cmpxchg": "compare_exchange(cpu, op, mem, {bytes}, {memory})",
    "mul": "multiply(cpu, op, mem, {bytes}, False, {memory})",
    "imul": "multiply(cpu, op, mem, {bytes}, True, {memory})",
    "div": "divide(cpu, op, mem, {bytes}, False, {memory})", "idiv": "divide(cpu, op, mem, {bytes}, True, {memory})",
    "bt": "bit_string(cpu, op, mem, {bytes}, BIT_TEST, {memory})",
    "bts": "bit_string(cpu, op, mem, {bytes}, BIT_SET, {memory})",
    "btr": "bit_string(cpu, op, mem, {bytes}, BIT_RESET, {memory})",
    "btc": "bit_string(cpu, op, mem, {bytes}, BIT_COMPLEMENT, {memory})",
    **{f"push_{name.lower()}": f"push_segment(cpu, op, mem, {{bytes}}, {name})" for name in SEGMENTS},
    **{f"pop_{name.lower()}": f"pop_segment(cpu, op, mem, {{bytes}}, {name})" for name in SEGMENTS},
    **{f"l{name.lower()}": f"load_far_pointer(cpu, op, mem, {{bytes}}, {name})" for name in SEGMENTS},
    "jmp_far": "jump_far(cpu, op, {bytes}, {memory})", "call_far": "call_far(cpu, op, {bytes}, {memory})",
    **{name.lower(): f"string(cpu, op, mem, {name}, {{bytes}})"
       for name in ("MOVS", "STOS", "LODS", "CMPS", "SCAS", "INS", "OUTS")},
}
"""Raw rows that differ in width, or in a segment register: the function of core/ that they call."""
IMMEDIATES = {"imm8": "I_8", "simm8": "I_S8", "imm16": "I_16", "imm32": "I_32", "rel8": "I_REL8",
              "rel16": "I_REL16", "rel32": "I_REL32", "moffs8": "I_MOFFS", "moffs16": "I_MOFFS", "moffs32": "I_MOFFS",
              "ptr16:16": "I_FAR16", "ptr16:32": "I_FAR32"}


def generate_raw(out: Output, form: Form, index: int) -> None:
    """Places of a handwritten handler; Jcc and the stack get their constant-argument wrappers here."""
    raw = form.raw
    memory_only = form.has_modrm and form.takes_only_memory
    has_rm = form.has_modrm and form.takes_memory and not memory_only
    comment = f"{form.opcode}  {form.syntax}"
    base = raw.rstrip("0123456789")
    if base in SIZED:
        for memory in (False, True) if has_rm else (memory_only,):
            call = SIZED[base].format(bytes=int(raw[len(base):]) // 8, memory=memory)
            name = out.handler(f"h{index}_{raw}_{'m' if memory else 'r'}", comment, [call])
            out.table.append(f"forms[{index}].live[{'GENERAL' if memory else 'V_REGISTER'}] = {name}")
        return
    if ":" in raw:
        function, _, arguments = raw.partition(":")
        for variant in ("GENERAL", *VARIANTS[:2]) if memory_only else ("V_REGISTER",):
            last = f", {variant}" if memory_only else ""
            name = out.handler(f"h{index}_{function}_{variant.lower()}", comment,
                               [f"{function}(cpu, op, mem, {arguments}{last})"])
            out.table.append(f"forms[{index}].live[{variant}] = {name}")
        return
    if raw.startswith("jcc_"):
        code = raw[4:]
        name = out.handler(f"h{index}_jcc_{code}", comment, [f"jcc(cpu, op, mem, {code})"])
        out.table.append(f"forms[{index}].live[V_REGISTER] = {name}")
        return
    if raw in ("push_r32", "pop_r32"):
        what = "push_register" if raw == "push_r32" else "pop_register"
        for number, variant in enumerate(VARIANTS[:2]):
            for register, register_name in enumerate(REGISTERS):
                name = out.handler(f"h{index}_{raw}_{variant.lower()}_base{register}", comment,
                                   [f"{what}(cpu, op, mem, {register_name}, {variant})"])
                out.table.append(f"stack_special[{number}][{0 if raw == 'push_r32' else 1}][{register}] = {name}")
            out.table.append(f"forms[{index}].live[{variant}] = {name}")    # never chosen: tells that there are some
        out.table.append(f"forms[{index}].live[GENERAL] = raw_{raw}")
        return
    general = f"raw_{raw}"
    if raw in WORD_STACK:
        for variant in VARIANTS[4:]:
            name = out.handler(f"h{index}_{raw}_{variant.lower()}", comment,
                               [f"{WORD_STACK[raw]}(cpu, op, mem, {variant.replace('_A16', '')})"])
            out.table.append(f"forms[{index}].live[{variant}] = {name}")
        out.table.append(f"forms[{index}].live[GENERAL] = {general}")
        return
    if has_rm or memory_only:
        general += "_m"
        if has_rm:
            out.table.append(f"forms[{index}].live[V_REGISTER] = raw_{raw}_r")
    if raw in STACK_TEMPLATES:
        for variant in VARIANTS[:2]:
            name = out.handler(f"h{index}_{raw}_{variant.lower()}", comment,
                               [f"{STACK_TEMPLATES[raw]}(cpu, op, mem, {variant})"])
            out.table.append(f"forms[{index}].live[{variant}] = {name}")
        out.table.append(f"forms[{index}].live[GENERAL] = {general}")
    elif has_rm or memory_only:
        out.table.append(f"forms[{index}].live[GENERAL] = {general}")
    else:
        out.table.append(f"forms[{index}].live[V_REGISTER] = {general}")


def fold(mask: int) -> int:
    """EFLAGS mask to one byte: OF, bit 11, goes to bit 1."""
    return (mask & 0xFF) | (2 if mask & FLAGS["o"] else 0)


def describe(form: Form, index: int) -> str:
    """The FormInfo of a row."""
    attributes = []
    operands = form.operands
    if form.has_modrm:
        attributes.append("A_MODRM")
    if "+r" in form.opcode:
        attributes.append("A_PLUS_R")
        if any(o == "r8" for o in operands):
            attributes.append("A_RM8")
    elif any(o == "r8" for o in operands):
        attributes.append("A_REG8")
    if any(o == "r/m8" for o in operands):
        attributes.append("A_RM8")
    terminator = form.raw in TERMINATORS or form.raw.startswith("jcc_")
    for holds, attribute in ((form.ends, "A_ENDS"), (form.lock, "A_LOCK"), (form.privileged, "A_PRIVILEGED"),
                             (form.protected, "A_PROTECTED"), (terminator, "A_TERMINATOR"),
                             (form.raw == "nop", "A_NOP"),
                             (form.sem and operands[0] in ("AL", "AX", "EAX"), "A_ACCUMULATOR")):
        if holds:
            attributes.append(attribute)
    if form.raw.rstrip("0123456789") in ("movs", "stos", "lods", "cmps", "scas", "ins", "outs"):
        attributes.append("A_STRING")
    registers_only = form.sem and not form.has_modrm and not any("moffs" in o for o in operands)
    harmless = form.raw in ("cwde", "cdq", "clc", "stc", "cmc", "cld", "std", "lahf", "sahf", "nop") or (
        form.raw.startswith("xchg_a"))
    if not registers_only and not harmless and form.sem != "lea":
        attributes.append("A_BARRIER")
    if (form.sem and not ("w" in form.access[0] and re.search(r"(^|/)m(\d|offs)", operands[0]))) or form.raw in (
            "call_rm", "jmp_rm"):
        attributes.append("A_MEMORY_READ_ONLY")
    immediates = [o for o in operands if o in IMMEDIATES]
    immediate = "I_16_8" if immediates == ["imm16", "imm8"] else IMMEDIATES[immediates[0]] if immediates else "I_NONE"
    counted = form.sem.startswith(("rol", "ror", "rcl", "rcr", "sh", "sar")) and "1" not in operands
    kills = 0 if counted or form.sem in ("bsf", "bsr") else form.writes
    condition = form.raw[4:] if form.raw.startswith("jcc_") else "255"
    fuse = "FUSE_NONE"
    if form.sem and not is_vector(form):
        fuse = FUSED.get((form.sem, kinds(parse(form))), "FUSE_NONE")
    reads = fold(form.reads)
    if (form.raw and not terminator and not harmless) or is_vector(form):
        reads = 0xFF        # raw handlers may look at anything; vector rows may fault without a memory operand too
    feature = f"FEATURE_{form.feature}" if form.feature else "ALWAYS"
    return (f"describe({index}, {' | '.join(attributes) or '0'}, {immediate}, {reads}, "
            f"{fold(form.writes) if form.sem else 0}, {fold(kills) if form.sem else 0}, COST_{form.cost.upper()}, "
            f"COST_{form.register_cost.upper()}, {fuse}, {condition}, {feature})")


def operand_sizes(form: Form) -> tuple[int, ...]:
    """The operand sizes with which a row is met: 0 for 32 bits, 1 for 16."""
    opcode = form.encoding
    if opcode.size:
        return (0,) if opcode.size == 32 else (1,)
    if opcode.prefix or (0xD8 <= opcode.byte <= 0xDF and not opcode.escape):
        return (0, 1)       # MMX, SSE, x87: the operand size does not matter
    if {"CR", "DR"} & set(form.operands):
        return (0, 1)       # nor for MOV to and from these
    named = {32 if o.endswith("32") else 16 for o in form.operands
             if o in ("r/m32", "r32", "imm32", "EAX", "rel32", "moffs32", "r/m16", "r16", "imm16", "AX", "rel16",
                      "moffs16")}
    if form.mnemonic in ("MOVZX", "MOVSX"):
        named = {32} if "r32" in form.operands else {16}
    if form.raw.endswith(("16", "32")) and form.raw.rstrip("0123456789") in (
            "movs", "stos", "lods", "cmps", "scas", "ins", "outs", "push_i"):
        named = {int(form.raw[-2:])}
    return (0,) if 32 in named else (1,) if 16 in named else (0, 1)


Place = tuple[int, int, int, int]
"""Where a row stands in the opcode maps: operand size, prefix, escaped by 0F, opcode."""


def opcode_places(form: Form) -> list[Place]:
    opcode = form.encoding
    prefixes = (PREFIXES.index(opcode.prefix),) if opcode.prefix else range(len(PREFIXES))
    span = opcode.span if opcode.modrm is None else 1
    return [(size, prefix, int(opcode.escape), opcode.byte + i)
            for size in operand_sizes(form) for prefix in prefixes for i in range(span)]


def group_places(form: Form) -> list[int]:
    """Where a row stands in the group of its opcode: ModRM.reg with memory, 8 and the rest of ModRM with a register."""
    opcode = form.encoding
    if opcode.modrm is not None:
        return [8 + (opcode.modrm & 0x3F) + i for i in range(opcode.span)]
    if opcode.extension == "r":
        return list(range(8)) if form.takes_only_memory else list(range(8, 8 + 64))
    extension = int(opcode.extension or "0")
    names_register = any(o.startswith("r") or o in ("mm", "xmm") for o in form.operands)
    memory = [] if names_register and not form.takes_memory else [extension]
    registers = [] if form.takes_only_memory else [8 + extension * 8 + i for i in range(8)]
    return memory + registers


def is_in_group(form: Form) -> bool:
    """ModRM has to be looked at to find the row: an extension, or ``/r`` with memory only or with registers only."""
    opcode = form.encoding
    if opcode.extension == "r":
        return bool(opcode.prefix) and (form.takes_only_memory or not form.takes_memory)
    return opcode.modrm is not None or opcode.extension is not None


def generate_maps(out: Output) -> list[str]:
    """Opcode maps: a form, or a group in which ModRM chooses. A mandatory prefix goes before rows without one."""
    single: dict[Place, int] = {}
    groups: dict[Place, dict[int, int]] = {}
    for index, form in sorted(enumerate(FORMS, 1), key=lambda row: bool(row[1].encoding.prefix)):
        opcode = form.encoding
        for place in opcode_places(form):
            if not is_in_group(form):
                taken = single.get(place)
                if taken is not None and not opcode.prefix and not (place[2:] == (0, 0x90)):
                    raise ValueError(f"{form.opcode} {form.syntax}: taken by {FORMS[taken - 1]}")
                if taken is None or opcode.prefix or form.raw == "nop":
                    single[place] = index
                continue
            group = groups.setdefault(place, {})
            for entry in group_places(form):
                if entry in group:
                    raise ValueError(f"{form.opcode} {form.syntax}: taken by {FORMS[group[entry] - 1]}")
                group[entry] = index
    contents: dict[tuple[tuple[int, int], ...], int] = {}
    body = []
    for place, group in sorted(groups.items()):
        if place in single:
            raise ValueError(f"opcode {place} is a group and a form")
        number = contents.setdefault(tuple(sorted(group.items())), len(contents))
        body.append(f"opcode_map{''.join(f'[{i}]' for i in place)} = GROUP | {number}")
    for entries, number in contents.items():
        body += [f"opcode_groups[{number}][{entry}] = {index}" for entry, index in entries]
    for place, index in sorted(single.items()):
        body.append(f"opcode_map{''.join(f'[{i}]' for i in place)} = {index}")
    out.table += body
    return [f"cdef u16 opcode_map[2][{len(PREFIXES)}][2][256]", f"cdef u16 opcode_groups[{len(contents)}][8 + 64]"]


def form_index(raw: str, opcode: str) -> int:
    return next(i for i, f in enumerate(FORMS, 1) if f.raw == raw and f.opcode == opcode)
